"""`smsgw doctor`: what is wrong with this installation, and what to do about it. Changes nothing but the engines."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from runtime import keys
from runtime.config import BadConfig, Config, load
from runtime.engines import EngineFailed, Engines, make_data_dir
from runtime.supervisor import get

FREE_OCTETS_MIN = 1 << 30  # a gigabyte: write-ahead log and a day of messages
TIMEOUT_S = 5.0

Finding = tuple[bool, str, str]  # fine or not, what was looked at, what is so or what to do


def run(config_path: Path | None) -> int:
    """Print one line for each thing looked at; 0 if nothing needs doing."""
    try:
        config = load(config_path)
    except BadConfig as bad:
        for problem in bad.problems:
            _print((False, "configuration", problem))
        return 1
    _print((True, "configuration", f"{config_path or 'defaults and environment'}, {len(config.bind)} links"))
    worst = 0
    for check in (_folder, _keys, _engines, _ports, _links):
        for finding in check(config):
            _print(finding)
            worst |= not finding[0]
    return int(worst)


def _print(finding: Finding) -> None:
    fine, what, words = finding
    print(f"{'ok' if fine else 'PROBLEM':<8} {what:<14} {words}", file=sys.stdout)


def _folder(config: Config) -> Iterator[Finding]:
    folder = config.service.data_path
    try:
        make_data_dir(folder)
    except EngineFailed as error:
        yield False, "data folder", str(error)
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    enough = free >= FREE_OCTETS_MIN
    yield enough, "data folder", f"{folder}, {free >> 20} MiB free" + ("" if enough else ": make room")


def _keys(config: Config) -> Iterator[Finding]:
    folder = config.service.keys_path
    try:
        seal, digest = keys.load(folder)
    except keys.BadKeys as error:
        yield False, "keys", str(error)
        return
    yield True, "keys", f"{folder}: {len(seal)} to seal, {len(digest)} to find numbers; keep a copy elsewhere"


def _engines(config: Config) -> Iterator[Finding]:
    service = config.service
    engines = Engines(service.data_path)
    try:
        embedded = engines.acquire(postgres=service.database_url is None, redis=service.redis_url is None)
    except EngineFailed as error:
        yield False, "engines", str(error)
        return
    try:
        yield _asked("postgres", lambda: _postgres(service.database_url or embedded.database_url))
        yield _asked("redis", lambda: _redis(service.redis_url or embedded.redis_url))
    finally:
        engines.release()


def _asked(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return True, what, ask()
    except Exception as error:  # noqa: BLE001 -- whatever its driver raises is what there is to say
        first_line = str(error).strip().splitlines()[:1]
        return (
            False,
            what,
            f"{type(error).__name__}: {first_line[0] if first_line else ''}: is it running, is its URL right?",
        )


def _postgres(url: str) -> str:
    import psycopg
    from sqlalchemy import make_url

    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, connect_timeout=int(TIMEOUT_S)) as connection:
        if connection.info.server_version < 140_000:
            raise RuntimeError(f"version {connection.info.server_version // 10_000}: 14 or newer is needed")
        row = connection.execute("select to_regclass('alembic_version') is not null").fetchone()
        schema = "schema there" if row and row[0] else "no schema yet: run `smsgw migrate`"
        if row and row[0]:
            states = connection.execute("select link, state, last_error from network_status order by link").fetchall()
            schema += "".join(f"; link {link} was last {state} ({error})" for link, state, error in states)
        return f"version {connection.info.server_version / 10_000:.1f}, {schema}"


def _redis(url: str) -> str:
    import redis

    with closing(redis.Redis.from_url(url, socket_timeout=TIMEOUT_S)) as client:
        client.ping()
    return "answers"


def _ports(config: Config) -> Iterator[Finding]:
    for name, offset in (("gateway", 82), ("worker", 84)):
        port = config.service.port(offset)
        status, _ = get(config.service.host, port, "/healthz")
        if status == 200:
            yield True, f"port {port}", f"the {name} answers there"
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.service.host, port))
            except OSError as error:
                yield False, f"port {port}", f"for the {name}: {error.strerror}: set service.port_base"
                continue
        yield True, f"port {port}", f"free for the {name}"


def _links(config: Config) -> Iterator[Finding]:
    if not config.bind:
        yield False, "links", "no [[bind]]: nothing can be sent or received"
    for bind in config.bind:
        where = f"{bind.host}:{bind.port}"
        if bind.outbind_port is not None:
            yield True, f"link {bind.name}", f"waits for the carrier at port {bind.outbind_port}"
            continue
        with suppress(OSError), socket.create_connection((bind.host, bind.port), timeout=TIMEOUT_S):
            yield True, f"link {bind.name}", f"{where} takes connections"
            continue
        yield (
            False,
            f"link {bind.name}",
            f"{where} takes no connection: check host, port, firewall, and ask the carrier",
        )
