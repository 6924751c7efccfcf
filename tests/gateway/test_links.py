"""A link to a carrier from bind to unbind: what is queued arrives at the phone, and the receipt comes back."""

import asyncio

import pytest
from rig import AMINA, LI, Rig, campaign, one, until, words_of

from addressbook.outbox import Kind, State
from simulator import Simulator


async def test_a_text_is_delivered_and_its_receipt_recorded(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    ids = await links.owe(one(LI, "hello 张三"), one(AMINA, "habari"))
    await rig.reached(ids, State.DELIVERED)
    assert words_of(network.handset(LI)) == ["hello 张三"]
    assert words_of(network.handset(AMINA)) == ["habari"]
    assert await rig.network() == ("up", None)


async def test_a_long_text_arrives_whole_and_is_delivered_with_its_last_part(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    words = "这是一条很长的短信。" * 40
    ids = await links.owe(one(LI, words))
    await rig.reached(ids, State.DELIVERED)
    assert words_of(network.handset(LI)) == [words]
    segments = await rig.rows("select number, total, state from segment order by number")
    assert segments == [(number, 6, State.DELIVERED) for number in range(1, 7)]


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"long_messages": "sar"}, id="sar"),
        pytest.param({"long_messages": "payload"}, id="payload"),
        pytest.param({"reference_bits": 16}, id="16-bit references"),
        pytest.param({"validity_form": "relative"}, id="relative validity"),
        pytest.param({"validity_form": "none"}, id="no validity"),
    ],
)
async def test_every_way_to_send_a_long_text_arrives(rig: Rig, network: Simulator, override: dict[str, object]) -> None:
    links = await rig.link(network, override=override)
    for words in ("a [long] text in GSM 7-bit. " * 12, "一条很长的短信。" * 20):
        ids = await links.owe(one(LI, words))
        await rig.reached(ids, State.DELIVERED)
        assert words_of(network.handset(LI))[-1] == words


@pytest.mark.parametrize("alphabet", ["ascii", "latin1"])
async def test_a_link_whose_default_alphabet_lacks_a_character_sends_ucs2(
    rig: Rig, network: Simulator, alphabet: str
) -> None:
    links = await rig.link(network, override={"alphabet": alphabet})
    ids = await links.owe(one(LI, "Δ and Ω"))
    await rig.reached(ids, State.DELIVERED)
    assert words_of(network.handset(LI)) == ["Δ and Ω"]
    assert network.carrier.history[-1].data_coding == 8


async def test_senders_are_shown_as_asked_for(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    ids = await links.owe(one(), one(sender="+254700000000"), one(sender="Friends"))
    await rig.reached(ids, State.DELIVERED)
    shown = [(m.source.ton, m.source.npi, m.source.digits) for m in network.carrier.history]
    assert shown == [(3, 0, "20880"), (1, 1, "254700000000"), (5, 0, "Friends")]


async def test_a_sender_that_no_phone_can_show_fails_alone(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    bad, good = await links.owe(one(sender="a name much too long"), one(words="good"))
    await rig.reached([good], State.DELIVERED)
    await rig.reached([bad], State.FAILED)
    assert words_of(network.handset(LI)) == ["good"]


async def test_a_row_that_does_not_open_with_our_keys_fails_alone(rig: Rig, network: Simulator) -> None:
    idle = await rig.links()
    lost, good = await idle.owe(one(words="lost"), one(words="good"))
    await rig.rows("update outbox set body = '\\x09'::bytea || substr(body, 2) where id = %s returning id", lost)
    await rig.link(network)
    await rig.reached([good], State.DELIVERED)
    await rig.reached([lost], State.FAILED)
    assert words_of(network.handset(LI)) == ["good"]


async def test_a_text_that_was_queued_before_the_link_was_up_goes_at_once(rig: Rig, network: Simulator) -> None:
    desk_only = await rig.links()
    ids = await desk_only.owe(*campaign(30))
    await rig.link(network)
    await rig.reached(ids, State.DELIVERED)
    assert words_of(network.handset(LI)) == [f"text {place}" for place in range(30)]


async def test_a_text_leaves_within_a_moment_of_its_commit(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network)
    await asyncio.sleep(0.1)  # idle
    loop = asyncio.get_running_loop()
    spans = []
    for place in range(5):
        began = loop.time()
        await links.owe(one(words=f"{place}"))
        await network.handset(LI).wait_inbox(lambda item, place=place: item.text == f"{place}")
        spans.append(loop.time() - began)
    assert sorted(spans)[2] < 0.15, spans


async def test_an_urgent_text_overtakes_a_queued_campaign(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network, max_segments_per_second=20)
    await links.owe(*campaign(60, Kind.CAMPAIGN))
    await until(lambda: _seen(network, 5))
    code = await links.owe(one(words="your code: 4711", kind=Kind.OTP))
    await rig.reached(code, State.DELIVERED)
    assert len(words_of(network.handset(LI))) < 25  # of 61


async def test_an_urgent_text_overtakes_on_a_slow_link_without_a_limit(rig: Rig, network: Simulator) -> None:
    network.set_faults({"answer_delay_s": 0.2})
    links = await rig.link(network, window=4)
    await links.owe(*campaign(60, Kind.CAMPAIGN))
    await until(lambda: _seen(network, 4))
    code = await links.owe(one(words="your code: 4711", kind=Kind.OTP))
    await rig.reached(code, State.DELIVERED)
    assert len(words_of(network.handset(LI))) < 25  # of 61


@pytest.mark.parametrize("answer_delay_s", [0.0, 0.3])
async def test_the_pace_of_a_link_is_kept_in_segments(rig: Rig, network: Simulator, answer_delay_s: float) -> None:
    """Forty segments at forty a second: not faster than agreed, and not slower because answers take their time."""
    network.set_faults({"answer_delay_s": answer_delay_s})
    links = await rig.link(network, max_segments_per_second=40)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await links.owe(*[one(words="x" * 200) for _ in range(20)])  # two segments each
    await until(lambda: _seen(network, 40))
    span = loop.time() - began
    assert 0.8 < span < 1.4, span


async def test_a_window_is_never_exceeded(rig: Rig, network: Simulator) -> None:
    network.set_faults({"answer_delay_s": 0.05})
    links = await rig.link(network, window=3)
    ids = await links.owe(*campaign(20))
    most = 0
    while State.CLAIMED in await rig.states(ids) or State.QUEUED in await rig.states(ids):
        counters = network.carrier.counters
        answered = await rig.rows("select count(*) from segment")
        most = max(most, counters.submits - answered[0][0])
        await asyncio.sleep(0.005)
    assert 1 < most <= 3


async def test_a_stop_drains_what_is_under_way_and_unbinds(rig: Rig, network: Simulator) -> None:
    network.set_faults({"answer_delay_s": 0.3})
    links = await rig.link(network, window=5)
    ids = await links.owe(*campaign(40))
    await until(lambda: _seen(network, 5))
    await links.stop()
    states = await rig.states(ids)
    assert set(states) <= {State.SENT, State.DELIVERED, State.QUEUED}
    assert sum(state is not State.QUEUED for state in states) == network.carrier.counters.accepted
    attempts = await rig.rows("select distinct attempts from outbox where state = 0")
    assert attempts == [(0,)]  # what never left does not count as an attempt
    assert await rig.network() == ("down", "stopped")
    assert network.carrier.as_json()["links"] == []


async def test_stop_said_while_a_campaign_is_queued_ends_it(rig: Rig, network: Simulator) -> None:
    from addressbook import consent

    links = await rig.link(network, max_segments_per_second=20)
    ids = await links.owe(*campaign(40, Kind.CAMPAIGN))
    await until(lambda: _seen(network, 3))
    await links.desk.database.transact(consent.stop, LI, "STOP", "sms", "trace")
    at_stop = network.carrier.counters.accepted
    await rig.reached(ids, State.DELIVERED, State.CANCELLED)
    assert State.CANCELLED in await rig.states(ids)
    assert network.carrier.counters.accepted <= at_stop + 8  # what was claimed already: 200 ms of the link


async def test_a_text_that_became_too_late_is_not_sent(rig: Rig, network: Simulator) -> None:
    links = await rig.links({"port": network.smpp_port})
    ids = await links.owe(one(validity_s=-5), one(words="in time"))
    await rig.reached(ids, State.DELIVERED, State.EXPIRED)
    assert words_of(network.handset(LI)) == ["in time"]


async def _seen(network: Simulator, accepted: int) -> bool:
    return network.carrier.counters.accepted >= accepted
