"""Seeded names, numbers and words stand nowhere in clear: in no dump, data file, Redis, log or metric (S21)."""

import base64
import os
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from installation import Installation, Phones, Running, call, wait_for

from runtime.engines import postgres_binaries

pytestmark = pytest.mark.slow

# Nothing in the code or in a random octet string looks like these.
OWNER, STRANGER, SILENT = "+8613971524868", "+254718263549", "+8613962847315"
FRIENDS = {"诸葛清扬": "+8618652739416", "Quetzalina Wunderlich": "+254729164853", "欧阳Zephyrine": "+8615837426195"}
GROUP = "钓鱼协会Kingfisher"
OWNER_NAME = "司马慕容"
WORDS = ("Marmalade at seventeen hundred", "芝麻开门吧芝麻")
CODE = "Your code is 58301947"
NAMES = (*FRIENDS, GROUP, OWNER_NAME, *WORDS, CODE)
NUMBERS = (OWNER, STRANGER, SILENT, *FRIENDS.values())


def forms_of_number(number: str) -> Iterator[tuple[str, bytes]]:
    """Every way in which a number may stand somewhere."""
    digits = number.removeprefix("+")
    national = digits.removeprefix("86").removeprefix("254")
    swapped = bytes(
        int((pair + "F")[:2][::-1], 16) for pair in (digits[at : at + 2] for at in range(0, len(digits), 2))
    )
    yield "digits", national.encode()  # also within E.164
    yield "grouped", f"{national[:3]} {national[3:7]} {national[7:]}".encode()
    yield "grouped in threes", f"{national[:3]} {national[3:6]} {national[6:]}".encode()
    yield "BCD, swapped", swapped
    yield "BCD, swapped, in hexadecimal", swapped.hex().encode()
    yield "packed", int(digits).to_bytes(8, "big")
    yield from forms_of_octets("digits", national.encode())
    yield "UTF-16", national.encode("utf-16-be")
    yield "UTF-16, little", national.encode("utf-16-le")
    yield from forms_of_octets("UTF-16", national.encode("utf-16-be"))


def forms_of_words(words: str) -> Iterator[tuple[str, bytes]]:
    for encoding in ("utf-8", "utf-16-be", "utf-16-le", "gb18030"):
        octets = words.encode(encoding)
        yield encoding, octets
        yield from forms_of_octets(encoding, octets)
    yield "JSON", words.encode("unicode_escape").replace(b"\\u", b"\\u")
    yield "percent", urllib.parse.quote(words).replace("%20", "+").encode()
    yield "percent", urllib.parse.quote(words).encode()


def forms_of_octets(name: str, octets: bytes) -> Iterator[tuple[str, bytes]]:
    """In hexadecimal, and in base64 at each of its three alignments."""
    yield f"{name} in hexadecimal", octets.hex().encode()
    yield f"{name} in capital hexadecimal", octets.hex().upper().encode()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + octets)
        # what depends on the neighbours on both sides is left out
        yield f"{name} in base64", encoded[(lead * 8 + 5) // 6 : len(octets + b"\0" * lead) * 8 // 6]


SOUGHT = [
    *((f"{number}: {form}", octets) for number in NUMBERS for form, octets in forms_of_number(number)),
    *((f"{words}: {form}", octets) for words in NAMES for form, octets in forms_of_words(words)),
]


def found_in(data: bytes) -> list[str]:
    return [what for what, octets in SOUGHT if octets in data]


def test_the_search_finds_every_form() -> None:
    assert min(len(octets) for _, octets in SOUGHT) >= 6  # shorter ones would be found by chance
    for what, octets in SOUGHT:
        assert what in found_in(b"xy" + octets + b"z")
    text = f"…{GROUP}, {NUMBERS[1]}".encode()
    for lead in range(3):
        said = found_in(base64.b64encode(b"?" * lead + text))
        assert {f"{GROUP}: utf-8 in base64", f"{NUMBERS[1]}: digits in base64"} <= set(said)
    assert found_in(os.urandom(1 << 20)) == []


@pytest.fixture
def traffic(installation: Installation) -> tuple[Installation, Phones, Running, Running]:
    """A day in small: members, books, groups, pushes, invitations, STOP, the API, refusals, a lost link."""
    phones = installation.simulator(OWNER, STRANGER, SILENT)
    gateway = installation.gateway(phones.smpp_port)
    assert gateway.config
    worker = installation.worker(gateway.config)
    token = installation.token(gateway.config)
    owner = OWNER.removeprefix("+")
    phones.said(owner, f"START {OWNER_NAME}", "欢迎")
    for name, number in FRIENDS.items():
        phones.said(owner, f"ADD {name} {number} {GROUP}", "已保存")
        phones.wait_entry(owner, name)
    phones.said(owner, "LIST", "Quetzalina")
    phones.said(owner, "GROUP", "Kingfisher")
    phones.said(owner, f"DEL {next(iter(FRIENDS))}", "删除")
    phones.said(owner, f"ADD {OWNER_NAME}" * 3, ".")  # misused, long enough for parts
    phones.said(owner, f"INVITE {STRANGER}", "718")
    phones.said(owner, "YES", ".")
    stranger, silent = STRANGER.removeprefix("+"), SILENT.removeprefix("+")
    phones.wait_text(stranger, OWNER_NAME)
    phones.said(stranger, "YES", ".")
    phones.text(stranger, WORDS[0])
    phones.wait_text(stranger, ".")
    phones.text(silent, "退订")
    for to in (STRANGER, SILENT, OWNER):
        for words in WORDS:
            assert post(gateway, token, to, words) == 202
    assert post(gateway, token, STRANGER, CODE, "otp") == 202
    assert post(gateway, token, STRANGER + "99999999", WORDS[0]) == 422
    settled(installation)
    phones.faults(submit_status=0x0B)  # an address that the carrier refuses
    assert post(gateway, token, OWNER, WORDS[1]) == 202
    wait_for("a refused message", lambda: installation.one("select count(*) from outbox where state = 4"))
    phones.faults(submit_status=0, cut_after=1, refuse_after_cut_s=0.2)
    assert post(gateway, token, OWNER, WORDS[1]) == 202
    phones.faults(mo_parts="last lost")
    phones.text(owner, f"ADD {OWNER_NAME} {STRANGER} " + GROUP * 12)  # a part that waits for ever
    wait_for("a part that waits", lambda: installation.one("select count(*) from inbox_part"))
    settled(installation)
    return installation, phones, gateway, worker


def settled(installation: Installation) -> None:
    wait_for(
        "all is said and done",
        lambda: not installation.one("select count(*) from outbox where state in (0, 1, 2)"),
        30,
    )


def post(gateway: Running, token: dict[str, str], to: str, text: str, kind: str = "notice") -> int:
    body = {"to": to, "text": text, "kind": kind}
    return call(gateway.port, "POST", "/v1/messages", body, token)[0]


def test_nothing_of_anybody_stands_anywhere_in_clear(
    traffic: tuple[Installation, Phones, Running, Running], folder: Path
) -> None:
    installation, phones, gateway, worker = traffic
    # The search would find them where they are meant to be: on the phones.
    shown = "".join(str(phones.phone(number.removeprefix("+"))) for number in (OWNER, STRANGER))
    assert {what.split(":")[0] for what in found_in(shown.encode())} >= {*FRIENDS, GROUP, OWNER_NAME, *WORDS, CODE}

    for name, running in (("gateway", gateway), ("worker", worker), ("simulator", phones)):
        status, metrics = call(running.port, "GET", "/metrics")
        assert status == 200 and b"# HELP" in metrics
        assert found_in(metrics) == [], f"/metrics of the {name}"

    assert found_in(redis_content(installation.redis_url)) == [], "Redis"
    queued = queued_job(installation, phones, worker)
    assert b"plan_pushes" in queued
    assert found_in(queued) == [], "Redis with a job in the queue"

    dumped = dump(installation.database_url)
    assert b"COPY public.outbox" in dumped and b"COPY public.contact " in dumped
    assert found_in(dumped) == [], "pg_dump"

    with psycopg.connect(installation.database_url, autocommit=True) as connection:
        connection.execute("checkpoint")
    cluster = {path: path.read_bytes() for path in (installation.data / "postgres").rglob("*") if path.is_file()}
    assert any("pg_wal" in path.parts for path in cluster) and any("base" in path.parts for path in cluster)
    for path, data in cluster.items():
        assert found_in(data) == [], path

    for running in (worker, gateway, phones):
        assert running.stop() == 0
    logs = [one.log for one in installation.processes] + list((installation.data / "log").iterdir())
    assert {"gateway-1.log", "worker-1.log", "postgres.log", "redis.log"} <= {path.name for path in logs}
    for path in logs:
        assert found_in(path.read_bytes()) == [], path
    others = [path for path in folder.rglob("*") if path.is_file() and "postgres" not in path.parts]
    for path in others:
        assert found_in(path.read_bytes()) == [], path


def redis_content(url: str) -> bytes:
    """Every key with its value, as stored and as read."""
    found = []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(count=1_000):
            kind = client.type(key)
            found += [key, client.dump(key) or b""]
            if kind == b"string":
                found.append(client.get(key) or b"")
            elif kind == b"hash":
                found += [part for pair in client.hgetall(key).items() for part in pair]
            elif kind == b"list":
                found += client.lrange(key, 0, -1)
            elif kind == b"set":
                found += client.smembers(key)
            elif kind == b"zset":
                found += [member for member, _ in client.zrange(key, 0, -1, withscores=True)]
    return b"\n".join(found)


def queued_job(installation: Installation, phones: Phones, worker: Running) -> bytes:
    """What Redis holds while a job waits: the worker is frozen, and a book changes."""
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        phones.faults(mo_parts="as sent")
        name, number = next(iter(FRIENDS.items()))
        # Other words than before: after a lost link the very same text would count as the carrier's repeat.
        phones.said(OWNER.removeprefix("+"), f"添加 {name} {number} {GROUP}", "已保存")

        def look() -> bytes | None:
            content = redis_content(installation.redis_url)
            return content if b"plan_pushes" in content else None

        return wait_for("a job in the queue", look, 10)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)


def dump(database_url: str) -> bytes:
    plain = subprocess.run(
        [str(postgres_binaries() / "pg_dump"), "--dbname", database_url], capture_output=True, check=True, timeout=60
    )
    return plain.stdout
