"""Messages for a link that is away go by the one that takes any number."""

import pytest
from sqlalchemy import text

from addressbook import network, outbox
from addressbook.network import LinkStatus
from addressbook.outbox import Kind, Outgoing
from addressbook.service import BookSession, Service, make_service
from workers.sweep import fail_over

LINKS = {"kenya": ["254"], "world": []}


@pytest.fixture
def service(service: Service) -> Service:
    return make_service(service.keys, service.name, "CN", [("20880", prefixes) for prefixes in LINKS.values()])


def link(db: BookSession, name: str, state: str, seconds_ago: int) -> None:
    network.report(db, LinkStatus(name, state, 0, None, None))
    db.execute(
        text("update network_status set since = now() - make_interval(secs => :ago) where link = :link"),
        {"ago": seconds_ago, "link": name},
    )


def claimed_by_world(db: BookSession) -> int:
    outbox.enqueue(db, [Outgoing("+254712345678", b"hello", Kind.NOTICE, "trace")])
    fail_over(db, LINKS)
    return len(outbox.claim(db, "world", 10, others=["254"]))


def test_a_link_that_is_up_keeps_its_messages(db: BookSession) -> None:
    link(db, "kenya", "up", 3_600)
    link(db, "world", "up", 3_600)
    assert claimed_by_world(db) == 0


def test_a_short_break_moves_nothing(db: BookSession) -> None:
    link(db, "kenya", "down", 5)
    link(db, "world", "up", 3_600)
    assert claimed_by_world(db) == 0


def test_a_link_that_is_away_loses_its_messages_to_the_other(db: BookSession) -> None:
    link(db, "kenya", "down", 60)
    link(db, "world", "up", 3_600)
    assert claimed_by_world(db) == 1


def test_a_process_that_died_without_a_word_is_away_too(db: BookSession) -> None:
    link(db, "kenya", "up", 3_600)
    db.execute(text("update network_status set seen_at = now() - interval '1 minute'"))
    link(db, "world", "up", 3_600)
    assert claimed_by_world(db) == 1


def test_without_another_link_everything_waits(db: BookSession) -> None:
    link(db, "kenya", "down", 60)
    link(db, "world", "down", 60)
    assert claimed_by_world(db) == 0
