"""The rounds of a worker, and what they throw away."""

import threading
import time

import pytest
from sqlalchemy import create_engine, text

from addressbook import consent, contacts, groups, messages, outbox, subscribers, trash
from addressbook.audit import By
from addressbook.contacts import AddContact, DeleteContact
from addressbook.errors import NotFound
from addressbook.groups import DeleteGroup
from addressbook.outbox import Kind, Outgoing
from addressbook.sealed import attach
from addressbook.service import BookSession, session_info
from runtime.database import SyncDatabase, driver_url
from workers import sweep
from workers.jobs import Alarm, Desk
from workers.sweep import Rounds

LI = "+8613900000001"
BY = By("owner", "test", "trace-test")


def count(db: BookSession, table: str) -> int:
    return int(db.execute(text(f"select count(*) from {table}")).scalar_one())


def member(db: BookSession, number: str = LI) -> int:
    person = subscribers.join(db, number, words="START", by=BY)
    db.commit()
    return person.id


# --- what is kept no longer


def test_who_left_is_erased_after_their_time_unless_they_came_back(db: BookSession) -> None:
    gone, back, fresh = (member(db, f"+861390000000{place}") for place in range(3))
    for place in range(3):
        consent.stop(db, f"+861390000000{place}", "STOP", "sms", "trace")
    db.execute(text("update stopped set since = now() - interval '31 days'"))
    db.commit()
    subscribers.join(db, "+8613900000001", words="START", by=BY)
    db.execute(text("update subscriber set state = 'member' where id = :id"), {"id": back})
    db.execute(text("update stopped set since = now() where number_digest = (select number_digest from subscriber"
                    " where id = :id)"), {"id": fresh})  # fmt: skip
    db.commit()
    assert sweep.erase_who_left(db) == 1
    db.commit()
    with pytest.raises(NotFound):
        subscribers.get(db, gone)
    assert subscribers.get(db, back).member
    assert not subscribers.get(db, fresh).member


def test_the_trash_keeps_what_can_still_be_taken_back(db: BookSession) -> None:
    owner = member(db)
    first = contacts.add(db, AddContact(owner, "张三", "13800138000", BY, ("朋友",)))
    second = contacts.add(db, AddContact(owner, "李四", "13900139000", BY, ("球队",)))
    for entry in (first, second):
        contacts.delete(db, DeleteContact(owner, entry.id, BY))
    for group in groups.groups_of(db, owner):
        groups.delete(db, DeleteGroup(owner, group.id, BY))
    assert trash.empty(db) == 0
    db.execute(text("update contact set deleted_at = now() - interval '31 days' where id = :id"), {"id": first.id})
    db.execute(text("update contact_group set deleted_at = now() - interval '31 days' where id in"
                    " (select min(id) from contact_group)"))  # fmt: skip
    assert trash.empty(db) == 2
    assert (count(db, "contact"), count(db, "contact_group"), count(db, "membership")) == (1, 1, 1)


def test_what_a_phone_was_told_to_delete_is_forgotten_with_the_contact(db: BookSession) -> None:
    owner = member(db)
    kept = contacts.add(db, AddContact(owner, "张三", "13800138000", BY))
    db.flush()
    for contact_id, state in ((kept.id, "delivered"), (900, "delivered"), (901, "planned")):
        db.execute(
            text("""insert into handset_entry (owner_id, contact_id, bearer, content, content_digest, state, updated_at)
                    values (:owner, :id, 'card', :content, :digest, :state, now() - interval '31 days')"""),
            {
                "owner": owner,
                "id": contact_id,
                "content": b"",
                "digest": b"x",
                "state": state,
            },
        )
    assert trash.empty(db) == 1
    assert set(db.execute(text("select contact_id from handset_entry")).scalars()) == {kept.id, 901}


def test_the_last_push_stays_and_so_does_what_is_not_finished(db: BookSession) -> None:
    owner, other = member(db), member(db, "+8613900000002")
    for who, state, version, finished in (
        (owner, "delivered", 1, True), (owner, "sent", 2, True), (owner, "delivered", 3, True),
        (owner, "open", None, False), (other, "delivered", 1, True),
    ):  # fmt: skip
        db.execute(
            text("""insert into push (owner_id, state, due_at, to_version, finished_at, trace)
                    values (:who, :state, now(), :version,
                            case when :finished then now() - interval '31 days' end, 't')"""),
            {"who": who, "state": state, "version": version, "finished": finished},
        )
    assert trash.empty(db) == 2
    assert db.execute(text("select to_version from push order by id")).scalars().all() == [3, None, 1]


def test_a_link_that_nobody_reports_leaves_the_table(db: BookSession) -> None:
    for link, seen in (("old", "8 days"), ("new", "1 day")):
        db.execute(
            text(
                """insert into network_status (link, state, seen_at)
                   values (:link, 'up', now() - cast(:seen as interval))"""
            ),
            {"link": link, "seen": seen},
        )
    assert trash.empty(db) == 1
    assert db.execute(text("select link from network_status")).scalar_one() == "new"


def test_what_crashes_left_is_set_right(db: BookSession) -> None:
    outbox.enqueue(db, [Outgoing(LI, b"a", Kind.NOTICE, "t"), Outgoing(LI, b"b", Kind.OTP, "t")])
    db.execute(text("update outbox set state = 1, due_at = null, attempts = 1, lease_until = now() - interval '1 s'"))
    assert sweep.SetRight()(db) == 2
    assert db.execute(text("select state from outbox order by id")).scalars().all() == [0, 7]
    assert messages.forget_keys(db) == 0


# --- the rounds themselves


@pytest.fixture
def desk(database_url: str, db: BookSession, redis_url: str) -> Desk:
    """What a worker shares, with a Redis that is never there."""
    import redis

    service = db.info["service"]
    database = SyncDatabase(database_url, session_class=BookSession, info=session_info(service))
    attach(database.engine, service.keys)
    made = Desk(database, redis.Redis.from_url("unix:///nowhere.sock"))
    database.on_commit = made.ring
    return made


def test_one_process_at_a_time_does_a_task(db: BookSession, database_url: str) -> None:
    engine = create_engine(driver_url(database_url))
    attach(engine, db.info["service"].keys)
    done: list[str] = []
    work = lambda _db: done.append("done") or 1  # type: ignore[func-returns-value]  # noqa: E731
    with BookSession(engine, info=db.info) as other:
        assert sweep.alone(other, "tidy", work) == 1
        assert sweep.alone(db, "tidy", work) == 0
        assert sweep.alone(db, "follow", work) == 1
        other.commit()
    assert sweep.alone(db, "tidy", work) == 1
    assert len(done) == 3
    engine.dispose()


def test_a_task_that_fails_hinders_no_other(desk: Desk, db: BookSession) -> None:
    owner = member(db)
    contacts.add(db, AddContact(owner, "张三", "13800138000", BY))
    db.execute(text("alter table idempotent_request rename to gone"))  # one task of the round cannot work
    db.commit()
    rounds = Rounds(desk)
    thread = threading.Thread(target=rounds.run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while desk.metrics.registry.get_sample_value("smsgw_pushes_planned_total") != 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        while not desk.metrics.registry.get_sample_value("smsgw_worker_troubles_total"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert rounds.alive
    finally:
        desk.alarm.stop()
        thread.join(5)
        desk.database.close()
    assert not thread.is_alive()
    assert count(db, "outbox") == 1


def test_the_alarm_goes_off_at_its_earliest_moment() -> None:
    alarm = Alarm()
    alarm.ring_in(5)
    alarm.ring_in(0.05)
    alarm.ring_in(3)
    began = time.monotonic()
    assert alarm.wait(began + 10)
    assert 0.04 < time.monotonic() - began < 1
    assert not alarm.wait(time.monotonic() + 0.01)  # it went off once


def test_the_alarm_wakes_who_waits_already() -> None:
    alarm = Alarm()
    timer = threading.Timer(0.05, alarm.ring_in, (0,))
    timer.start()
    assert alarm.wait(time.monotonic() + 10)
    timer.join()


def test_a_stopped_alarm_makes_nobody_wait() -> None:
    alarm = Alarm()
    alarm.stop()
    assert not alarm.wait(time.monotonic() + 10)
    assert alarm.stopped
