"""Alembic's entry: one connection, time-outs set, one migrator at a time."""

import re
from typing import Any, Literal

from alembic import context
from sqlalchemy import LargeBinary, create_engine, text

from addressbook.migrations import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS
from addressbook.schema import Table
from addressbook.sealed import SealedBytes, SealedText

MIGRATOR_LOCK = 0x536D7367  # any number that nobody else uses as an advisory lock


def render_item(kind: str, item: Any, _autogenerate: object) -> str | Literal[False]:
    """A migration writes plain types: it must not change when our column types do."""
    if kind == "type" and isinstance(item, SealedText | SealedBytes):
        return "sa.LargeBinary()"
    return False


def compare_type(
    _context: object, _column: object, _metadata_column: object, inspected: Any, metadata: Any
) -> bool | None:
    if isinstance(metadata, SealedText | SealedBytes):
        return not isinstance(inspected, LargeBinary)
    return None


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """The partitions of the history are made and dropped day by day (history.py), not by migrations."""
    return not (kind == "table" and name is not None and re.fullmatch(r"\w+_history_\d{8}", name))


engine = create_engine(context.config.attributes["url"])
try:
    with engine.connect() as connection:
        connection.execute(text(f"set lock_timeout = {LOCK_TIMEOUT_MS}"))
        connection.execute(text(f"set statement_timeout = {STATEMENT_TIMEOUT_MS}"))
        connection.execute(text(f"select pg_advisory_lock({MIGRATOR_LOCK})"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            render_item=render_item,
            compare_type=compare_type,
            include_name=include_name,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
finally:
    engine.dispose()  # ends the session, and with it the advisory lock
