"""The owner's book changed: the handset is to follow. One open push a person.

    request ─> open, due at once, or 2 s after the last one was planned
                 └─ plan_due ─> sent ─ follow ─> delivered | failed      each entry: see the states of handset_entry
                                  └─ nothing to send, or no proof ever came: stays "sent", and is finished

What is sent is the difference between the book and what the handset was sent (handset_entry): an entry of the same
content is sent again only if it failed, if nobody knows what became of it, or if the owner's phone takes another
bearer now. What messages carry a difference is not known here: that is the Planner's business (ota_push.py).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import outbox
from addressbook.names import same_name
from addressbook.outbox import Encoding, Kind, Outgoing
from addressbook.service import collect, ring, service_of

BATCH_PUSHES = 250  # one transaction: an edit of one of these books waits for its end, some tens of milliseconds
PROOF_AWAITED_DAYS = 4  # a push message is valid for 3 days, its receipt may take an hour more

# --- ask ------------------------------------------------------------------------------------------------------------

# The first edit goes at once. While a push was planned less than push_wait_s ago, the next waits out that time and
# takes with it whatever changes meanwhile; an open push absorbs every later request. The idle update takes the row's
# lock: without it a planner could read the book before this transaction commits and close the push after it looked.
_REQUEST = text("""
    insert into push (owner_id, state, due_at, trace)
    select r.owner_id, 'open',
           greatest(now(), coalesce((select max(p.planned_at) from push p where p.owner_id = r.owner_id),
                                    '-infinity'::timestamptz) + make_interval(secs => :wait_s)),
           r.trace
      from unnest(cast(:owner_id as bigint[]), cast(:trace as text[])) as r(owner_id, trace)
     order by r.owner_id
        on conflict (owner_id) where state = 'open' do update set trace = push.trace""")


def request(db: Session, owner_id: int, trace: str) -> None:
    """Have this owner's handset brought up to date; asking twice in one transaction is asking once."""
    collect(db, _write_requests, (owner_id, trace))


def _write_requests(db: Session, requests: Sequence[tuple[int, str]]) -> None:
    by_owner = dict(requests)
    db.execute(
        _REQUEST,
        {
            "owner_id": list(by_owner),
            "trace": list(by_owner.values()),
            "wait_s": service_of(db).limits.push_wait_s,
        },
    )
    ring(db, "pushes")


# --- plan -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What a phone shows of a contact. number: E.164, or a short code; groups by name."""

    name: str
    number: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that the handset is to take over.

    before: what it shows now as far as we know; None: nothing, or nobody knows. after: None if the contact is gone.
    """

    contact_id: int
    before: Content | None
    after: Content | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whose handset it is. handset: the bearer that it takes, "card" or "text"."""

    owner_id: int
    language: str
    region: str
    handset: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a plan, the contacts whose change it carries, and what it costs."""

    encoding: Encoding
    body: bytes
    contact_ids: tuple[int, ...]
    segments: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The messages that bring a handset up to date, in the order in which they go."""

    messages: tuple[Message, ...]

    @property
    def segments(self) -> int:
        """What the plan costs, known before anything is sent."""
        return sum(message.segments for message in self.messages)


Planner = Callable[[Recipient, Sequence[Change]], Plan]

# Closed first, read afterwards: an edit that commits from here on finds no open push and makes its own, and one whose
# request holds the row is skipped now and comes with its ring. So to_version is exactly what the book is read at.
_TAKE = text("""
    with due as (
        select id, owner_id from push where state = 'open' and due_at <= now()
         order by due_at, id limit :count for update skip locked
    )
    update push p
       set state = case when s.state = 'member' then 'sent' else 'failed' end,
           planned_at = now(), to_version = s.book_version,
           finished_at = case when s.state = 'member' then null else now() end
      from due d join subscriber s on s.id = d.owner_id
     where p.id = d.id
    returning p.id, p.owner_id, p.trace, p.state, s.number, s.language, s.region, s.handset,
              (select max(q.to_version) from push q where q.owner_id = p.owner_id and q.id <> p.id)""")

# Only entries that may differ: touched by a later version of the book, never sent, or sent without success or by
# another bearer. A book of 2,000 entries costs two index scans, not 2,000 openings. Each table is met row by row
# through its index (`offset 0` keeps the planner from joining whole tables, which it likes while they have no
# statistics: 3 s instead of 10 ms).
_DIFFERENCES = text("""
    with owner as (
        select * from unnest(cast(:owner_id as bigint[]), cast(:since as int[]), cast(:handset as text[]))
                      as o(owner_id, since, handset)
    ), change as (
        select o.owner_id, b.contact_id, b.group_id
          from owner o
         cross join lateral (select contact_id, group_id from book_change
                              where owner_id = o.owner_id and version > o.since offset 0) b
    ), touched as (
        select owner_id, contact_id from change where contact_id is not null
         union
        select c.owner_id, m.contact_id
          from change c
         cross join lateral (select contact_id from membership where group_id = c.group_id offset 0) m
         where c.contact_id is null
         union
        select o.owner_id, e.contact_id
          from owner o
         cross join lateral (select contact_id, state, bearer from handset_entry
                              where owner_id = o.owner_id offset 0) e
         where e.state in ('failed', 'unknown') or e.bearer <> o.handset
         union
        select o.owner_id, c.id
          from owner o
         cross join lateral (select id from contact where owner_id = o.owner_id and deleted_at is null offset 0) c
         where not exists (select from handset_entry e where e.owner_id = o.owner_id and e.contact_id = c.id offset 0)
    )
    select t.owner_id, t.contact_id, c.name, c.number,
           array(select g.name
                   from membership m
                  cross join lateral (select name, deleted_at from contact_group where id = m.group_id offset 0) g
                  where m.contact_id = c.id and g.deleted_at is null),
           e.content, e.content_digest, e.state, e.bearer
      from touched t
      left join lateral (select id, name, number, deleted_at from contact
                          where id = t.contact_id and owner_id = t.owner_id offset 0) c on c.deleted_at is null
      left join lateral (select contact_id, content, content_digest, state, bearer from handset_entry
                          where owner_id = t.owner_id and contact_id = t.contact_id offset 0) e on true
     where c.id is not null or e.contact_id is not null
     order by t.owner_id, t.contact_id""")

_ENTRIES = text("""
    insert into handset_entry (owner_id, contact_id, bearer, content, content_digest, state, push_id, outbox_id)
    select e.owner_id, e.contact_id, e.bearer, e.content, e.digest, 'planned', e.push_id, e.outbox_id
      from unnest(cast(:owner_id as bigint[]), cast(:contact_id as bigint[]), cast(:bearer as text[]),
                  cast(:content as bytea[]), cast(:digest as bytea[]), cast(:push_id as bigint[]),
                  cast(:outbox_id as bigint[]))
           as e(owner_id, contact_id, bearer, content, digest, push_id, outbox_id)
        on conflict (owner_id, contact_id) do update
       set bearer = excluded.bearer, content = excluded.content, content_digest = excluded.content_digest,
           state = 'planned', push_id = excluded.push_id, outbox_id = excluded.outbox_id, updated_at = now()""")

# The book changed in a way that this phone does not show: what it was sent still stands.
_SAME_SHOWN = text("""
    update handset_entry e set content = n.content, content_digest = n.digest
      from unnest(cast(:owner_id as bigint[]), cast(:contact_id as bigint[]), cast(:content as bytea[]),
                  cast(:digest as bytea[])) as n(owner_id, contact_id, content, digest)
     where e.owner_id = n.owner_id and e.contact_id = n.contact_id""")

_PLANNED = text("""
    update push p set messages = n.messages, finished_at = case when n.messages = 0 then now() end
      from unnest(cast(:id as bigint[]), cast(:messages as int[])) as n(id, messages)
     where p.id = n.id""")


class _Taken(NamedTuple):
    """One push that is being planned. number: sealed."""

    push_id: int
    trace: str
    number: bytes
    since: int
    recipient: Recipient


@dataclass(slots=True)
class _Batch:
    """What a batch of pushes writes, collected."""

    pushes: list[tuple[int, int]] = field(default_factory=list)  # id, messages
    outgoing: list[Outgoing] = field(default_factory=list)
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each entry: its message in `outgoing`
    same_shown: list[tuple[Any, ...]] = field(default_factory=list)


def plan_due(db: Session, count: int, planner: Planner) -> int:
    """Plan up to `count` due pushes and owe their messages; how many were taken. The same push is never planned twice.

    All owners of the batch in six statements. Pushes whose owner is being edited at this moment are left for later.
    """
    taken = list(db.execute(_TAKE, {"count": count}))
    pushes = [
        _Taken(row[0], row[2], row[4], row[8] or 0, Recipient(row[1], row[5], row[6], row[7]))
        for row in taken
        if row[3] == "sent"
    ]
    if pushes:
        changes = _changes(db, pushes)
        batch = _Batch()
        for push in pushes:
            _plan(db, push, changes.get(push.recipient.owner_id, {}), planner, batch)
        _write(db, batch)
    return len(taken)


def next_due_s(db: Session) -> float | None:
    """How long until a push is due, less than 0 if one is; None if none is open."""
    seconds = db.execute(
        text("select extract(epoch from min(due_at) - clock_timestamp()) from push where state = 'open'")
    ).scalar_one()
    return None if seconds is None else float(seconds)


class _Difference(NamedTuple):
    change: Change
    content: bytes  # sealed, as it will be kept
    digest: bytes


def _changes(db: Session, pushes: Sequence[_Taken]) -> Mapping[int, Mapping[int, _Difference]]:
    """By owner and contact: what differs."""
    handsets = {push.recipient.owner_id: push.recipient.handset for push in pushes}
    rows = db.execute(
        _DIFFERENCES,
        {"owner_id": list(handsets), "handset": list(handsets.values()), "since": [push.since for push in pushes]},
    )
    seal, digest = service_of(db).keys.seal_text, service_of(db).keys.digest
    found: dict[int, dict[int, _Difference]] = {}
    for owner_id, contact_id, name, number, group_names, sealed, was, state, bearer in rows:
        after = None if name is None else _content(db, name, number, group_names)
        now = digest(b"entry", "" if after is None else _json(after))
        sure = state not in (None, "failed", "unknown") and (bearer == handsets[owner_id] or after is None)
        if sure and bytes(was) == now:
            continue
        held = None if sealed is None else _held(db, sealed)[0]
        if after is None and held is None:
            continue
        change = Change(contact_id, held if sure or after is None else None, after)
        kept = seal(b"entry", _json(held, deleted=True) if after is None and held else _json(after))
        found.setdefault(owner_id, {})[contact_id] = _Difference(change, kept, now)
    return found


def _plan(
    db: Session, push: _Taken, differences: Mapping[int, _Difference], planner: Planner, batch: _Batch
) -> None:  # fmt: skip
    plan = planner(push.recipient, [one.change for one in differences.values()]) if differences else Plan(())
    number = service_of(db).keys.open_text(b"number", push.number) if plan.messages else ""
    owner_id, handset = push.recipient.owner_id, push.recipient.handset
    carried: set[int] = set()
    for message in plan.messages:
        batch.outgoing.append(
            Outgoing(number, message.body, Kind.PUSH, push.trace, message.encoding,
                     push_id=push.push_id, segments=message.segments)
        )  # fmt: skip
        for contact_id in message.contact_ids:
            one = differences[contact_id]
            batch.entries.append((owner_id, contact_id, handset, one.content, one.digest, push.push_id))
            batch.places.append(len(batch.outgoing) - 1)
        carried.update(message.contact_ids)
    batch.same_shown += [
        (owner_id, contact_id, one.content, one.digest)
        for contact_id, one in differences.items()
        if contact_id not in carried
    ]
    batch.pushes.append((push.push_id, len(plan.messages)))


def _write(db: Session, batch: _Batch) -> None:
    ids = outbox.enqueue(db, batch.outgoing)
    if batch.entries:
        columns = ("owner_id", "contact_id", "bearer", "content", "digest", "push_id")
        values = _columns(columns, batch.entries)
        db.execute(_ENTRIES, values | {"outbox_id": [ids[place] for place in batch.places]})
    if batch.same_shown:
        db.execute(_SAME_SHOWN, _columns(("owner_id", "contact_id", "content", "digest"), batch.same_shown))
    db.execute(_PLANNED, _columns(("id", "messages"), batch.pushes))


def _columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _content(db: Session, name: bytes, number: bytes, group_names: Sequence[bytes]) -> Content:
    open_text = service_of(db).keys.open_text
    groups = sorted((open_text(b"name", one) for one in group_names), key=same_name)
    return Content(open_text(b"name", name), open_text(b"number", number), tuple(groups))


def _json(content: Content | None, *, deleted: bool = False) -> str:
    assert content is not None
    fields: dict[str, Any] = {"name": content.name, "number": content.number, "groups": content.groups}
    return json.dumps(fields | {"deleted": True} if deleted else fields, ensure_ascii=False)


def _held(db: Session, sealed: bytes) -> tuple[Content, bool]:
    """What was sent, and whether it was that this entry is to be deleted."""
    fields = json.loads(service_of(db).keys.open_text(b"entry", sealed))
    return Content(fields["name"], fields["number"], tuple(fields["groups"])), "deleted" in fields


# --- follow ---------------------------------------------------------------------------------------------------------

# Carried over from the outbox (outbox.State); what the owner or a card confirmed ("applied") is never taken back by a
# receipt, which says nothing about a phone book (B2).
_FOLLOW = text("""
    with moved as (
        select e.owner_id, e.contact_id, n.state
          from push p
         cross join lateral (select owner_id, contact_id, outbox_id, state from handset_entry
                              where push_id = p.id offset 0) e
         cross join lateral (select state from outbox where id = e.outbox_id offset 0) o
          join (values (0, 'planned'), (1, 'planned'), (2, 'sent'), (3, 'delivered'), (4, 'failed'), (5, 'failed'),
                       (6, 'failed'), (7, 'unknown')) as n(code, state) on n.code = o.state
         where p.state = 'sent' and p.finished_at is null and e.state <> n.state and e.state <> 'applied'
    )
    update handset_entry e set state = m.state, updated_at = now()
      from moved m where e.owner_id = m.owner_id and e.contact_id = m.contact_id""")

# A push is through when each entry that is still its own is. One that newer pushes took every entry from ends without
# proof. What is unknown may yet be told by a late receipt, for as long as receipts can come.
_FINISH = text("""
    update push p
       set finished_at = now(),
           state = case when n.failed > 0 then 'failed' when n.entries > 0 and n.delivered = n.entries then 'delivered'
                        else p.state end
      from (select q.id, q.planned_at, e.*
              from push q
             cross join lateral (
                   select count(*) as entries,
                          count(*) filter (where state in ('planned', 'sent', 'unknown')) as waiting,
                          count(*) filter (where state in ('delivered', 'applied')) as delivered,
                          count(*) filter (where state = 'failed') as failed
                     from handset_entry where push_id = q.id) e
             where q.state = 'sent' and q.finished_at is null) n
     where p.id = n.id and (n.waiting = 0 or n.planned_at < now() - make_interval(days => :awaited))""")


def follow(db: Session) -> int:
    """Write down what became of the messages of unfinished pushes; how many entries and pushes moved."""
    moved: Any = db.execute(_FOLLOW)
    finished: Any = db.execute(_FINISH, {"awaited": PROOF_AWAITED_DAYS})
    return int(moved.rowcount) + int(finished.rowcount)


# --- read -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """One entry on a phone, as far as we know. deleted: its owner was asked to delete it.

    state is the proof: planned, sent, delivered (a receipt: the phone got the message, not that it was saved),
    applied (a card or the owner confirmed it), failed, unknown.
    """

    contact_id: int
    content: Content
    deleted: bool
    bearer: str
    state: str
    at: datetime


_HOLDS = text("select contact_id, content, bearer, state, updated_at from handset_entry where owner_id = :owner_id")


def holds(db: Session, owner_id: int) -> list[Held]:
    """What is on this owner's phone now, by name, with the proof of each entry (B2)."""
    found = [
        Held(contact_id, *_held(db, sealed), bearer, state, at)
        for contact_id, sealed, bearer, state, at in db.execute(_HOLDS, {"owner_id": owner_id})
    ]
    return sorted(found, key=lambda held: (same_name(held.content.name), held.contact_id))
