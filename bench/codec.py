"""What one message costs at the wire: our codec, and python-smpplib's for the same cycle beside it.

    python -m bench.codec

Every figure is CPU time in microseconds for one message, the best of several rounds. The cycle is a submit_sm written,
its response read, and the receipt's deliver_sm read and parsed: at most 5 µs together.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import smpplib.smpp

from smsgw import pdu, receipts, sms_text
from smsgw import smpp_numbers as smpp
from smsgw.carriers import LinkProfile
from smsgw.pdu import Address, FrameReader, ShortMessage, SubmitTemplate
from smsgw.smpp_session import Session, SessionConfig

ROUNDS = 7
MESSAGES = 3_000  # in each round
BATCH = 300  # PDUs in one read of the socket under load

CODE = Address(3, 0, "20880")
PHONE = Address(1, 1, "254712345678")
TEXT = b"Hello 123456, your code is 998877. Do not tell anybody about it."
RECEIPT = b"id:5c82511d sub:001 dlvrd:001 submit date:2401021504 done date:2401021505 stat:DELIVRD err:000 text:hello"
RESPONSE_PDU = pdu.encode(smpp.SUBMIT_SM_RESP, 0, 7, {"message_id": "5c82511d"})
RECEIPT_PDU = pdu.encode_short_message(
    smpp.DELIVER_SM, 7, ShortMessage("", PHONE, CODE, esm_class=4, short_message=RECEIPT)
)


def best(function: Callable[[], object], messages: int = MESSAGES, handled: int = 1) -> float:
    """CPU µs for each of the `handled` messages of one call, in the best of the rounds."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        calls = max(1, messages // handled)
        started = time.process_time()
        for _ in range(calls):
            function()
        rounds.append((time.process_time() - started) / (calls * handled) * 1e6)
    return min(rounds)


def _cycle() -> Callable[[], object]:
    template = SubmitTemplate(CODE, registered_delivery=1)
    response = RESPONSE_PDU[16:]
    delivered = RECEIPT_PDU[16:]

    def once() -> object:
        template.encode(7, PHONE.digits, TEXT)
        pdu.decode_submit_sm_resp(response)
        return receipts.parse(pdu.decode_short_message(delivered, smpp.DELIVER_SM))

    return once


class _Sequences:
    """What python-smpplib wants of its client to write a PDU."""

    sequence = 0

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence


def _smpplib_cycle() -> Callable[[], object]:
    client = _Sequences()

    def once() -> object:
        smpplib.smpp.make_pdu(
            "submit_sm",
            client=client,
            source_addr_ton=CODE.ton,
            source_addr_npi=CODE.npi,
            source_addr=CODE.digits,
            dest_addr_ton=PHONE.ton,
            dest_addr_npi=PHONE.npi,
            destination_addr=PHONE.digits,
            short_message=TEXT,
            registered_delivery=1,
        ).generate()
        smpplib.smpp.parse_pdu(RESPONSE_PDU, client=client)
        # It has no parser for the receipt's text, so its cycle does less than ours.
        return smpplib.smpp.parse_pdu(RECEIPT_PDU, client=client)

    return once


def _session() -> Session:
    session = Session(SessionConfig("us", "secret", window=BATCH))
    session.connected(0.0)
    session.data_to_send()
    session.receive(pdu.encode(smpp.BIND_TRANSCEIVER_RESP, 0, 1, {"system_id": "peer"}), 0.0)
    return session


def _session_submits_and_answers() -> tuple[float, float]:
    """µs to submit, and to take the answer, a window at a time."""
    session = _session()
    template = SubmitTemplate(CODE, registered_delivery=1)
    submitting: list[float] = []
    answering: list[float] = []
    for _ in range(ROUNDS * 5):
        started = time.process_time()
        for token in range(BATCH):
            session.submit(template, PHONE.digits, TEXT, b"", token, 1.0)
        data = session.data_to_send()
        submitted = time.process_time()
        answers = b"".join(
            pdu.encode(smpp.SUBMIT_SM_RESP, 0, sequence, {"message_id": "5c82511d"})
            for _, _, sequence, _ in FrameReader().feed(data)
        )
        before = time.process_time()
        events = session.receive(answers, 1.0)
        answering.append((time.process_time() - before) / BATCH * 1e6)
        submitting.append((submitted - started) / BATCH * 1e6)
        assert len(events) == BATCH
    return min(submitting), min(answering)


def _answer(session: Session) -> bytes:
    session.answer(range(BATCH))
    return session.data_to_send()


def run() -> dict[str, float]:
    """All figures, by name, in microseconds of CPU for each message."""
    link = LinkProfile()
    template = SubmitTemplate(CODE, registered_delivery=1)
    message = pdu.decode_short_message(RECEIPT_PDU[16:], smpp.DELIVER_SM)
    session = _session()
    receipts_read = RECEIPT_PDU * BATCH
    submitted, answered = _session_submits_and_answers()
    return {
        "codec cycle": best(_cycle()),
        "codec cycle, python-smpplib": best(_smpplib_cycle(), MESSAGES // 10),
        "encode submit_sm": best(lambda: template.encode(7, PHONE.digits, TEXT)),
        "decode submit_sm_resp": best(lambda: pdu.decode_submit_sm_resp(RESPONSE_PDU[16:])),
        "decode deliver_sm": best(lambda: pdu.decode_short_message(RECEIPT_PDU[16:], smpp.DELIVER_SM)),
        "parse receipt": best(lambda: receipts.parse(message)),
        "session: submit": submitted,
        "session: submit_sm_resp": answered,
        "session: receipt": best(lambda: session.receive(receipts_read, 1.0), handled=BATCH),
        "session: deliver_sm_resp": best(lambda: _answer(session), handled=BATCH),
        "plan: 64 GSM septets": best(lambda: sms_text.plan(TEXT.decode(), link)),
        "plan: 18 Chinese characters": best(lambda: sms_text.plan("张三丰已加入您的好友群，回复1确认。", link)),
        "plan: 360 septets, 3 parts": best(lambda: sms_text.plan("Hello " * 60, link)),
    }


if __name__ == "__main__":
    for name, microseconds in run().items():
        print(f"{name:30} {microseconds:8.2f} µs")
