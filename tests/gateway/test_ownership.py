"""One owner for each link: a second process waits, and takes over when the first is gone."""

import asyncio
import collections

from rig import AMINA, LI, Rig, campaign, one, until, words_of

from addressbook import network as link_table
from addressbook.outbox import Kind, State
from simulator import Simulator


async def test_a_second_process_waits_and_does_not_disturb_the_first(rig: Rig, network: Simulator) -> None:
    first = await rig.link(network)
    second = await rig.links({"port": network.smpp_port})
    await second.state("waiting")
    ids = await second.owe(*campaign(10))
    await rig.reached(ids, State.DELIVERED)
    await asyncio.sleep(0.3)
    assert (first.bind.state, second.bind.state) == ("up", "waiting")
    assert await rig.network() == ("up", None)
    assert network.carrier.counters.connections == 1


async def test_the_second_takes_over_when_the_first_stops(rig: Rig, network: Simulator) -> None:
    first = await rig.link(network)
    second = await rig.links({"port": network.smpp_port})
    await second.state("waiting")
    await first.stop()
    await second.state("up")
    await rig.reached(await second.owe(one()), State.DELIVERED)
    await rig.network_says("up")


async def test_the_second_takes_over_when_the_first_loses_its_lock(rig: Rig, network: Simulator) -> None:
    """The first is alive but can no longer prove that it is alone: it lets go of the link by itself."""
    first = await rig.link(network, max_segments_per_second=20, window=5)
    second = await rig.links({"port": network.smpp_port, "max_segments_per_second": 20, "window": 5})
    await second.state("waiting")
    notices = await first.owe(*campaign(60))
    codes = await first.owe(*[one(AMINA, f"code {place}", Kind.OTP) for place in range(5)])
    await until(lambda: _accepted(network, 10))
    assert await rig.end_backends(holding_locks=True) == 1
    await second.state("up")
    await first.state("waiting")
    await rig.reached(notices, State.DELIVERED, timeout_s=15)
    await rig.reached(codes, State.DELIVERED, State.UNKNOWN)
    assert max(collections.Counter(words_of(network.handset(AMINA))).values()) == 1
    texts = collections.Counter(words_of(network.handset(LI)))
    assert set(texts) == {f"text {place}" for place in range(60)}
    assert sum(texts.values()) <= 60 + 5 + 4  # the window, and what was claimed ahead of it
    assert len(network.carrier.as_json()["links"]) == 1


async def test_what_a_killed_process_held_is_sent_by_the_next(rig: Rig, network: Simulator) -> None:
    network.set_faults({"answer_delay_s": 0.5})
    first = await rig.link(network, window=3)
    ids = await first.owe(*campaign(10))
    await until(lambda: _accepted(network, 3))
    first.kill()
    network.carrier.cut(answers_lost=True)
    network.reset_faults()
    await rig.link(network, window=3)
    await rig.reached(ids, State.DELIVERED)
    texts = collections.Counter(words_of(network.handset(LI)))
    assert set(texts) == {f"text {place}" for place in range(10)}
    assert sum(texts.values()) <= 10 + 3  # doubles: the window at most


async def test_the_row_of_a_process_that_died_says_so(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    await rig.network_says("up")
    await links.stop()
    await rig.rows("update network_status set state = 'up', seen_at = now() - interval '16 seconds' returning 1")
    rows = await links.desk.database.transact(link_table.table)
    assert [(row["link"], row["state"]) for row in rows] == [("carrier-a", "lost")]


async def test_the_row_of_a_link_says_since_when_and_when_it_last_worked(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    await rig.network_says("up")
    since = await rig.rows("select since from network_status")
    await rig.reached(await links.owe(one()), State.DELIVERED)

    async def worked() -> bool:
        return await rig.rows("select last_success_at is not null, queue from network_status") == [(True, 0)]

    await until(worked, 5.0)
    assert await rig.rows("select since from network_status") == since


async def test_a_link_finds_its_way_back_after_the_database_was_away(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    await rig.end_backends(holding_locks=True)
    await rig.end_backends(holding_locks=False)
    await until(lambda: _bound_again(network))
    await links.state("up")
    await rig.reached(await links.owe(one()), State.DELIVERED)


async def _accepted(network: Simulator, count: int) -> bool:
    return network.carrier.counters.accepted >= count


async def _bound_again(network: Simulator) -> bool:
    return network.carrier.counters.binds >= 2
