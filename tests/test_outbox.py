"""What we owe to the phone network: claimed once, in order, recorded once, never more often than its kind allows."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.event import listens_for

from addressbook import consent, outbox
from addressbook.outbox import Accepted, Candidate, Claimed, Encoding, Ended, Kind, Outgoing, Receipt, State
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Service, session_info
from runtime.database import driver_url

LINK = "carrier-a"
LI = "+8613900000001"
AMINA = "+254712000001"


@pytest.fixture
def others(database_url: str, service: Service) -> Iterator[Callable[[], Any]]:
    """others() -> another session on the same database, as another process has one."""
    engine: Engine = create_engine(driver_url(database_url))
    attach(engine, service.keys)
    yield lambda: BookSession(engine, info=session_info(service))
    engine.dispose()


@contextmanager
def routed(db: BookSession, keys: KeyRing, *routes: str) -> Iterator[None]:
    """As if the configuration named these prefixes."""
    before = db.info["service"]
    db.info["service"] = Service(keys=keys, routes=routes)
    yield
    db.info["service"] = before


def owe(db: BookSession, *messages: Outgoing) -> list[int]:
    ids = outbox.enqueue(db, messages)
    db.commit()
    return ids


def one(number: str = LI, kind: Kind = Kind.NOTICE, body: bytes = b"hello", **more: Any) -> Outgoing:
    return Outgoing(number, body, kind, "trace", **more)


def take(db: BookSession, count: int = 100, link: str = LINK, **more: Any) -> list[Claimed]:
    rows = outbox.claim(db, link, count, **more)
    db.commit()
    return rows


def state(db: BookSession, outbox_id: int) -> State:
    found = State(db.scalar(text("select state from outbox where id = :id"), {"id": outbox_id}))
    db.commit()
    return found


def column(db: BookSession, name: str, outbox_id: int) -> Any:
    found = db.scalar(text(f"select {name} from outbox where id = :id"), {"id": outbox_id})
    db.commit()
    return found


def accept(
    db: BookSession, outbox_id: int, message_id: str | None, *, number: int = 1, total: int = 1, attempt: int = 1,
    sent: bool = True, link: str = LINK,
) -> None:  # fmt: skip
    """The carrier took one segment."""
    outbox.record_accepted(
        db, link, [Accepted(outbox_id, number, attempt, total, message_id)], [outbox_id] if sent else []
    )
    db.commit()


def receive(db: BookSession, *receipts: Receipt, link: str = LINK) -> list[str]:
    missed = outbox.record_receipts(db, link, receipts)
    db.commit()
    return missed


def delivered(message_id: str) -> Receipt:
    return Receipt(message_id, State.DELIVERED, None)


def failed(message_id: str) -> Receipt:
    return Receipt(message_id, State.FAILED, "UNDELIV 001")


def age(db: BookSession, outbox_id: int, seconds: int, *columns: str) -> None:
    for name in columns:
        db.execute(
            text(f"update outbox set {name} = {name} - make_interval(secs => :seconds) where id = :id"),
            {"seconds": seconds, "id": outbox_id},
        )
    db.commit()


# ---- enqueue


def test_nothing_to_enqueue_touches_nothing(db: BookSession) -> None:
    assert outbox.enqueue(db, []) == []
    assert "rings" not in db.info


def test_ids_come_in_the_order_of_the_batch(db: BookSession, keys: KeyRing) -> None:
    ids = owe(db, *[one(f"+8613900{place:06}", body=str(place).encode()) for place in range(500)])
    rows = {row.id: keys.open(b"text", row.body) for row in take(db, 500)}
    assert [rows[number] for number in ids] == [str(place).encode() for place in range(500)]


def test_one_message_with_nothing_but_the_least_is_kept(db: BookSession, keys: KeyRing) -> None:
    """A short code has no country, the text is empty, and there is no second message to show where one ends."""
    number = owe(db, one("10086", body=b"", client_ref=""))[0]
    row = take(db)[0]
    assert (row.id, row.sender, keys.open(b"number", row.number), keys.open(b"text", row.body)) == (
        number, None, b"10086", b"",
    )  # fmt: skip


def test_odd_signs_in_what_a_client_gives_stay_with_its_message(db: BookSession) -> None:
    refs = ["a\x1fb", "", "{,}", "NULL", "\\x00", "'", '"', "钥匙", None]
    ids = owe(db, *[one(client_ref=ref, sender=f"S{place}") for place, ref in enumerate(refs)])
    found = [(column(db, "client_ref", number), column(db, "sender", number)) for number in ids]
    assert [sender for _, sender in found] == [f"S{place}" for place in range(len(refs))]
    assert [ref for ref, _ in found][2:] == refs[2:]


def test_a_number_that_said_stop_gets_nothing_queued(db: BookSession) -> None:
    consent.stop(db, LI, "STOP", "sms", "trace")
    db.commit()
    stopped, other = owe(db, one(LI), one(AMINA))
    assert state(db, stopped) is State.CANCELLED
    assert column(db, "finished_at", stopped) is not None
    assert state(db, other) is State.QUEUED


def test_stop_cancels_what_waits_and_only_for_that_number(db: BookSession) -> None:
    first, second, other = owe(db, one(LI), one(LI, Kind.CAMPAIGN), one(AMINA))
    consent.stop(db, LI, "STOP", "sms", "trace")
    db.commit()
    assert [state(db, number) for number in (first, second, other)] == [
        State.CANCELLED,
        State.CANCELLED,
        State.QUEUED,
    ]


def test_the_words_and_the_number_are_sealed(db: BookSession) -> None:
    number = owe(db, one(LI, body="密码 4711 for Zhang".encode(), client_ref="ref"))[0]
    db.execute(
        text("insert into segment (outbox_id, number, attempt, total, link, state) values (:id, 1, 1, 1, 'x', 2)"),
        {"id": number},
    )
    row = db.execute(text("select * from outbox")).one()
    stored = b"\n".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
    for secret in (LI.encode(), LI[1:].encode(), LI[5:].encode(), b"4711", "密码".encode(), b"Zhang"):
        assert secret not in stored


def test_the_rings_of_a_transaction_that_fails_are_forgotten(db: BookSession) -> None:
    outbox.enqueue(db, [one()])
    assert db.info["rings"] == {"outbox"}
    db.rollback()
    assert "rings" not in db.info


# ---- claim


def test_a_message_that_came_too_late_is_not_sent(db: BookSession) -> None:
    late, due = owe(db, one(validity_s=1), one())
    age(db, late, 2, "valid_until")
    rows = {row.id: row.refused for row in take(db)}
    assert rows == {late: True, due: False}
    assert state(db, late) is State.EXPIRED
    assert column(db, "lease_until", late) is None


def test_stop_holds_for_a_message_that_escaped_the_cancelling(db: BookSession, keys: KeyRing) -> None:
    number = owe(db, one(LI))[0]
    db.execute(text("insert into stopped (number_digest) values (:digest)"), {"digest": keys.number_digest(LI)})
    db.commit()
    assert [(row.id, row.refused) for row in take(db)] == [(number, True)]
    assert state(db, number) is State.CANCELLED


def test_the_most_urgent_goes_first_then_the_oldest(db: BookSession) -> None:
    campaign, push, first_code, second_code, reply = owe(
        db, one(kind=Kind.CAMPAIGN), one(kind=Kind.PUSH), one(kind=Kind.OTP), one(AMINA, Kind.OTP),
        one(AMINA, Kind.REPLY),
    )  # fmt: skip
    assert [row.id for row in take(db, 2)] == [first_code, second_code]
    assert [row.id for row in take(db)] == [reply, push, campaign]


def test_urgency_counts_across_routes(db: BookSession, keys: KeyRing) -> None:
    with routed(db, keys, "254"):
        _slow, _slower, code = owe(db, one(LI), one(LI), one(AMINA, Kind.OTP))
    assert [row.id for row in take(db, 1)] == [code]


def test_a_message_is_not_claimed_before_it_is_due(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    outbox.put_back(db, [number], 60.0)
    db.commit()
    assert take(db) == []
    age(db, number, 61, "due_at")
    assert [row.id for row in take(db)] == [number]


def test_a_link_claims_its_own_routes_only(db: BookSession, keys: KeyRing) -> None:
    with routed(db, keys, "254", "25471"):
        safaricom, airtel, china, short = owe(db, one(AMINA), one("+254733000001"), one(LI), one("10086"))
    assert [row.id for row in take(db, routes=["25471"], any_route=False)] == [safaricom]
    assert [row.id for row in take(db, any_route=True, others=["254", "25471"])] == [china, short]
    assert [row.id for row in take(db, routes=["254"], any_route=False)] == [airtel]


def test_a_link_without_prefixes_takes_every_route_that_no_other_has(db: BookSession) -> None:
    numbers = ["+4915112345678", "+33612345678", "+12025550123", LI, AMINA, "10086"]
    ids = owe(db, *map(one, numbers))
    assert sorted(row.id for row in take(db)) == ids


def test_two_processes_never_get_the_same_message(db: BookSession, others: Callable[[], Any]) -> None:
    ids = owe(db, *[one(f"+8613900{place:06}") for place in range(50)])
    with others() as other:
        mine = outbox.claim(db, LINK, 30)  # not committed: its rows are locked
        theirs = outbox.claim(other, "carrier-b", 50)
        other.commit()
        db.commit()
        rest = outbox.claim(other, "carrier-b", 50)
        other.commit()
    got = [row.id for row in (*mine, *theirs, *rest)]
    assert sorted(got) == ids
    assert len(mine) == 30


def test_a_claim_takes_no_more_than_was_asked_for(db: BookSession) -> None:
    owe(db, *[one() for _ in range(5)])
    assert len(take(db, 3)) == 3
    assert len(take(db, 3)) == 2


# ---- leases


@pytest.mark.parametrize(
    ("kind", "attempts", "expected"),
    [
        (Kind.OTP, 1, State.UNKNOWN),
        (Kind.USSD, 1, State.UNKNOWN),
        *[(kind, 1, State.QUEUED) for kind in Kind if kind not in (Kind.OTP, Kind.USSD)],
        (Kind.REPLY, 2, State.QUEUED),  # claimed by two processes that died, and most likely never sent
        (Kind.REPLY, outbox.ORPHANED_MAX, State.UNKNOWN),
        (Kind.CAMPAIGN, outbox.ORPHANED_MAX, State.UNKNOWN),
    ],
)
def test_a_lease_that_ended_follows_the_rule_of_its_kind(
    db: BookSession, kind: Kind, attempts: int, expected: State
) -> None:
    number = owe(db, one(kind=kind))[0]
    for attempt in range(attempts):
        assert [row.attempts for row in take(db)] == [attempt + 1]
        age(db, number, 100, "lease_until")
        assert outbox.end_leases(db) == 1
        db.commit()
    assert state(db, number) is expected
    assert (column(db, "finished_at", number) is None) == (expected is State.QUEUED)


def test_a_lease_that_still_runs_is_left_alone(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    assert outbox.sweep(db) == 0
    db.commit()
    assert state(db, number) is State.CLAIMED


def test_the_new_owner_of_a_link_ends_the_leases_of_that_link_only(db: BookSession) -> None:
    orphan = owe(db, one())[0]
    take(db, link="carrier-a")
    alive = owe(db, one(AMINA))[0]
    take(db, link="carrier-b")
    assert outbox.end_leases(db, "carrier-a") == 1
    assert db.info["rings"] == {"outbox"}
    db.commit()
    assert (state(db, orphan), state(db, alive)) == (State.QUEUED, State.CLAIMED)


def test_what_was_sent_is_not_resent_by_a_new_owner(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1")
    assert outbox.end_leases(db, LINK) == 0
    db.commit()
    assert state(db, number) is State.SENT


# ---- putting back


def test_what_was_never_written_does_not_use_up_an_attempt(db: BookSession) -> None:
    number = owe(db, one(kind=Kind.OTP))[0]
    take(db)
    outbox.put_back(db, [number])
    db.commit()
    assert [(row.id, row.attempts) for row in take(db)] == [(number, 1)]


def test_what_may_have_left_uses_up_an_attempt(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    outbox.put_back(db, [number], attempt_counts=True)
    db.commit()
    assert [(row.id, row.attempts) for row in take(db)] == [(number, 2)]


def test_putting_back_what_was_sent_meanwhile_changes_nothing(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1")
    outbox.put_back(db, [number])
    db.commit()
    assert state(db, number) is State.SENT
    assert take(db) == []


# ---- answers and receipts


def test_a_receipt_for_an_unknown_id_is_given_back(db: BookSession) -> None:
    assert receive(db, delivered("nobody")) == ["nobody"]


def test_an_id_belongs_to_its_carrier(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1", link="carrier-a")
    assert receive(db, delivered("a1"), link="carrier-b") == ["a1"]
    assert state(db, number) is State.SENT
    assert receive(db, delivered("a1"), link="carrier-a") == []
    assert state(db, number) is State.DELIVERED


def test_a_receipt_ends_a_message_and_its_repeat_changes_nothing(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1")
    assert receive(db, delivered("a1")) == []
    finished = column(db, "finished_at", number)
    assert receive(db, failed("a1")) == []
    assert state(db, number) is State.DELIVERED
    assert column(db, "finished_at", number) == finished


def test_a_failure_keeps_the_carriers_words(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1")
    receive(db, failed("a1"))
    assert (state(db, number), column(db, "error", number)) == (State.FAILED, "UNDELIV 001")


def test_a_doubled_answer_changes_nothing(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1")
    receive(db, delivered("a1"))
    accept(db, number, "a2")
    assert state(db, number) is State.DELIVERED
    assert db.scalars(text("select message_id from segment")).all() == ["a1"]


def test_a_late_answer_takes_back_a_repeat_that_is_queued(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    outbox.put_back(db, [number], attempt_counts=True)  # no answer in time
    db.commit()
    accept(db, number, "a1")
    assert state(db, number) is State.SENT
    assert take(db) == []


def test_a_late_answer_ends_the_doubt_about_a_message(db: BookSession) -> None:
    number = owe(db, one(kind=Kind.OTP))[0]
    take(db)
    outbox.record_ended(db, [Ended(number, State.UNKNOWN, "no answer")])
    db.commit()
    assert state(db, number) is State.UNKNOWN
    accept(db, number, "a1")
    assert (state(db, number), column(db, "finished_at", number)) == (State.SENT, None)
    receive(db, delivered("a1"))
    assert state(db, number) is State.DELIVERED


def test_a_receipt_that_came_before_its_answer_is_matched_later(db: BookSession, keys: KeyRing) -> None:
    number = owe(db, one())[0]
    take(db)
    digest = keys.number_digest(LI)
    outbox.park(db, LINK, [Candidate(0, "a1", digest, State.DELIVERED, None)])
    db.commit()
    assert outbox.match_parked(db, LINK) == 0
    assert outbox.any_parked(db, LINK)
    accept(db, number, "a1")
    assert outbox.match_parked(db, LINK) == 1
    db.commit()
    assert state(db, number) is State.DELIVERED
    assert not outbox.any_parked(db, LINK)


def test_a_parked_receipt_of_another_number_is_not_matched(db: BookSession, keys: KeyRing) -> None:
    number = owe(db, one(LI))[0]
    take(db)
    outbox.park(db, LINK, [Candidate(0, "a1", keys.number_digest(AMINA), State.FAILED, "UNDELIV")])
    accept(db, number, "a1")
    assert outbox.match_parked(db, LINK) == 0
    db.commit()
    assert state(db, number) is State.SENT


def test_an_id_that_can_be_read_in_two_ways_goes_to_the_right_number(db: BookSession, keys: KeyRing) -> None:
    """ "10" is ten, or sixteen in hexadecimal: two messages of one link may have these keys."""
    ten, sixteen = owe(db, one(LI), one(AMINA))
    take(db)
    accept(db, ten, "10")
    accept(db, sixteen, "16")

    def candidates(number: str) -> Sequence[Candidate]:
        digest = keys.number_digest(number)
        return [Candidate(0, key, digest, State.DELIVERED, None) for key in ("10", "16")]

    assert outbox.resolve(db, LINK, candidates(AMINA)) == {0: "16"}
    assert outbox.resolve(db, LINK, candidates(LI)) == {0: "10"}
    assert outbox.resolve(db, LINK, candidates("+8613900000009")) == {}


def test_the_likeliest_reading_wins_where_both_messages_went_to_one_number(db: BookSession, keys: KeyRing) -> None:
    first, second = owe(db, one(LI), one(LI))
    take(db)
    accept(db, first, "10")
    accept(db, second, "16")
    digest = keys.number_digest(LI)
    found = outbox.resolve(db, LINK, [Candidate(7, key, digest, State.DELIVERED, None) for key in ("16", "10")])
    assert found == {7: "16"}


def test_a_long_message_is_delivered_when_all_its_parts_are(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    for part in (1, 2, 3):
        accept(db, number, f"p{part}", number=part, total=3, sent=part == 3)
    receive(db, delivered("p1"), delivered("p3"))
    assert state(db, number) is State.SENT
    receive(db, delivered("p2"))
    assert state(db, number) is State.DELIVERED


def test_a_long_message_fails_with_the_first_part_that_fails(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    for part in (1, 2, 3):
        accept(db, number, f"p{part}", number=part, total=3, sent=part == 3)
    receive(db, delivered("p1"), failed("p2"))
    assert state(db, number) is State.FAILED
    receive(db, delivered("p3"))
    assert state(db, number) is State.FAILED


def test_parts_of_two_attempts_make_a_whole(db: BookSession) -> None:
    """The link broke between two parts, and the whole was sent again: each part arrived once at least."""
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "a1", number=1, total=2, sent=False)
    outbox.put_back(db, [number], attempt_counts=True)
    db.commit()
    take(db)
    accept(db, number, "b1", number=1, total=2, attempt=2, sent=False)
    accept(db, number, "b2", number=2, total=2, attempt=2)
    receive(db, delivered("a1"), delivered("b2"))
    assert state(db, number) is State.DELIVERED


def test_an_answer_that_is_committed_while_its_receipt_is_matched_loses_nothing(
    db: BookSession, others: Callable[[], Any]
) -> None:
    """Not matched, because the answer was not there; not parked, because a moment later it was."""
    number = owe(db, one())[0]
    take(db)

    @listens_for(db.get_bind(), "after_cursor_execute", once=True)
    def answer_now(*_: object) -> None:
        with others() as other:
            accept(other, number, "a1")

    missed = receive(db, delivered("a1"))
    assert missed == ["a1"] or state(db, number) is State.DELIVERED


def test_two_links_that_bring_the_receipts_of_a_long_message_at_once_complete_it(
    db: BookSession, others: Callable[[], Any]
) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, "p1", number=1, total=2, sent=False)
    accept(db, number, "p2", number=2, total=2)

    def second() -> None:
        with others() as other:
            receive(other, delivered("p2"))

    outbox.record_receipts(db, LINK, [delivered("p1")])  # not committed
    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.3)  # long enough to match and to count, if nothing held it back
    db.commit()
    thread.join(10)
    assert state(db, number) is State.DELIVERED


def test_many_receipts_in_one_batch_find_each_its_message(db: BookSession) -> None:
    ids = owe(db, *[one(f"+8613900{place:06}") for place in range(200)])
    take(db, 200)
    outbox.record_accepted(db, LINK, [Accepted(number, 1, 1, 1, f"id{number}") for number in ids], ids)
    db.commit()
    missed = receive(db, *[delivered(f"id{n}") if n % 2 else failed(f"id{n}") for n in ids], delivered("nobody"))
    assert missed == ["nobody"]
    for number in ids:
        assert state(db, number) is (State.DELIVERED if number % 2 else State.FAILED)


def test_words_of_a_carrier_cannot_break_the_batch(db: BookSession) -> None:
    first, second = owe(db, one(LI), one(AMINA))
    take(db)
    accept(db, first, "a\x1fb")
    accept(db, second, "c'd\\ \"{,}")
    receive(db, Receipt("a\x1fb", State.FAILED, "e\x1f f"), Receipt("c'd\\ \"{,}", State.FAILED, "NULL"))
    assert (state(db, first), state(db, second)) == (State.FAILED, State.FAILED)
    assert column(db, "error", second) == "NULL"


def test_an_id_that_names_nothing_is_stored_as_none(db: BookSession) -> None:
    number = owe(db, one())[0]
    take(db)
    accept(db, number, None)
    assert db.execute(text("select message_id, state from segment")).one() == (None, 2)
    assert state(db, number) is State.SENT


# ---- the sweep


def test_a_message_without_a_receipt_ends_as_unknown_after_its_validity(db: BookSession) -> None:
    number, young = owe(db, one(), one(AMINA))
    take(db)
    accept(db, number, "a1")
    accept(db, young, "a2")
    age(db, number, 86_400 + 3_700, "valid_until")
    assert outbox.sweep(db) == 1
    db.commit()
    assert (state(db, number), state(db, young)) == (State.UNKNOWN, State.SENT)
    receive(db, delivered("a1"))  # it may come all the same
    assert state(db, number) is State.DELIVERED


def test_parked_receipts_are_not_kept_for_ever(db: BookSession, keys: KeyRing) -> None:
    digest = keys.number_digest(LI)
    outbox.park(db, LINK, [Candidate(0, "a1", digest, State.DELIVERED, None)])
    db.commit()
    assert outbox.sweep(db) == 0
    db.execute(text("update parked_receipt set received_at = now() - interval '2 hours'"))
    assert outbox.sweep(db) == 1
    assert not outbox.any_parked(db, LINK)


def test_binary_bodies_are_kept_as_they_are(db: BookSession, keys: KeyRing) -> None:
    body = bytes(range(256))
    owe(db, one(body=body, encoding=Encoding.BINARY))
    assert [(row.encoding, keys.open(b"text", row.body)) for row in take(db)] == [(Encoding.BINARY, body)]
