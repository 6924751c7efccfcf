"""Finished messages move out of the hot tables in bulk, into tables partitioned by day; a partition is dropped whole.

    outbox, segment, inbox ─ finished an hour ago ─> outbox_history, segment_history, inbox_history ─ 90 days ─> dropped

So the hot tables hold what is unfinished and the last hour, for ever. A receipt that comes later than that is parked
first, as one that comes too early is, and finds its segment here.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook.service import service_of

HOT_KEPT_S = 3_600
MARK_EVERY_S = 60
MOVED_AT_ONCE = 5_000  # rows in one transaction: about 0.2 s
LATE_AFTER_S = 60  # a receipt parked for so long is not early but late
TABLES = ("outbox_history", "segment_history", "inbox_history")

_MARK = text("""
    insert into history_mark (at, outbox_id, inbox_id)
    select now(), coalesce((select max(id) from outbox), 0), coalesce((select max(id) from inbox), 0)
     where not exists (select from history_mark where at > now() - make_interval(secs => :every_s))""")

# The last mark of before the hot hour stays, as the bound.
_FORGET_MARKS = text("""
    delete from history_mark
     where at < (select max(at) from history_mark where at < now() - make_interval(secs => :kept_s))""")

_DAYS = text("""
    select distinct cast(finished_at at time zone 'utc' as date) from (
        select finished_at from outbox where id = any(cast(:outbox as bigint[]))
         union all
        select finished_at from inbox where id = any(cast(:inbox as bigint[]))) f""")

_OLD_OUTBOX = text("""
    select id from outbox
     where id <= (select outbox_id from history_mark where at < now() - make_interval(secs => :kept_s)
                   order by at desc limit 1)
       and state >= 3 and finished_at < now() - make_interval(secs => :kept_s)
     order by id limit :count for update skip locked""")

_OLD_INBOX = text("""
    select id from inbox
     where id <= (select inbox_id from history_mark where at < now() - make_interval(secs => :kept_s)
                   order by at desc limit 1)
       and state >= 1 and finished_at < now() - make_interval(secs => :kept_s)
     order by id limit :count for update skip locked""")

_MOVE_OUTBOX = text("""
    with message as (
        delete from outbox where id = any(cast(:ids as bigint[])) returning *
    ), part as (
        delete from segment where outbox_id = any(cast(:ids as bigint[])) returning *
    ), kept as (
        insert into outbox_history (id, day, kind, state, attempts, encoding, number, number_digest, sender, body,
                                    created_at, finished_at, push_id, token_id, client_ref, error, trace)
        select id, cast(finished_at at time zone 'utc' as date), kind, state, attempts, encoding, number,
               number_digest, sender, body, created_at, finished_at, push_id, token_id, client_ref, error, trace
          from message
    )
    insert into segment_history (outbox_id, number, attempt, day, total, link, message_id, state, error,
                                 submitted_at, done_at)
    select p.outbox_id, p.number, p.attempt, cast(m.finished_at at time zone 'utc' as date), p.total, p.link,
           p.message_id, p.state, p.error, p.submitted_at, p.done_at
      from part p join message m on m.id = p.outbox_id""")

_MOVE_INBOX = text("""
    with message as (
        delete from inbox where id = any(cast(:ids as bigint[])) returning *
    )
    insert into inbox_history (id, day, link, sender, sender_digest, receiver, body, state, received_at, finished_at,
                               error, trace)
    select id, cast(finished_at at time zone 'utc' as date), link, sender, sender_digest, receiver, body, state,
           received_at, finished_at, error, trace
      from message""")


def move(db: Session) -> int:
    """Move one batch of each kind; how many rows. Call again while it is not 0."""
    db.execute(_MARK, {"every_s": MARK_EVERY_S})
    db.execute(_FORGET_MARKS, {"kept_s": HOT_KEPT_S})
    bound = {"kept_s": HOT_KEPT_S, "count": MOVED_AT_ONCE}
    outbox = list(db.execute(_OLD_OUTBOX, bound).scalars())
    inbox = list(db.execute(_OLD_INBOX, bound).scalars())
    if outbox or inbox:
        _make_partitions(db, db.execute(_DAYS, {"outbox": outbox, "inbox": inbox}).scalars())
        db.execute(_MOVE_OUTBOX, {"ids": outbox})
        db.execute(_MOVE_INBOX, {"ids": inbox})
    return len(outbox) + len(inbox)


def _make_partitions(db: Session, days: Iterable[date]) -> None:
    """A partition for each of these days, unless it is there."""
    there = set(_partitions(db))
    for day in days:
        after = day + timedelta(days=1)
        for table in TABLES:
            name = f"{table}_{day:%Y%m%d}"
            if name not in there:
                db.execute(text(f"create table {name} partition of {table} for values from ('{day}') to ('{after}')"))


def _partitions(db: Session) -> list[str]:
    found = db.execute(
        text("select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
             " join pg_class p on p.oid = i.inhparent where p.relname = any(:tables) and c.relkind = 'r'"),
        {"tables": list(TABLES)},
    )  # fmt: skip
    return list(found.scalars())


def drop_old(db: Session) -> int:
    """Drop the partitions of days that are kept no longer; how many."""
    first_kept = datetime.now(UTC).date() - timedelta(days=service_of(db).limits.history_days)
    old = [name for name in _partitions(db) if name[-8:] < f"{first_kept:%Y%m%d}"]
    for name in old:
        db.execute(text(f"drop table {name}"))
    return len(old)


# State 7 is "unknown": the receipt that comes after all says what became of it. What was final stays as it was.
_LATE = text("""
    with late as (
        delete from parked_receipt p using segment_history s, outbox_history o
         where p.received_at < now() - make_interval(secs => :late_s)
           and s.message_id = p.message_id and s.link = p.link
           and o.id = s.outbox_id and o.day = s.day and o.number_digest = p.number_digest
        returning s.outbox_id, s.number, s.attempt, s.day, s.total, p.state, p.error
    ), part as (
        update segment_history s set state = l.state, error = l.error, done_at = now()
          from late l
         where s.outbox_id = l.outbox_id and s.number = l.number and s.attempt = l.attempt and s.day = l.day
           and s.done_at is null
        returning s.outbox_id, s.day, l.total, l.state, l.error
    )
    update outbox_history o set state = p.state, error = p.error
      from part p
     where o.id = p.outbox_id and o.day = p.day and p.total = 1 and o.state = 7""")


def match_late(db: Session) -> int:
    """Match receipts that came after their message had moved; how many messages they settled."""
    settled: Any = db.execute(_LATE, {"late_s": LATE_AFTER_S})
    return int(settled.rowcount)
