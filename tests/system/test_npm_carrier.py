"""The gateway against a carrier that nobody here wrote: npm's smpp, in a process of its own."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, Running, wait_for

from addressbook import outbox
from addressbook.outbox import Encoding, Kind, Outgoing, State
from tests.tools import PEERS

pytestmark = pytest.mark.slow

PHONE, OTHER = "8613800138000", "254712345678"
VCARD = b"BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8:\xe5\xbc\xa0\xe4\xb8\x89\r\nTEL:+8613800138000\r\nEND:VCARD"
PORT_9204 = bytes.fromhex("050423f40000")


class NpmCarrier:
    """carrier.js and what it said."""

    def __init__(self, installation: Installation) -> None:
        modules = PEERS / "node_modules"
        assert (modules / "smpp").exists(), "run `make tools`"
        script = Path(__file__).parent.parent / "peers" / "carrier.js"
        self._process = subprocess.Popen(
            ["node", str(script), str(modules), installation.password],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port: int = self.wait("its port", lambda one: one.get("port"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.said.append(json.loads(line))

    def order(self, what: str, **more: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what} | more) + "\n")
        self._process.stdin.flush()

    def wait(self, what: str, matches: Callable[[dict[str, Any]], Any], timeout_s: float = 10.0) -> Any:
        """What the first matching line holds; it is not found again."""

        def look() -> Any:
            for place, one in enumerate(self.said):
                if found := matches(one):
                    del self.said[place]
                    return found
            return None

        return wait_for(what, look, timeout_s)

    def wait_pdu(
        self, command: str, timeout_s: float = 10.0, matches: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        pdu: dict[str, Any] = self.wait(
            command,
            lambda one: (pdu := one.get("pdu")) and pdu["command"] == command and matches(pdu) and pdu,
            timeout_s,
        )
        return pdu

    def deliver(self, text: str | None = None, phone: str = PHONE, **fields: object) -> int:
        """A phone's text; the status of the answer."""
        if text is not None:
            fields |= {"short_message": text}
        addresses = {"source_addr": phone, "source_addr_ton": 1, "source_addr_npi": 1, "destination_addr": "20880",
                     "dest_addr_ton": 3}  # fmt: skip
        self.order("deliver", fields=addresses | fields)
        status: int = self.wait(
            "the answer to deliver_sm",
            lambda one: (answer := one.get("answer")) and (answer["command_status"] + 1),
        )
        return status - 1

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._reader.join(5)


@pytest.fixture(scope="module")
def installation(module_folder: Path) -> Iterator[Installation]:
    with Installation(module_folder) as one:
        yield one


@pytest.fixture(scope="module")
def shared(installation: Installation) -> Iterator[tuple[NpmCarrier, Running]]:
    """The carrier and the gateway that is bound to it, for all tests of this file."""
    one = NpmCarrier(installation)
    try:
        gateway = installation.gateway(one.port)
        bound = one.wait_pdu("bind_transceiver")
        assert (bound["system_id"], bound["interface_version"]) == ("smsgw", 0x34)
        yield one, gateway
    finally:
        one.close()


@pytest.fixture
def carrier(shared: tuple[NpmCarrier, Running]) -> NpmCarrier:
    one, _ = shared
    one.said.clear()
    return one


def to(pdu: dict[str, Any]) -> Any:
    return pdu["destination_addr"]


def message(pdu: dict[str, Any]) -> Any:
    """The text, or the octets, as npm's smpp read them."""
    found = pdu["short_message"]["message"]
    return bytes.fromhex(found["hex"]) if isinstance(found, dict) else found


def send(installation: Installation, *messages: Outgoing) -> list[int]:
    return installation.database.transact(outbox.enqueue, messages)


def state(installation: Installation, outbox_id: int, expected: State) -> None:
    wait_for(
        f"message {outbox_id} {expected.name}",
        lambda: installation.one("select state from outbox where id = %s", outbox_id) == expected,
        10,
    )


def test_a_wrong_password_is_refused_and_not_tried_again(installation: Installation) -> None:
    carrier = NpmCarrier(installation)
    try:
        gateway = installation.gateway(carrier.port, name="carrier-b", password="Wrong1", ready=False)
        carrier.wait_pdu("bind_transceiver", 15)
        wait_for(
            "the link table",
            lambda: installation.rows("select 1 from network_status where link = 'carrier-b' and state = 'refused'"),
            5,
        )  # R4.16
        installation.wait_ready(gateway, "/healthz")
        assert gateway.call("GET", "/readyz")[0] == 503
        assert gateway.stop() == 0
        assert not [one for one in carrier.said if "pdu" in one]  # it did not try again
    finally:
        carrier.close()


def test_every_kind_of_message_reaches_it_as_meant(installation: Installation, carrier: NpmCarrier) -> None:
    gsm, chinese = "Zhang San: [13800138000] {Family} 5 €", "张三的号码是 13800138000😀"
    long_gsm, long_chinese = "Hello [world]€ " * 20, "张三丰已加入您的好友群" * 12
    texts = [gsm, chinese, long_gsm, long_chinese]
    ids = send(installation, *(
        Outgoing(f"+{PHONE}{place}", text.encode(), Kind.NOTICE, "t") for place, text in enumerate(texts)
    ))  # fmt: skip
    read = []
    for place in range(len(texts)):
        parts: dict[int, str] = {}
        total = 1
        while len(parts) < total:
            pdu = carrier.wait_pdu("submit_sm", matches=lambda one, place=place: to(one) == f"{PHONE}{place}")
            if udh := pdu["short_message"].get("udh"):
                (element,) = (bytes.fromhex(one["hex"]) for one in udh)
                assert element[:2] == b"\0\3"
                total, number = element[3], element[4]
            else:
                number = 1
            parts[number] = message(pdu)
        read.append("".join(parts[number] for number in sorted(parts)))
    assert read == texts
    for one in ids:
        state(installation, one, State.DELIVERED)


def test_a_card_is_octets_to_port_9204(installation: Installation, carrier: NpmCarrier) -> None:
    body = bytes((len(PORT_9204),)) + PORT_9204
    (one,) = send(installation, Outgoing(
        f"+{PHONE}", body + VCARD, Kind.PUSH, "t", encoding=Encoding.BINARY))  # fmt: skip
    pdu = carrier.wait_pdu("submit_sm")
    assert (pdu["esm_class"], pdu["data_coding"]) == (0x40, 4)
    assert [bytes.fromhex(each["hex"]) for each in pdu["short_message"]["udh"]] == [bytes.fromhex("050423f40000")]
    assert message(pdu) == VCARD
    assert carrier.wait("the receipt's answer", lambda line: line.get("receipt_answered") == 0)
    state(installation, one, State.DELIVERED)


def test_a_failure_in_a_receipt_is_the_messages(installation: Installation, carrier: NpmCarrier) -> None:
    carrier.order("receipts", state="UNDELIV")
    (one,) = send(installation, Outgoing(f"+{PHONE}", b"hello", Kind.NOTICE, "t"))
    state(installation, one, State.FAILED)
    carrier.order("receipts", state="DELIVRD")


def test_throttled_messages_come_later_and_once(installation: Installation, carrier: NpmCarrier) -> None:
    carrier.order("throttle", count=7)
    ids = send(installation, *(Outgoing(f"+{PHONE}", b"%d" % n, Kind.NOTICE, "t") for n in range(20)))
    for one in ids:
        state(installation, one, State.DELIVERED)
    submits = [message(one["pdu"]) for one in carrier.said if one.get("pdu", {}).get("command") == "submit_sm"]
    assert len(submits) == 27
    assert set(submits) == {str(n) for n in range(20)}


def test_texts_of_phones_are_answered_and_acknowledged(installation: Installation, carrier: NpmCarrier) -> None:
    assert carrier.deliver("START Amina", phone=OTHER) == 0
    assert "Welcome" in message(carrier.wait_pdu("submit_sm", matches=lambda one: to(one) == OTHER))
    # Chinese in two parts, the second one first
    octets = "添加 张三 0712345678 朋友".encode("utf-16-be")
    for number, part in ((2, octets[20:]), (1, octets[:20])):
        udh = bytes((5, 0, 3, 77, 2, number))
        assert carrier.deliver(phone=OTHER, esm_class=0x40, data_coding=8, hex=(udh + part).hex()) == 0
    saved = carrier.wait_pdu("submit_sm", matches=lambda one: to(one) == OTHER and "张三" in message(one))
    assert "0712345678" in message(saved).replace(" ", "")


def test_it_is_asked_whether_we_live_and_lets_us_go(installation: Installation, carrier: NpmCarrier) -> None:
    carrier.order("enquire")
    answer = carrier.wait("enquire_link_resp", lambda one: one.get("answer"))
    assert (answer["command"], answer["command_status"]) == ("enquire_link_resp", 0)
    carrier.order("unbind")
    carrier.wait("unbind_resp", lambda one: one.get("answer", {}).get("command") == "unbind_resp")
    carrier.wait_pdu("bind_transceiver")  # back by itself
    carrier.order("cut")
    carrier.wait_pdu("bind_transceiver")
    (one,) = send(installation, Outgoing(f"+{PHONE}", b"after all that", Kind.NOTICE, "t"))
    state(installation, one, State.DELIVERED)


def test_it_says_goodbye_when_it_is_stopped(
    installation: Installation, carrier: NpmCarrier, shared: tuple[NpmCarrier, Running]
) -> None:
    assert shared[1].stop() == 0
    carrier.wait_pdu("unbind")
