"""Texts from phones: each is kept before it is acknowledged, read once, in order, and answered at the phone."""

import asyncio
import json
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rig import AMINA, LI, Rig, Serving, one, until, words_of

from addressbook import outbox
from addressbook.migrations import upgrade
from addressbook.outbox import State
from runtime.engines import EngineAddresses, Engines
from simulator import Simulator
from simulator.frames import DELIVER_SM, HEADER, RESPONSE, Address, Deliver, Frame
from smsgw import answering

PERSON = Address(1, 1, LI.removeprefix("+"))
US = Address(3, 0, "20880")


async def gateway(rig: Rig, network: Simulator, **more: Any) -> Serving:
    serving = await rig.serve({"port": network.smpp_port}, **more)
    await until(lambda: _bound(network))
    return serving


async def kept(rig: Rig, serving: Serving) -> list[str]:
    """Every text in the inbox table, as it was understood."""
    keys = serving.desk.keys
    return [keys.open_text(b"text", row[0]) for row in await rig.rows("select body from inbox order by id")]


async def answered(network: Simulator, count: int) -> None:
    async def all_there() -> bool:
        return network.carrier.counters.mo_answered >= count

    await until(all_there)


async def heard(network: Simulator, word: str, number: str = LI, timeout_s: float = 10.0) -> str:
    """Wait for a reply that has this word."""
    item = await network.handset(number).wait_inbox(lambda item: word in item.text, timeout_s)
    return item.text


# ---- conversations


async def test_a_text_is_answered_at_the_phone(rig: Rig, network: Simulator) -> None:
    await gateway(rig, network)
    network.send(AMINA, "START")
    await heard(network, "ADD", AMINA)
    network.send(AMINA, "ADD Otieno 0722000111")
    await heard(network, "Otieno", AMINA)


async def test_twenty_texts_of_one_person_are_done_in_their_order(rig: Rig, network: Simulator) -> None:
    serving = await gateway(rig, network)
    network.send(AMINA, "START")
    await heard(network, "ADD", AMINA)
    names = [f"Friend{chr(65 + place)}" for place in range(20)]
    for place, name in enumerate(names):
        network.send(AMINA, f"ADD {name} 07220001{place:02}")
    await heard(network, names[-1], AMINA)
    assert (await kept(rig, serving))[1:] == [f"ADD {name} 07220001{place:02}" for place, name in enumerate(names)]
    replies = [text for text in words_of(network.handset(AMINA)) if any(name in text for name in names)]
    told = [name for text in replies for name in names if name in text]
    assert list(dict.fromkeys(told)) == names


@pytest.mark.parametrize("parts", ["as sent", "reversed", "doubled"])
async def test_a_long_text_is_read_whole_whatever_order_its_parts_have(
    rig: Rig, network: Simulator, parts: str
) -> None:
    serving = await gateway(rig, network)
    network.set_faults({"mo_parts": parts})
    words = "这是一条很长的短信😀" * 25
    outgoing = network.send(LI, words)
    assert len(outgoing.parts) > 3
    await answered(network, len(outgoing.parts) * (2 if parts == "doubled" else 1))
    assert await kept(rig, serving) == [words]
    assert await rig.rows("select count(*) from inbox_part where total > 0") == [(0,)]


async def test_the_sender_of_a_long_text_without_its_end_is_told(rig: Rig, network: Simulator) -> None:
    serving = await gateway(rig, network)
    network.set_faults({"mo_parts": "last lost"})
    outgoing = network.send(AMINA, "a long text " * 30)
    await answered(network, len(outgoing.parts) - 1)
    await rig.rows("update inbox_part set received_at = received_at - interval '16 minutes' returning 1")
    await serving.desk.database.transact(answering._tell_incomplete)
    await heard(network, "long text", AMINA)
    assert await kept(rig, serving) == []


async def test_a_text_that_breaks_the_answering_breaks_it_for_nobody_else(rig: Rig, network: Simulator) -> None:
    """A fault of ours, made with a trigger: its sender gets a word, and all other texts are answered."""
    serving = await gateway(rig, network)
    for number in (LI, AMINA):
        network.send(number, "START")
    await heard(network, "ADD", AMINA)
    await until(lambda: _has_text(network, LI))
    digest = serving.desk.keys.number_digest(LI).hex()
    await _break(
        rig, "contact", f"new.owner_id = (select id from subscriber where number_digest = '\\x{digest}'::bytea)"
    )
    network.send(LI, "ADD Zhang 13800138000")
    network.send(AMINA, "ADD Wang 0722000111")
    network.send(LI, "LIST")
    await heard(network, "Wang", AMINA)
    await until(lambda: _inbox_done(rig, 5))
    assert await rig.rows("select state, count(*) from inbox group by state order by state") == [(1, 4), (2, 1)]
    assert not any("Zhang" in text for text in words_of(network.handset(LI)))


async def test_a_text_that_cannot_even_be_apologised_for_holds_up_nobody(rig: Rig, network: Simulator) -> None:
    serving = await gateway(rig, network)
    digest = serving.desk.keys.number_digest(LI).hex()
    await _break(rig, "outbox", f"new.number_digest = '\\x{digest}'::bytea")
    network.send(LI, "HELP")
    network.send(AMINA, "START")
    await heard(network, "ADD", AMINA)
    await until(lambda: _inbox_done(rig, 2))
    assert sorted(await rig.rows("select state from inbox")) == [(1,), (2,)]


# ---- what a phone or a carrier should not send


ODD: list[tuple[Deliver, str | None]] = [
    (Deliver(PERSON, US, 0x40, 0, b"\x05\x00\x03\x07\x02\x03tail"), "tail"),  # part 3 of 2
    (Deliver(PERSON, US, 0x40, 0, b"\x7f\x00\x03\x07HELP"), None),  # a UDH longer than the text
    (Deliver(PERSON, US, 0x40, 0, b"\x05\x00\x09\x07\x02\x01HELP"), None),  # an element longer than the UDH
    (Deliver(PERSON, US, 0x40, 0, b""), ""),  # no UDH at all
    (Deliver(PERSON, US, 0, 8, "张三".encode("utf-16-be") + b"\x00"), None),  # half a UCS-2 unit
    (Deliver(PERSON, US, 0, 8, b"\xd8\x3d"), "�"),  # half a surrogate pair
    (Deliver(PERSON, US, 0, 0, b""), ""),
    (Deliver(PERSON, US, 0, 0xEE, b"HELP"), None),  # a reserved data_coding
    (Deliver(Address(0, 0, "13900000001"), US, 0, 0, b"1"), "1"),  # national, its type unknown
    (Deliver(Address(1, 1, "+8613900000001"), US, 0, 0, b"2"), "2"),
    (Deliver(Address(1, 1, "008613900000001"), US, 0, 0, b"3"), "3"),
    (Deliver(PERSON, Address(1, 1, "9" * 20), 0, 0, b"4"), "4"),  # no receiver is so long
]


async def test_odd_messages_are_kept_as_far_as_they_can_be_read(rig: Rig, network: Simulator) -> None:
    serving = await gateway(rig, network)
    for place, (message, expected) in enumerate(ODD, 1):
        network.deliver(message)
        await answered(network, place)
        texts = await kept(rig, serving)
        assert len(texts) == place, message
        assert expected is None or texts[-1] == expected, message
    assert network.carrier.counters.deliver_refused == 0
    senders = {serving.desk.keys.open_text(b"number", row[0]) for row in await rig.rows("select sender from inbox")}
    assert senders == {LI}


async def test_what_nobody_can_be_answered_for_is_refused_for_good(rig: Rig, network: Simulator) -> None:
    serving = await gateway(rig, network)
    unanswerable = [
        Deliver(PERSON, US, 0, 0, b"*123#", {0x0501: b"\x01"}),  # a USSD step
        Deliver(Address(5, 0, "BANK"), US, 0, 0, b"HELP"),
        Deliver(Address(3, 0, "10086"), US, 0, 0, b"HELP"),
        Deliver(Address(0, 0, ""), US, 0, 0, b"HELP"),
        Deliver(Address(1, 1, "12"), US, 0, 0, b"HELP"),
    ]
    for place, message in enumerate(unanswerable, 1):
        network.deliver(message)
        await until(lambda place=place: _refused(network, place))
    network.send(LI, "HELP")
    await answered(network, 1)
    assert await kept(rig, serving) == ["HELP"]


async def test_a_body_that_cannot_be_read_is_answered_and_the_link_lives(rig: Rig, network: Simulator) -> None:
    await gateway(rig, network)
    session = next(iter(network.carrier.sessions))
    text = Deliver(PERSON, US, 0, 0, b"HELP").pack()
    unreadable = {
        900_001: b"",
        900_002: b"\0\1\1",  # an address without end
        900_003: b"\xff" * 300,
        900_004: text + b"\x04\x24\xff\xff",  # a TLV past the end
        900_005: text[:-2],  # shorter than it says
    }
    for number, body in unreadable.items():
        session.send(Frame(DELIVER_SM, 0, number, body))

    async def all_refused() -> bool:
        heads = [HEADER.unpack(bytes.fromhex(pdu["hex"])[:16]) for pdu in network.wire.newest()]
        return unreadable.keys() == {
            number for _, command_id, status, number in heads if command_id == DELIVER_SM | RESPONSE and status
        }

    await until(all_refused)
    network.send(LI, "HELP")
    await answered(network, 1)
    assert network.carrier.counters.connections == 1


async def test_a_length_that_cannot_be_true_closes_the_link_which_comes_back(rig: Rig, network: Simulator) -> None:
    await gateway(rig, network)
    session = next(iter(network.carrier.sessions))
    session._writer.write(b"\0\0\0\x08\0\0\0\x05\0\0\0\0\0\0\0\1")
    await until(lambda: _binds(network, 2))
    network.send(LI, "HELP")
    await answered(network, 1)


# ---- engines that go away


async def test_texts_that_come_while_the_database_is_away_are_refused_and_come_again(
    rig: Rig, network: Simulator, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        engines, addresses = own_engines(tmp_path, stack, redis=False)
        upgrade(addresses.database_url)
        rig.database_url = addresses.database_url
        serving = await gateway(rig, network, database_url=addresses.database_url)
        network.send(AMINA, "START")
        await heard(network, "ADD", AMINA)
        await asyncio.to_thread(engines.stop)
        for place in range(5):
            network.send(AMINA, f"ADD Friend{place} 072200010{place}")
        await until(lambda: _repeated(network, 10))
        assert network.carrier.counters.mo_answered == 1
        assert "database" in (await _ready(serving))["reasons"]
        await asyncio.to_thread(own_engines, tmp_path, stack, redis=False)
        for place in range(5):
            await heard(network, f"Friend{place}", AMINA, 20.0)
        texts = await kept(rig, serving)
        assert sorted(texts) == [*(f"ADD Friend{place} 072200010{place}" for place in range(5)), "START"]
        await serving.stop()
        await rig.close_watcher()


async def test_texts_flow_on_while_redis_is_away(rig: Rig, network: Simulator, tmp_path: Path) -> None:
    with ExitStack() as stack:
        engines, addresses = own_engines(tmp_path, stack, postgres=False)
        serving = await gateway(rig, network, redis_url=addresses.redis_url)
        await until(lambda: _is_ready(serving))
        await asyncio.to_thread(engines.stop)
        network.send(AMINA, "START")
        await heard(network, "ADD", AMINA)
        network.send(AMINA, "ADD Otieno 0722000111")
        await heard(network, "Otieno", AMINA)
        assert network.carrier.counters.deliver_repeats == 0
        await rig.reached(await serving.desk.database.transact(outbox.enqueue, [one()]), State.DELIVERED)
        assert list((await _ready(serving))["reasons"]) == ["redis"]
        await asyncio.to_thread(own_engines, tmp_path, stack, postgres=False)
        await until(lambda: _is_ready(serving))
        await serving.stop()


def own_engines(folder: Path, stack: ExitStack, **which: bool) -> tuple[Engines, EngineAddresses]:
    """Engines that a test may stop; to call it again starts them again."""
    engines = Engines(folder / "own", durable=False)
    addresses = engines.acquire(**which)
    stack.callback(engines.release)
    return engines, addresses


async def _ready(serving: Serving) -> dict[str, Any]:
    def get() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(serving.url + "/readyz", timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))

    return await asyncio.to_thread(get)


async def _is_ready(serving: Serving) -> bool:
    return (await _ready(serving))["status"] == "ready"


async def _break(rig: Rig, table: str, condition: str) -> None:
    await rig.run(f"""
        create function a_fault() returns trigger language plpgsql as
            $$ begin if {condition} then raise 'a fault of ours'; end if; return new; end $$;
        create trigger a_fault before insert on {table} for each row execute function a_fault()""")


async def _bound(network: Simulator) -> bool:
    return network.carrier.counters.binds >= 1


async def _binds(network: Simulator, count: int) -> bool:
    return network.carrier.counters.binds >= count


async def _refused(network: Simulator, count: int) -> bool:
    return network.carrier.counters.deliver_refused >= count


async def _repeated(network: Simulator, count: int) -> bool:
    return network.carrier.counters.deliver_repeats >= count


async def _has_text(network: Simulator, number: str) -> bool:
    return bool(words_of(network.handset(number)))


async def _inbox_done(rig: Rig, count: int) -> bool:
    return (await rig.rows("select count(*) from inbox where state <> 0"))[0][0] >= count
