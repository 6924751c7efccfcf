"""Bad input against the whole service: the right person is told, nothing is lost, the link lives where it may."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installation import Installation, Phones, Running, call, processes_of, smsgw, wait_for

pytestmark = pytest.mark.slow

ZHANG, AMINA = "8613900000001", "254712000002"
SEED = 20_241_120  # of the noise; printed with what fails


# ---- what people write, from the phone and back to it


@pytest.fixture(scope="module")
def installation(module_folder: Path) -> Iterator[Installation]:
    with Installation(module_folder) as one:
        yield one


@pytest.fixture(scope="module")
def service(installation: Installation) -> tuple[Phones, Running]:
    """A gateway, a worker and two members."""
    phones = installation.simulator(f"+{ZHANG}:Zhang", f"+{AMINA}:Amina")
    gateway = installation.gateway(phones.smpp_port)
    assert gateway.config
    installation.worker(gateway.config)
    phones.said(ZHANG, "START 小红", "欢迎")
    phones.said(AMINA, "START Amina", "Welcome")
    return phones, gateway


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        pytest.param("ADD 0712345678", "name is missing", id="no name"),
        pytest.param("ADD \u200b\u202e 0712345678", "name is missing", id="a name of invisible characters"),
        pytest.param("ADD Otieno", "number is missing", id="no number"),
        pytest.param("ADD", "To add an entry send ADD", id="nothing"),
        pytest.param("ADD " + "Wanjiru" * 20 + " 0712345678", "too long", id="a name of 140 characters"),
        pytest.param("ADD Otieno 07123O5678", "number|missing", id="a letter in the number"),
        pytest.param("ADD Otieno 0712345678 / 0722345678", "[Oo]ne", id="two numbers in a field"),
        pytest.param("ADD Otieno 0712345678, 0722345678", "[Oo]ne", id="two numbers with a comma"),
        pytest.param("ADD Otieno 13800138000", "country|called", id="a number of another region"),
        pytest.param("ADD Otieno +25471234567890123", "long", id="a number that is too long"),
        pytest.param("INVITE 0712 34x", ".", id="an invitation to no number"),
        pytest.param("INVITE 911", ".", id="an invitation to a short code"),
        pytest.param("DEL Nobody", "[Nn]o ", id="nobody of that name"),
        pytest.param("😀", "not understood", id="an emoji"),
        pytest.param("\u202egnirts", "not understood", id="a bidi control"),
        pytest.param("Ἀρχιμήδης Αλφα", "not understood", id="Greek"),
        pytest.param("привет", "not understood", id="Cyrillic"),
        pytest.param("x" * 1500, "not understood", id="a text in ten parts"),
    ],
)
def test_who_writes_what_cannot_be_is_told_what_was_wrong(
    service: tuple[Phones, Running], words: str, answer: str
) -> None:
    phones, _ = service
    before = phones.phone(AMINA)["phonebook"]
    said = phones.said(AMINA, words, ".")
    assert re.search(answer, said), said
    assert phones.phone(AMINA)["phonebook"] == before


ODD = {
    "bidi": ("ADD Ali\u202eevil 0712000111", "Alievil", "712000111"),
    "a tab": ("ADD Tab\tOne 0712000112", "Tab One", "712000112"),
    "an emoji": ("ADD 王😀 0712000113", "王😀", "712000113"),
    "a mark of its own": ("ADD Zo\u0308e 0712000114", "Zöe", "712000114"),
    # The card says "Semi,colon"; the simulated phone reads it with vobject, to which a comma parts two names.
    "a sign with a meaning in cards": ("ADD Semi;colon 0712000115", "Semi colon", "712000115"),
    "full-width": ("ＡＤＤ Wide ０７１２００１１６１", "Wide", "712001161"),
    "spaces": ("add   Spaced   Out    0712 000 117", "Spaced Out", "712000117"),
    "abroad": ("ADD Kofi +233201234567", "Kofi", "233201234567"),
    "a short code": ("ADD Bank 40404", "Bank", "40404"),
}


@pytest.fixture(scope="module")
def saved(service: tuple[Phones, Running]) -> Phones:
    """All of them texted; their pushes after the first go together."""
    phones, _ = service
    for words, _, _ in ODD.values():
        phones.said(AMINA, words, "Saved")
    return phones


@pytest.mark.parametrize("what", ODD)
def test_odd_names_and_numbers_reach_the_phone_book_harmless(saved: Phones, what: str) -> None:
    _, name, digits = ODD[what]
    entry = saved.wait_entry(AMINA, name)
    assert entry["name"] == name
    assert digits in "".join(entry["numbers"])


# ---- what programs send to the API


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b"\xff\xfe\x00", 400),
        (b"[]", 422),
        (b'{"to": "+8613800138000"}', 422),
        (b'{"to": "+8613800138000", "text": "x", "colour": "red"}', 422),
        (b'{"to": "12", "text": "x"}', 422),
        (b'{"to": "+8613800138000 / +8613800138001", "text": "x"}', 422),
        (json.dumps({"to": "+8613800138000", "text": "x" * 2_000}).encode(), 422),
        (b'{"messages": []}', 422),
        (b"[" * 200_000, 400),
        (b" " * (17 << 20), 413),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_is_a_problem_and_nothing_is_queued(
    installation: Installation, service: tuple[Phones, Running], token: dict[str, str], body: bytes, status: int
) -> None:
    _, gateway = service
    before = installation.one("select count(*) from outbox")
    try:
        got, answer = call(gateway.port, "POST", "/v1/messages", body, token)
    except ConnectionError:  # refused while we still wrote: allowed for what is too large only (RFC 9110, 15.5.14)
        got, answer = 413, b'{"status": 413}'
        assert len(body) > 16 << 20
    assert (got, json.loads(answer)["status"]) == (status, status)
    assert installation.one("select count(*) from outbox") == before


@pytest.fixture(scope="module")
def token(installation: Installation, service: tuple[Phones, Running]) -> dict[str, str]:
    config = service[1].config
    assert config
    return installation.token(config)


def test_what_is_not_even_http_disturbs_nobody(service: tuple[Phones, Running]) -> None:
    _, gateway = service
    noise = random.Random(SEED)
    for octets in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                   b"A" * 100_000, noise.randbytes(10_000)):  # fmt: skip
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as one:
            one.sendall(octets)
            one.shutdown(socket.SHUT_WR)
            try:
                while one.recv(65_536):
                    pass
            except ConnectionError:
                pass
    assert call(gateway.port, "GET", "/healthz")[0] == 200


# ---- disks


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A file system of its own with so much room. Only root may mount one; the tests of the service run as root."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# Mounting is the kernel's to allow; CI runs as root, so there it is never skipped.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")


@needs_root
def test_a_read_only_data_folder_is_named_and_nothing_starts(folder: Path) -> None:
    with small_disk(folder, 16) as place:
        (place / "data").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        ran = smsgw("demo", "--data-dir", str(place / "data"))
        assert ran.returncode == 1
        (line,) = ran.stderr.strip().splitlines()
        assert f"{place}/data" in line and "Read-only file system" in line and "data_dir" in line
        assert processes_of(folder) == []


@needs_root
def test_a_disk_without_room_is_named_and_nothing_starts(folder: Path) -> None:
    with small_disk(folder, 16) as place:  # initdb needs more
        ran = smsgw("demo", "--data-dir", str(place / "data"))
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        assert "room" in ran.stderr, ran.stderr
        assert processes_of(folder) == []


@needs_root
def test_a_disk_that_runs_full_refuses_what_is_new_and_loses_nothing(folder: Path) -> None:
    with small_disk(folder, 260) as place, Installation(place) as one:
        phones = one.simulator(f"+{ZHANG}:Zhang")
        gateway = one.gateway(phones.smpp_port)
        assert gateway.config
        token = one.token(gateway.config)
        phones.said(ZHANG, "START 小红", "欢迎")
        accepted: list[str] = []

        def post(text: str) -> int:
            body = {"messages": [{"to": f"+8613{n:09}", "text": text} for n in range(100)]}
            status, answer = call(gateway.port, "POST", "/v1/messages", body, token)
            if status == 202:
                accepted.extend(json.loads(answer)["ids"])
            else:
                assert status == 503, answer
                assert json.loads(answer)["title"]
            return status

        assert post("before") == 202
        filler = place / "filler"
        left = shutil.disk_usage(place).free
        with filler.open("wb") as file:
            file.write(b"\0" * max(0, left - (1 << 20)))
        deadline = time.monotonic() + 30
        while post("while it fills " * 60) == 202:
            assert time.monotonic() < deadline, "the disk never got full"
        phones.text(ZHANG, "ADD 张三 13800138000")  # the carrier is told to try again, or the answer waits
        time.sleep(1)
        filler.unlink()
        if one.engines.postgres_pid() is None:
            one.restart_engines()
        wait_for("the API takes messages again", lambda: post("after") == 202, 20)
        phones.wait_text(ZHANG, "已保存", 30)
        wait_for(
            "every accepted message delivered",
            lambda: (
                one.one("select count(*) from outbox where id = any(%s) and state = 3", [*map(int, accepted)])
                == len(accepted)
            ),
            60,
        )
