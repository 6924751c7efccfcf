"""`smsgw demo` as a newcomer runs it, every octet of its link recorded and read by programs that are not ours."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gsm0338  # noqa: F401 -- its import makes the codec "gsm03.38"
import pytest
import vobject
from installation import call, clean_environment, command, processes_of, wait_for
from pycrate_mobile.TS23040_SMS import SMS_DELIVER
from recorder import Recorder

from bench.bed import free_base

pytestmark = pytest.mark.slow

STEPS = ("spine.add", "spine.group", "spine.invite", "spine.stop", "spine.relink")
A, B, C, D = "8613900000001", "254712000002", "8613900000003", "8613900000004"
PHONES = (A, B, C, D)
STORY_S = 120.0
START_S = 5.0  # the second start, by the contract
STOP_S = 20.0
GAMMU = Path(__file__).parent.parent / "ota" / "gammu_decode.py"


class Demo:
    """One `smsgw demo`, in a session of its own as in a terminal of its own; its lines as they come."""

    def __init__(self, folder: Path, base: int, *arguments: str, **environment: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command("demo", "--data-dir", str(folder), "--port-base", str(base), *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env=clean_environment() | {"PYTHONUNBUFFERED": "1"} | environment,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(line.rstrip("\n") for line in lines)

    def wait_line(self, start: str, timeout_s: float = STORY_S) -> str:
        def look() -> str | None:
            found = next((line for line in self.lines if line.startswith(start)), None)
            assert found or self.process.poll() is None, self.lines
            return found

        return wait_for(f"a line {start!r}", look, timeout_s)

    def end(self, timeout_s: float) -> int:
        """Its status when it is over, with every line read."""
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        return status

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
            self.process.kill()
        self._reader.join(5)

    def started_in(self) -> float:
        found = re.search(r"started in ([0-9.]+) s", "\n".join(self.lines))
        assert found, self.lines
        return float(found[1])


@dataclass
class Played:
    """What is left of a demo that told its story and then served."""

    folder: Path
    base: int
    capture: Path
    lines: list[str]
    status: int
    stopped_in_s: float
    left: list[str]
    phones: dict[str, Any]
    messages: list[dict[str, Any]]
    page: tuple[int, bytes]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    """The demo without --exit through a recorder: its story, its page, then SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="smsgw-") as name:
        folder, base = Path(name) / "data", free_base()
        capture = Path(name) / "story.pcap"
        with Recorder(base + 75, capture) as recorder:
            demo = Demo(folder, base, SMSGW_BIND_SIMULATOR_PORT=str(recorder.port))
            try:
                demo.wait_line("serving:")
                phones = {one: json.loads(call(base + 83, "GET", f"/api/handsets/{one}")[1]) for one in PHONES}
                messages = json.loads(call(base + 83, "GET", "/api/messages")[1])["messages"]
                page = call(base + 83, "GET", "/")
                demo.process.terminate()
                began = os.times().elapsed
                status = demo.end(STOP_S)
                stopped_in_s = os.times().elapsed - began
                left = processes_of(folder)
            finally:
                demo.close()
        yield Played(folder, base, capture, demo.lines, status, stopped_in_s, left, phones, messages, page)


# ---- the story, and what a terminal shows


def test_every_step_is_seen_and_sigterm_ends_it_cleanly(played: Played) -> None:
    assert [line.split()[1] for line in played.lines if line.startswith("ok ")] == list(STEPS), played.lines
    assert not [line for line in played.lines if line.startswith("FAILED")]
    assert played.status == 0
    assert played.left == []
    assert played.stopped_in_s < 10
    assert not [line for line in played.lines if "Traceback" in line]


def test_it_prints_where_everything_is_and_the_page_is_there(played: Played) -> None:
    names = [line.split()[0] for line in played.lines[:5]]
    assert names == ["postgres", "redis", "simulator", "gateway", "worker"]
    assert f"http://127.0.0.1:{played.base + 83}/" in "\n".join(played.lines)
    status, body = played.page
    assert status == 200
    for phone in PHONES:
        assert phone in body.decode()


def test_no_log_of_it_holds_an_error_nobody_foresaw_or_a_phones_number(played: Played) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in (played.folder / "log").iterdir()}
    assert {"gateway.log", "worker.log", "simulator.log", "postgres.log", "redis.log"} <= set(logs)
    for name, log in logs.items():
        assert "Traceback" not in log, f"{name}: {log[log.index('Traceback') :][-1_500:]}"
        for secret in (*PHONES, "13800138000", "张三", "李四", "Wanjik"):
            assert secret not in log, name


def test_the_second_start_is_quick_and_exit_gives_the_storys_status(played: Played) -> None:
    demo = Demo(played.folder, played.base, "--exit")
    try:
        assert demo.end(STORY_S) == 0, demo.lines
    finally:
        demo.close()
    assert [line.split()[1] for line in demo.lines if line.startswith("ok ")] == list(STEPS)
    assert demo.started_in() < START_S
    assert processes_of(played.folder) == []


def test_ctrl_c_in_the_middle_of_the_story_leaves_nothing_behind(played: Played) -> None:
    demo = Demo(played.folder, played.base)
    try:
        demo.wait_line("ok spine.add")
        demo.interrupt()
        assert demo.end(STOP_S) != 0  # the story was not seen to its end
    finally:
        demo.close()
    assert processes_of(played.folder) == []
    assert "Traceback" not in "\n".join(demo.lines)


def test_a_port_that_is_taken_is_named_and_nothing_is_left(played: Played) -> None:
    with socket.create_server(("127.0.0.1", played.base + 83)):
        demo = Demo(played.folder, played.base)
        try:
            assert demo.end(60) == 1
        finally:
            demo.close()
    said = "\n".join(demo.lines)
    assert "simulator" in said and "in use" in said, said
    assert "Traceback" not in said
    assert processes_of(played.folder) == []


# ---- the recorded link, as tshark reads it


@pytest.fixture(scope="module")
def pdus(played: Played) -> list[dict[str, Any]]:
    """Every SMPP PDU that passed, as tshark's fields by name, in order."""
    ran = subprocess.run(
        ["tshark", "-r", str(played.capture), "-d", "tcp.port==2775,smpp", "-Y", "smpp", "-T", "json",
         "--no-duplicate-keys"],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    found = []
    for packet in json.loads(ran.stdout):
        layers = packet["_source"]["layers"]
        headers = iter(listed(layers.get("gsm_sms_ud")))  # one for each message with a header, in order
        for one in listed(layers["smpp"]):
            header = next(headers) if fields(one, "smpp.esm.submit.features") == ["0x01"] else None
            found.append({"smpp": one, "header": header, "up": layers["ip"]["ip.dst"] == "10.0.0.2"})
    return found


def listed(node: Any) -> list[Any]:
    if node is None:
        return []
    return node if isinstance(node, list) else [node]


def fields(node: Any, name: str) -> list[str]:
    """Every value of this field, wherever it stands."""
    if isinstance(node, dict):
        return [
            found
            for key, value in node.items()
            for found in ([value] if key == name and isinstance(value, str) else fields(value, name))
        ]
    if isinstance(node, list):
        return [found for value in node for found in fields(value, name)]
    return []


def number_of(pdu: dict[str, Any], name: str) -> int:
    (value,) = fields(pdu["smpp"], name)
    return int(value, 0)


def submits(pdus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in pdus if number_of(one, "smpp.command_id") == 4]


def test_tshark_finds_nothing_malformed_and_nothing_to_warn_of(played: Played) -> None:
    ran = subprocess.run(
        ["tshark", "-r", str(played.capture), "-d", "tcp.port==2775,smpp", "-q", "-z", "expert,note"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    complaints = [line for line in ran.stdout.splitlines() if "SMPP" in line or "GSM" in line or "Malformed" in line]
    assert complaints == []


def test_every_pdu_is_answered_with_its_own_number(pdus: list[dict[str, Any]]) -> None:
    commands = {number_of(one, "smpp.command_id") for one in pdus}
    assert {0x9, 0x80000009, 0x4, 0x80000004, 0x5, 0x80000005, 0x6, 0x80000006} <= commands
    # Per direction: a request's sequence number and the response to it. A cut may leave the last ones unanswered.
    for up in (True, False):
        asked = [number_of(one, "smpp.sequence_number") for one in pdus
                 if one["up"] is up and number_of(one, "smpp.command_id") < 0x80000000]  # fmt: skip
        answered = [number_of(one, "smpp.sequence_number") for one in pdus
                    if one["up"] is not up and number_of(one, "smpp.command_id") >= 0x80000000]  # fmt: skip
        assert set(answered) <= set(asked)
        assert len(asked) - len(answered) <= 100 if up else 50


def test_the_texts_on_the_wire_are_those_on_the_phones(played: Played, pdus: list[dict[str, Any]]) -> None:
    """Long texts as tshark puts them together."""
    texts: dict[str, set[str]] = {phone: set() for phone in PHONES}
    put_together = 0
    for one in submits(pdus):
        coding = number_of(one, "smpp.data_coding")
        if coding not in (0, 8):
            continue
        to = fields(one["smpp"], "smpp.destination_addr")[0]
        octets = fields(one["smpp"], "smpp.message")[0]
        if one["header"] is not None:
            put_together += "gsm_sms_ud.fragments" in one["header"]
            octets = one["header"]["gsm_sms_ud.short_msg"]
        texts[to].add(read(bytes.fromhex(octets.replace(":", "")), coding))
    for phone in PHONES:
        for item in played.phones[phone]["inbox"]:
            if item["kind"] == "text":
                assert item["text"] in texts[phone]
    assert any(re.search("[一-鿿]", text) for text in texts[A])
    assert put_together


def read(octets: bytes, coding: int) -> str:
    if coding == 8:
        return octets.decode("utf-16-be")
    return octets.decode("gsm03.38")


def cards_of(pdus: list[dict[str, Any]]) -> list[tuple[str, list[bytes]]]:
    """The pushed cards: to whom, and the user data of each part in order."""
    found: dict[tuple[str, bytes], dict[int, bytes]] = {}
    whole = []
    for one in submits(pdus):
        if number_of(one, "smpp.data_coding") != 4:
            continue
        to = fields(one["smpp"], "smpp.destination_addr")[0]
        octets = bytes.fromhex(fields(one["smpp"], "smpp.message")[0].replace(":", ""))
        if octets[0] == 6:
            whole.append((to, [octets]))
            continue
        there = found.setdefault((to, octets[9:11]), {})
        there[octets[11]] = octets
        if len(there) == octets[10]:
            whole.append((to, [there[number] for number in sorted(there)]))
    return whole


def test_tshark_sees_each_card_go_to_port_9204(pdus: list[dict[str, Any]]) -> None:
    cards = [one for one in submits(pdus) if number_of(one, "smpp.data_coding") == 4]
    assert len(cards) > 20
    for one in cards:
        assert set(fields(one["header"], "gsm_sms.destination_port")) == {"9204"}


def tpdu(user_data: bytes) -> bytes:
    """An SMS-DELIVER with a header, 8-bit, as it would reach a phone. 3GPP TS 23.040, 9.2.2.1."""
    address = bytes((13, 0x91)) + bytes.fromhex("683108108300F0")
    return b"\x44" + address + b"\0\x04" + bytes.fromhex("62013120000000") + bytes((len(user_data),)) + user_data


def test_gammu_reads_the_cards_that_stand_in_the_phone_books(played: Played, pdus: list[dict[str, Any]]) -> None:
    cards = [(to, parts) for to, parts in cards_of(pdus) if len(parts) == 1]
    ran = subprocess.run(
        [sys.executable, str(GAMMU)],
        input="\n".join(json.dumps([tpdu(one).hex() for one in parts]) for _, parts in cards),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    read_back = [(to, json.loads(line)) for (to, _), line in zip(cards, ran.stdout.splitlines(), strict=True)]
    assert [answer for _, answer in read_back if "error" in answer] == []
    held = {(to, answer["entries"]["Text_Name"], answer["entries"]["Number_General"]) for to, answer in read_back}
    books = {
        (phone, entry["name"], number)
        for phone in PHONES
        for entry in played.phones[phone]["phonebook"]
        for number in entry["numbers"]
    }
    in_two_parts = {to for to, parts in cards_of(pdus) if len(parts) > 1}
    assert {book for book in books if book[0] not in in_two_parts} <= held <= books
    assert (A, "朋友/张三", "+8613800138000") in held


def test_pycrate_and_vobject_read_every_card(played: Played, pdus: list[dict[str, Any]]) -> None:
    cards = cards_of(pdus)
    assert cards
    for to, parts in cards:
        data = b""
        for user_data in parts:
            decoded = SMS_DELIVER()
            decoded.from_bytes(tpdu(user_data))
            elements = {each["T"].get_val(): each["V"] for each in decoded["TP_UD"]["UDH"]["UDH"]}
            assert elements[5]["Dest"].get_val() == 9204
            data += decoded["TP_UD"]["UD"].get_val()
        (card,) = vobject.readComponents(data.decode(), allowQP=True)
        (name, number) = card.n.value.family, card.tel.value
        shown = name if isinstance(name, str) else ",".join(name)
        assert any(entry["name"] == shown and number in entry["numbers"] for entry in played.phones[to]["phonebook"]), (
            to,
            shown,
        )
