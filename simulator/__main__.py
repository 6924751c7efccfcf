"""`python -m simulator`: the carrier on one port, its page on another, until SIGTERM.

The only line on standard output names the real ports as JSON, once both listen.
"""

import argparse
import asyncio
import json
import logging
import signal
import ssl
from pathlib import Path

import uvloop

from simulator.carrier import Account
from simulator.handset import PROFILES, Refused
from simulator.network import Simulator

log = logging.getLogger("simulator")


def main() -> None:
    """Parse the command line and serve."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # its lines hold numbers of phones
    try:
        uvloop.run(_serve(arguments))
    except (OSError, Refused, ValueError) as error:
        raise SystemExit(f"simulator: {error}") from None


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    password = arguments.password
    if arguments.password_file:
        password = arguments.password_file.read_text(encoding="utf-8").strip()
    tls = None
    if arguments.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    simulator = Simulator(
        host=arguments.host, smpp_port=arguments.smpp_port, http_port=arguments.http_port,
        system_id=arguments.system_id, password=password, short_code=arguments.short_code,
        accounts=[_account(one) for one in arguments.account], tls=tls,
        deliver_window=max(1, arguments.deliver_window),
    )  # fmt: skip
    for one in arguments.handset:
        number, label, profile = [*one.split(":"), "", ""][:3]
        simulator.add_handset(number, label, profile or "s30plus", arguments.cards)
    async with simulator:
        print(json.dumps({"smpp": simulator.smpp_port, "http": simulator.http_port}), flush=True)
        log.info("listening; the page is at http://%s:%d/", arguments.host, simulator.http_port)
        await stop.wait()
        log.info("stopping")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {port}")
    return port


def _account(text: str) -> Account:
    system_id, password, short_code = [*text.split(":"), "", ""][:3]
    return Account(system_id, password or None, short_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A simulated carrier and its phones.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--smpp-port", type=_port, default=2775, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--http-port", type=_port, default=8083, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--system-id", default="smsgw", help="who may bind (default: %(default)s)")
    parser.add_argument("--password", help="of that system_id; without one any is right")
    parser.add_argument("--password-file", type=Path, help="a file that holds the password")
    parser.add_argument("--short-code", default="20880", help="where phones send texts (default: %(default)s)")
    parser.add_argument("--account", action="append", default=[], metavar="ID:PASSWORD:CODE", help="one more system_id")
    parser.add_argument(
        "--handset", action="append", default=[], metavar="NUMBER:LABEL:PROFILE",
        help="a phone; the profile is one of: " + ", ".join(PROFILES),
    )  # fmt: skip
    parser.add_argument("--cards", choices=("yes", "ask", "no"), default="yes", help='"Save business card?"')
    parser.add_argument(
        "--deliver-window", type=int, default=50, help="unanswered deliver_sm on a link at most (default: %(default)s)"
    )
    parser.add_argument("--tls-cert", type=Path, help="certificate chain: SMPP over TLS")
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


if __name__ == "__main__":
    main()
