"""What is finished moves to tables by day; what comes late finds it there; days that are over go."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from addressbook import history, messages, outbox, subscribers, tokens
from addressbook.audit import By
from addressbook.outbox import Accepted, Candidate, Ended, Kind, Outgoing, Receipt, State
from addressbook.service import BookSession, service_of

PHONE = "+8613800138000"


@pytest.fixture
def token(db: BookSession) -> int:
    secret = tokens.add(db, "test")
    found = tokens.find(db, secret)
    assert found is not None
    return found.id


def sent(db: BookSession, token_id: int, words: str = "hello") -> int:
    """One message that left and waits for its receipt."""
    (message,) = outbox.enqueue(db, [Outgoing(PHONE, words.encode(), Kind.NOTICE, "trace", token_id=token_id)])
    outbox.claim(db, "link", 10)
    outbox.record_accepted(db, "link", [Accepted(message, 1, 1, 1, f"id{message}")], [message])
    return message


def grow_old(db: BookSession, hours: int) -> None:
    """Let this much time pass for everything in the hot tables."""
    for statement in (
        "update outbox set finished_at = finished_at - :age, created_at = created_at - :age",
        "update inbox set finished_at = finished_at - :age",
        "update history_mark set at = at - :age",
    ):
        db.execute(text(statement), {"age": timedelta(hours=hours)})


def moved_after(db: BookSession, hours: int = 2) -> int:
    db.execute(text("delete from history_mark where at > now() - interval '1 minute'"))  # of a move just before
    history.move(db)  # leaves a mark
    grow_old(db, hours)
    rows = history.move(db)
    db.commit()
    return rows


def test_what_is_unfinished_or_recent_stays(db: BookSession, token: int) -> None:
    waiting, delivered = sent(db, token), sent(db, token)
    outbox.record_receipts(db, "link", [Receipt(f"id{delivered}", State.DELIVERED, None)])
    history.move(db)
    assert history.move(db) == 0
    assert moved_after(db) == 1
    assert db.scalars(text("select id from outbox")).all() == [waiting]


def test_a_moved_message_is_still_told_to_its_client(db: BookSession, token: int) -> None:
    message = sent(db, token)
    outbox.record_receipts(db, "link", [Receipt(f"id{message}", State.DELIVERED, None)])
    before = messages.state(db, message, token)
    assert moved_after(db) == 1
    after = messages.state(db, message, token)
    assert before is not None
    assert after is not None
    assert after["state"] == "delivered"
    assert [segment["state"] for segment in after["segments"]] == ["delivered"]
    assert messages.state(db, message, token + 1) is None


def test_a_receipt_later_than_the_move_settles_what_was_unknown(db: BookSession, token: int) -> None:
    message = sent(db, token)
    outbox.record_ended(db, [Ended(message, State.UNKNOWN, "no receipt came")])
    assert moved_after(db) == 1
    digest = service_of(db).keys.number_digest(PHONE)
    assert outbox.record_receipts(db, "link", [Receipt(f"id{message}", State.DELIVERED, None)]) == [f"id{message}"]
    stranger = service_of(db).keys.number_digest("+8613800138001")
    outbox.park(db, "link", [Candidate(0, f"id{message}", stranger, State.FAILED, "for another number")])
    outbox.park(db, "link", [Candidate(0, f"id{message}", digest, State.DELIVERED, None)])
    assert history.match_late(db) == 0  # perhaps it is only early
    db.execute(text("update parked_receipt set received_at = received_at - interval '2 minutes'"))
    assert history.match_late(db) == 1
    found = messages.state(db, message, token)
    assert found is not None
    assert found["state"] == "delivered"
    assert db.scalar(text("select count(*) from parked_receipt")) == 1  # the other number's


def test_days_that_are_over_are_dropped_whole(db: BookSession, token: int) -> None:
    for days in (0, 40, 100):
        message = sent(db, token)
        outbox.record_receipts(db, "link", [Receipt(f"id{message}", State.DELIVERED, None)])
        db.commit()
        assert moved_after(db, 2 + 24 * days) == 1
    assert history.drop_old(db) == len(history.TABLES)
    oldest = db.scalar(text("select min(day) from outbox_history"))
    assert oldest > datetime.now(UTC).date() - timedelta(days=90)
    assert history.drop_old(db) == 0


def test_erasing_a_person_reaches_the_history(db: BookSession, token: int) -> None:
    by = By("owner", "sms", "trace")
    person = subscribers.join(db, PHONE, words="START", by=by)
    message = sent(db, token, "something private")
    outbox.record_receipts(db, "link", [Receipt(f"id{message}", State.DELIVERED, None)])
    assert moved_after(db) == 1
    subscribers.erase(db, person.id, by)
    row = db.execute(text("select number, body from outbox_history where id = :id"), {"id": message}).one()
    keys = service_of(db).keys
    assert (keys.open(b"number", row.number), keys.open(b"text", row.body)) == (b"", b"")
