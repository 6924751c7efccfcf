"""What goes wrong on a link, and what becomes of the messages: none is lost, none sent more often than allowed."""

import asyncio
import collections

import pytest
from rig import AMINA, LI, Rig, campaign, one, until, words_of

from addressbook import outbox
from addressbook.outbox import Kind, State
from simulator import Simulator

SLOW = {"response_timeout_s": 0.3}


async def once_each(network: Simulator, count: int) -> None:
    """Each text of a campaign stands in the phone's inbox exactly once."""
    seen = collections.Counter(words_of(network.handset(LI)))
    assert seen == {f"text {place}": 1 for place in range(count)}


# ---- answers


@pytest.mark.parametrize("status", [0x58, 0x14])
async def test_a_throttling_carrier_is_given_time_and_nothing_is_lost(
    rig: Rig, network: Simulator, status: int
) -> None:
    network.set_faults({"throttle_next": 25, "throttle_status": status})
    links = await rig.link(network, window=20)
    ids = await links.owe(*campaign(40))
    await rig.reached(ids, State.DELIVERED)
    await once_each(network, 40)
    assert await rig.rows("select distinct attempts from outbox") == [(1,)]
    assert network.carrier.counters.submits == 40 + 25


async def test_while_a_carrier_throttles_its_rows_wait_in_the_table(rig: Rig, network: Simulator) -> None:
    network.set_faults({"throttle_next": 1_000})
    links = await rig.link(network, window=10)
    await links.owe(*campaign(50))

    async def all_back() -> bool:
        found = await rig.rows("select distinct state, attempts from outbox")
        return network.carrier.counters.refused > 0 and found == [(State.QUEUED, 0)]

    await until(all_back)
    assert network.carrier.counters.submits <= 20  # it is not hammered


async def test_an_answer_that_comes_too_late_still_counts(rig: Rig, network: Simulator) -> None:
    network.set_faults({"answer_delay_s": 1.7})
    links = await rig.link(network, **SLOW)
    code, _ = await links.owe(one(words="code 4711", kind=Kind.OTP), one(AMINA, "habari"))
    await rig.reached([code], State.UNKNOWN)
    await rig.reached([code], State.SENT, State.DELIVERED)
    await rig.reached([code], State.DELIVERED)
    assert words_of(network.handset(LI)) == ["code 4711"]


async def test_a_one_time_code_without_an_answer_is_never_sent_again(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_answers": 1, "drop_receipts": 1})
    links = await rig.link(network, **SLOW)
    ids = await links.owe(one(words="code 4711", kind=Kind.OTP))
    await rig.reached(ids, State.UNKNOWN)
    other = await links.owe(one(words="later"))
    await rig.reached(other, State.DELIVERED)
    assert words_of(network.handset(LI)) == ["code 4711", "later"]


async def test_any_other_text_without_an_answer_is_sent_once_more(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_answers": 1, "drop_receipts": 1})
    links = await rig.link(network, **SLOW)
    ids = await links.owe(one(words="notice"))
    await rig.reached(ids, State.DELIVERED)
    assert words_of(network.handset(LI)) == ["notice", "notice"]
    assert await rig.rows("select attempts from outbox") == [(2,)]


async def test_a_text_that_never_gets_an_answer_is_given_up_after_the_second_time(rig: Rig, network: Simulator) -> None:
    network.set_faults({"drop_answers": 100, "drop_receipts": 100})
    links = await rig.link(network, **SLOW)
    ids = await links.owe(one(words="notice"))
    await rig.reached(ids, State.UNKNOWN)
    await asyncio.sleep(2 * SLOW["response_timeout_s"])
    assert words_of(network.handset(LI)) == ["notice", "notice"]


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["first", "middle", "last"])
async def test_a_long_text_of_which_one_part_got_no_answer_is_sent_once_more(
    rig: Rig, network: Simulator, lost: int
) -> None:
    """Whichever of its parts it is: unknown is not failed."""
    links = await rig.link(network, window=1, **SLOW)
    words = "a long text " * 35
    ids = await links.owe(one(words=words))
    await until(lambda: _submits(network, lost))
    network.set_faults({"drop_answers": 1})
    await rig.reached(ids, State.DELIVERED, State.FAILED)
    assert await rig.states(ids) == [State.DELIVERED]
    assert set(words_of(network.handset(LI))) == {words}


async def test_doubled_answers_and_receipts_change_nothing(rig: Rig, network: Simulator) -> None:
    network.set_faults({"double_answers": 20, "double_receipts": 20})
    links = await rig.link(network)
    ids = await links.owe(*campaign(20))
    await rig.reached(ids, State.DELIVERED)
    await once_each(network, 20)
    assert await rig.rows("select count(*), count(distinct message_id) from segment") == [(20, 20)]


async def test_a_text_refused_for_good_fails_with_the_carriers_words(rig: Rig, network: Simulator) -> None:
    network.set_faults({"submit_status": 0x0B})
    links = await rig.link(network)
    ids = await links.owe(one())
    await rig.reached(ids, State.FAILED)
    assert "destination" in str((await rig.rows("select error from outbox"))[0][0]).lower()


async def test_a_text_refused_for_now_waits_for_its_second_chance(rig: Rig, network: Simulator) -> None:
    network.set_faults({"submit_status": 0x08})
    links = await rig.link(network)
    notice, code = await links.owe(one(words="notice"), one(words="code", kind=Kind.OTP))
    await rig.reached([code], State.FAILED)
    await rig.reached([notice], State.QUEUED)
    await until(lambda: _waits(rig, notice))
    network.reset_faults()
    await rig.rows("update outbox set due_at = now() where id = %s returning id", notice)
    await rig.reached([notice], State.DELIVERED)


# ---- the link


async def test_a_link_cut_in_the_middle_of_twenty_texts_delivers_each_once(rig: Rig, network: Simulator) -> None:
    network.set_faults({"cut_after": 10, "refuse_after_cut_s": 0.5})
    links = await rig.link(network, window=20)
    ids = await links.owe(*campaign(20, Kind.PUSH))
    await rig.reached(ids, State.DELIVERED, timeout_s=15)
    await once_each(network, 20)
    assert network.carrier.counters.cuts == 1


async def test_answers_lost_with_the_link_follow_the_rule_of_their_kind(rig: Rig, network: Simulator) -> None:
    """A reset: what was under way may or may not have arrived. Codes stay unknown, the rest goes once more."""
    network.set_faults({"cut_after": 10, "cut_loses_answers": True, "answer_delay_s": 0.3})
    links = await rig.link(network, window=20)
    codes = await links.owe(*[one(AMINA, f"code {place}", Kind.OTP) for place in range(5)])
    pushes = await links.owe(*campaign(5, Kind.PUSH))
    await rig.reached(pushes, State.DELIVERED, timeout_s=15)
    await rig.reached(codes, State.UNKNOWN, State.SENT, State.DELIVERED)
    assert sorted(words_of(network.handset(AMINA))) == [f"code {place}" for place in range(5)]
    texts = collections.Counter(words_of(network.handset(LI)))
    assert set(texts) == {f"text {place}" for place in range(5)}
    assert max(texts.values()) <= 2


async def test_a_carrier_that_refuses_the_password_is_not_asked_again(rig: Rig, network: Simulator) -> None:
    links = await rig.links({"port": network.smpp_port, "password": "wrong1"})
    await links.state("refused")
    error = await rig.network_says("refused")
    assert "password" in str(error).lower()
    before = network.carrier.counters.connections
    await asyncio.sleep(0.8)  # longer than the first back-off
    assert network.carrier.counters.connections == before == 1


async def test_a_carrier_that_refuses_binds_for_now_is_asked_again_ever_more_slowly(
    rig: Rig, network: Simulator
) -> None:
    network.set_faults({"refuse_bind": 0x08})
    links = await rig.links({"port": network.smpp_port})
    await rig.network_says("down")
    await until(lambda: _refused_binds(network, 3))
    network.reset_faults()
    await links.state("up")
    await rig.network_says("up")
    assert network.carrier.counters.binds_refused <= 4


async def test_a_link_that_nobody_serves_is_shown_with_its_reason(rig: Rig) -> None:
    from rig import free_port

    await rig.links({"port": free_port()})
    assert "Connect" in str(await rig.network_says("down"))


async def test_a_carrier_that_never_answers_the_bind_is_shown_as_down(rig: Rig, network: Simulator) -> None:
    """It takes the connection and closes it."""
    network.carrier.refuse_until = asyncio.get_running_loop().time() + 60
    await rig.links({"port": network.smpp_port})
    assert await rig.network_says("down")


async def test_a_link_that_is_only_half_open_is_closed_and_made_anew(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network, enquire_link_s=0.2)
    network.set_faults({"half_open": True})
    await links.state("down")
    assert "enquire_link" in str(links.bind.last_error)
    network.reset_faults()
    await links.state("up")
    ids = await links.owe(one())
    await rig.reached(ids, State.DELIVERED)


async def test_a_quiet_link_lives_on(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network, enquire_link_s=0.1)
    await asyncio.sleep(0.8)
    assert links.bind.state == "up"
    assert network.carrier.counters.connections == 1


async def test_an_unbind_by_the_carrier_is_answered_and_the_link_made_anew(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    next(iter(network.carrier.sessions)).ask_unbind()
    await until(lambda: _binds(network, 2))
    await links.state("up")
    ids = await links.owe(one())
    await rig.reached(ids, State.DELIVERED)


async def test_a_bind_answered_with_the_wrong_command_counts(rig: Rig, network: Simulator) -> None:
    network.set_faults({"bind_answer_wrong_id": True})
    links = await rig.link(network)
    ids = await links.owe(one())
    await rig.reached(ids, State.DELIVERED)


# ---- the database


async def test_answers_that_came_while_the_database_was_away_are_written_down_later(
    rig: Rig, network: Simulator
) -> None:
    network.set_faults({"answer_delay_s": 0.2})
    links = await rig.link(network)
    ids = await links.owe(*campaign(5))
    await until(lambda: _submits(network, 5))
    for _ in range(10):  # every connection, again and again, while the answers come
        await rig.end_backends(holding_locks=False)
        await asyncio.sleep(0.05)
    await rig.reached(ids, State.DELIVERED, timeout_s=15)
    await once_each(network, 5)


async def test_a_lease_that_a_dead_process_left_is_taken_over(rig: Rig, network: Simulator) -> None:
    idle = await rig.links()
    code, notice = await idle.owe(one(words="code", kind=Kind.OTP), one(words="notice"))
    await idle.desk.database.transact(outbox.claim, "carrier-a", 10)
    await rig.link(network)
    await rig.reached([notice], State.DELIVERED)
    await rig.reached([code], State.UNKNOWN)
    assert words_of(network.handset(LI)) == ["notice"]


async def _submits(network: Simulator, count: int) -> bool:
    return network.carrier.counters.submits >= count


async def _binds(network: Simulator, count: int) -> bool:
    return network.carrier.counters.binds >= count


async def _refused_binds(network: Simulator, count: int) -> bool:
    return network.carrier.counters.binds_refused >= count


async def _waits(rig: Rig, outbox_id: int) -> bool:
    return (await rig.rows("select due_at > now() from outbox where id = %s", outbox_id)) == [(True,)]
