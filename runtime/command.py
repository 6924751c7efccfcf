"""`smsgw`: the one command. It reads the configuration and starts processes by module name; it imports none of them.

demo   everything on loopback with the simulated carrier; plays the story, then serves
up     the gateway and the worker, watched and started again
gateway | worker | simulator | migrate | token | key | doctor | bench   one thing each
"""

import argparse
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime import keys
from runtime.config import BadConfig, Config, load
from runtime.engines import EngineAddresses, EngineFailed, Engines, make_data_dir

if TYPE_CHECKING:
    from runtime.supervisor import Process

DEMO_PHONES = ("+8613900000001:A (China)", "+254712000002:B (Kenya)", "+8613900000003:C", "+8613900000004:D")
PASSED_ON = {"gateway": "smsgw.gateway", "worker": "workers", "token": "smsgw.tokens"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and do one thing; errors are one line each."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    if rest and chosen.command not in {"token", "bench"}:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    config_path = chosen.config or (Path(found) if (found := os.environ.get("SMSGW_CONFIG")) else None)
    try:
        sys.exit(_run(chosen, rest, config_path))
    except BadConfig as bad:
        sys.exit("\n".join(f"config: {problem}" for problem in bad.problems))
    except (EngineFailed, keys.BadKeys) as error:
        sys.exit(f"smsgw: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smsgw", description="Phone books for people with basic phones.")
    parser.add_argument("--config", type=Path, help="TOML file (default: $SMSGW_CONFIG, else defaults)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="everything on loopback, with the story and the simulated phones")
    demo.add_argument("--exit", action="store_true", help="end after the story; status 0 if every step was observed")
    demo.add_argument("--data-dir", type=Path, help="default: a folder of its own under ~/.local/share")
    demo.add_argument("--port-base", type=int, help="N: pages at N+80 to N+84, SMPP at N+75")
    commands.add_parser("up", help="the gateway and the worker")
    commands.add_parser("gateway", help="links to carriers and the HTTP API")
    commands.add_parser("worker", help="plans pushes, sweeps up")
    commands.add_parser("simulator", help="a carrier and handsets to try things with")
    commands.add_parser("migrate", help="bring the database to the newest schema")
    commands.add_parser("doctor", help="check configuration, engines, ports and links; say what to do")
    commands.add_parser("token", help="tokens of the HTTP API: add NAME, list, revoke NAME", add_help=False)
    key = commands.add_parser("key", help="keys that seal people's data")
    key.add_argument("action", choices=("list", "add"))
    commands.add_parser("bench", help="measure every figure that the README names", add_help=False)
    return parser


def _run(chosen: argparse.Namespace, rest: list[str], config_path: Path | None) -> int | str:
    if chosen.command == "demo":
        from runtime import demo

        return demo.run(chosen.data_dir, chosen.port_base, leave=chosen.exit)
    if chosen.command == "bench":
        return subprocess.run([sys.executable, "-m", "bench", *rest], check=False).returncode
    if chosen.command == "doctor":
        from runtime import doctor

        return doctor.run(config_path)
    config = load(config_path)
    given = ["--config", str(config_path)] if config_path else []
    if chosen.command in PASSED_ON:
        _become(PASSED_ON[chosen.command], *given, *rest)
    if chosen.command == "simulator":
        make_data_dir(config.service.data_path)
        _become("simulator", *simulator_arguments(config))
    if chosen.command == "key":
        return _key(chosen.action, config)
    if chosen.command == "up" and not config.bind:
        raise BadConfig(["no [[bind]]: without a link to a carrier there is nothing to carry; `smsgw demo` needs none"])
    engines = Engines(config.service.data_path)
    addresses = acquire(engines, config)
    try:
        migrate(addresses.database_url)
        if chosen.command == "migrate":
            print("the database has the newest schema")
            return 0
        return _up(config, given, engines)
    finally:
        engines.release()


def _become(module: str, *arguments: str) -> NoReturn:
    """Be this process from now on: signals and status are its own."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 -- no shell is wanted


def acquire(engines: Engines, config: Config) -> EngineAddresses:
    """Start what the configuration does not name; the addresses of both engines."""
    service = config.service
    embedded = engines.acquire(postgres=service.database_url is None, redis=service.redis_url is None)
    return EngineAddresses(service.database_url or embedded.database_url, service.redis_url or embedded.redis_url)


def migrate(database_url: str) -> None:
    """Bring the database to the newest schema. Raises EngineFailed."""
    done = subprocess.run(
        [sys.executable, "-m", "addressbook.migrations"],
        env={**os.environ, "SMSGW_DATABASE_URL": database_url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise EngineFailed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "migrate failed")


def simulator_arguments(config: Config, phones: Sequence[str] = ()) -> list[str]:
    """The simulator's command line: its ports, its one account, its phones."""
    simulated = config.simulator
    password_file = simulated.password_file or config.service.data_path / "simulator.password"
    make_password(password_file)
    return [
        "--host", config.service.host, "--smpp-port", str(config.service.port(75)),
        "--http-port", str(config.service.port(83)), "--system-id", simulated.system_id,
        "--password-file", str(password_file), "--short-code", simulated.short_code,
        *(part for phone in phones for part in ("--handset", phone)),
    ]  # fmt: skip


def _up(config: Config, given: list[str], engines: Engines) -> int:
    from runtime.supervisor import StartFailed, Supervisor

    with Supervisor(service_processes(config, given), print, engines) as supervisor:
        try:
            supervisor.start()
        except StartFailed as error:
            print(f"smsgw: {error}", file=sys.stderr)
            return 1
        supervisor.watch()
    return 0


def service_processes(config: Config, given: list[str], *, links_must_stand: bool = False) -> "list[Process]":
    """The gateway and the worker as the supervisor starts them. A carrier may be away when the service starts."""
    from runtime.supervisor import Process

    host, log_dir = config.service.host, config.service.data_path / "log"
    api, worker = config.service.port(82), config.service.port(84)
    return [
        Process("gateway", "smsgw.gateway", given, api, f"http://{host}:{api}/v1/openapi.json  links and API",
                log_dir / "gateway.log", host, needs_ready=links_must_stand),
        Process("worker", "workers", given, worker, f"http://{host}:{worker}/readyz  pushes and sweeps",
                log_dir / "worker.log", host),
    ]  # fmt: skip


def _key(action: str, config: Config) -> int:
    folder = config.service.keys_path
    make_data_dir(config.service.data_path)
    keys.load(folder)
    if action == "add":
        made = keys.add(folder)
        print(f"made {made.use} key {made.id}; processes use it from their next start, old values stay readable")
    for entry in keys.listed(folder):
        print(f"{entry.use}\t{entry.id}\t{entry.made:%Y-%m-%d %H:%M}")
    return 0


def make_password(path: Path) -> None:
    """Write a random SMPP password, mode 0600, unless there is one."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(4) + "\n")  # SMPP 3.4, 4.1.1: 8 characters at most


if __name__ == "__main__":
    main()
