"""Where no receipt comes, the carrier is asked."""

import asyncio

import pytest
from rig import Rig, one

from addressbook.outbox import State
from simulator import Simulator
from smsgw import asking


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask at once, instead of after ten minutes."""
    monkeypatch.setattr(asking, "ASK_AFTER_S", 0.2)
    monkeypatch.setattr(asking, "ROUND_S", 0.2)


async def test_without_a_receipt_the_carrier_is_asked(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_receipts": 2, "message_ids": "zero padded upper"})
    links = await rig.link(network, override={"query_sm": True})
    ids = await links.owe(one(), one())
    await rig.reached(ids, State.DELIVERED)


async def test_what_the_carrier_says_failed_has_failed(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_receipts": 1, "unknown_number_fails": True})
    links = await rig.link(network, override={"query_sm": True})
    ids = await links.owe(one("+8613900000999"))
    await rig.reached(ids, State.FAILED)


async def test_a_link_that_does_not_take_questions_is_not_asked(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_receipts": 1})
    links = await rig.link(network)
    ids = await links.owe(one())
    await rig.reached(ids, State.SENT)
    await asyncio.sleep(1.0)
    assert await rig.states(ids) == [State.SENT]
