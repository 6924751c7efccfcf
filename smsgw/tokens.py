"""`python -m smsgw.tokens add NAME | list | revoke NAME`: the API's tokens, from the command line."""

import argparse
import sys
from pathlib import Path

from addressbook import tokens
from addressbook.errors import Refused
from runtime.config import BadConfig, load
from runtime.database import SyncDatabase
from runtime.engines import EngineFailed, Engines


def main() -> None:
    """Do one thing with tokens; errors are one line."""
    parser = argparse.ArgumentParser(prog="smsgw token", description="Tokens for the gateway's API.")
    parser.add_argument("--config", type=Path)
    actions = parser.add_subparsers(dest="action", required=True)
    adding = actions.add_parser("add", help="make a token and print it once")
    adding.add_argument("name")
    adding.add_argument("--scope", action="append", choices=tokens.SCOPES, help="default: all")
    actions.add_parser("list", help="names, scopes and ages; never the tokens")
    revoking = actions.add_parser("revoke", help="end a token")
    revoking.add_argument("name")
    arguments = parser.parse_args()
    try:
        config = load(arguments.config)
        engines = Engines(config.service.data_path)
        embedded = engines.acquire(postgres=config.service.database_url is None, redis=False)
    except (BadConfig, EngineFailed) as error:
        sys.exit(f"smsgw token: {error}")
    database = SyncDatabase(config.service.database_url or embedded.database_url)
    try:
        _act(database, arguments)
    except Refused as refused:
        sys.exit(f"smsgw token: {refused.render()}")
    finally:
        database.close()
        engines.release()


def _act(database: SyncDatabase, arguments: argparse.Namespace) -> None:
    if arguments.action == "add":
        print(database.transact(tokens.add, arguments.name, arguments.scope or tokens.SCOPES))
    elif arguments.action == "revoke":
        database.transact(tokens.revoke, arguments.name)
        print(f"revoked {arguments.name}")
    else:
        for token in database.transact(tokens.listed):
            state = f"revoked {token.revoked_at:%Y-%m-%d}" if token.revoked_at else "valid"
            print(f"{token.name}\t{','.join(token.scopes)}\t{token.created_at:%Y-%m-%d}\t{state}")


if __name__ == "__main__":
    main()
