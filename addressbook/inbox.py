"""What people sent us, whole and once.

    deliver_sm ─ store ─> NEW ─ take ─> answered: DONE | our fault: BROKEN | nobody to answer: IGNORED
       parts ─> inbox_part ─ complete ─> joined and decoded ─> NEW
                          └─ too old ─> the sender is told, the parts are dropped

A repeat is dropped by its key: the digest of link, sender, receiver and what the reader says makes two the same message
(inbound.py: octets, and how many like it were acknowledged on that connection), within REPEAT_WINDOW_S.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook.sealed import KeyRing
from addressbook.service import ring, service_of

REPEAT_WINDOW_S = 120
PARTS_KEPT_S = 900.0  # a carrier that needs more than a quarter of an hour between two parts has lost one
PARTS_TOTAL_MAX = 255


class State(IntEnum):
    NEW = 0
    DONE = 1
    BROKEN = 2
    IGNORED = 3


@dataclass(frozen=True, slots=True)
class Received:
    """A whole text. repeat: the octets that make it the same message as its repeat."""

    link: str
    sender: str
    receiver: str
    text: str
    repeat: bytes
    trace: str


@dataclass(frozen=True, slots=True)
class ReceivedPart:
    """A part of a text: octets, to be joined before they are decoded."""

    link: str
    sender: str
    receiver: str
    reference: int
    total: int
    number: int
    data_coding: int
    shifts: int  # national language tables: locking << 8 | single
    body: bytes
    trace: str


class PartSet(NamedTuple):
    """The parts of one text, all there, in order."""

    link: str
    sender: str
    receiver: str
    data_coding: int
    shifts: int
    bodies: list[bytes]
    trace: str


Decode = Callable[[PartSet], str]

# The window's number makes the unique key; the look-up into the window before closes the gap at its border.
_STORE = text("""
    insert into inbox (repeat_key, "window", link, sender, sender_digest, receiver, body, trace)
    select m.repeat_key, m."window", m.link, m.sender, m.sender_digest, m.receiver, m.body, m.trace
      from (select *, floor(extract(epoch from now()) / :window_s)::bigint as "window"
              from unnest(cast(:repeat_key as bytea[]), cast(:link as text[]), cast(:sender as bytea[]),
                          cast(:sender_digest as bytea[]), cast(:receiver as text[]), cast(:body as bytea[]),
                          cast(:trace as text[])) with ordinality
                   as m(repeat_key, link, sender, sender_digest, receiver, body, trace, place)) m
     where not exists (select from inbox i
                        where i.repeat_key = m.repeat_key and i."window" = m."window" - 1
                          and i.received_at > now() - make_interval(secs => :window_s))
     order by m.place
        on conflict (repeat_key, "window") do nothing""")


def store(
    db: Session, texts: Sequence[Received], parts: Sequence[ReceivedPart] = (), decode: Decode | None = None
) -> None:
    """Keep what arrived; after the commit it may be acknowledged. Complete sets of parts become texts at once."""
    if parts:
        assert decode is not None
        texts = [*texts, *_store_parts(db, parts, decode)]
    if not texts:
        return
    keys = service_of(db).keys
    db.execute(
        _STORE,
        {
            "repeat_key": [keys.digest(b"repeat", _repeat_of(m)) for m in texts],
            "link": [m.link for m in texts],
            "sender": [keys.seal(b"number", m.sender.encode()) for m in texts],
            "sender_digest": [keys.number_digest(m.sender) for m in texts],
            "receiver": [m.receiver for m in texts],
            "body": [keys.seal(b"text", m.text.encode(errors="replace")) for m in texts],
            "trace": [m.trace for m in texts],
            "window_s": REPEAT_WINDOW_S,
        },
    )
    ring(db, "inbox")


def _repeat_of(message: Received) -> str:
    return "\0".join((message.link, message.sender, message.receiver, message.repeat.hex()))


# Two processes that store the last two parts of a set at once do not see each other's: without these locks neither
# would find the set complete.
_LOCK_SETS = text("select pg_advisory_xact_lock(l.key) from unnest(cast(:keys as bigint[])) as l(key)")

_STORE_PARTS = text("""
    insert into inbox_part (set_key, number, total, link, sender, receiver, data_coding, shifts, body, trace)
    select m.set_key, m.number, m.total, m.link, m.sender, m.receiver, m.data_coding, m.shifts, m.body, m.trace
      from unnest(cast(:set_key as bytea[]), cast(:number as smallint[]), cast(:total as smallint[]),
                  cast(:link as text[]), cast(:sender as bytea[]), cast(:receiver as text[]),
                  cast(:data_coding as smallint[]), cast(:shifts as int[]), cast(:body as bytea[]),
                  cast(:trace as text[]), cast(:joined_key as bytea[]))
           as m(set_key, number, total, link, sender, receiver, data_coding, shifts, body, trace, joined_key)
     where not exists (select from inbox_part j
                        where j.set_key = m.joined_key and j.number = 0
                          and j.received_at > now() - make_interval(secs => :window_s))
        on conflict (set_key, number) do nothing""")

_MARK_JOINED = text("""
    insert into inbox_part (set_key, number, total, link, sender, receiver, data_coding, shifts, body, trace)
    select j.key, 0, 0, '', :nothing, '', 0, 0, :nothing, '' from unnest(cast(:joined_keys as bytea[])) as j(key)
        on conflict (set_key, number) do update set received_at = now()""")

_TAKE_COMPLETE = text("""
    delete from inbox_part p
     where p.set_key in (select set_key from inbox_part where set_key = any(cast(:set_keys as bytea[]))
                          group by set_key having count(*) = max(total))
    returning p.set_key, p.number, p.link, p.sender, p.receiver, p.data_coding, p.shifts, p.body, p.trace""")


def _store_parts(db: Session, parts: Sequence[ReceivedPart], decode: Decode) -> list[Received]:
    keys = service_of(db).keys
    set_keys = [keys.digest(b"parts", "\0".join((m.sender, m.receiver, str(m.reference), str(m.total)))) for m in parts]
    # In the order of their keys, so that two processes with parts of one set do not wait for each other in a ring.
    rows = sorted(zip(set_keys, parts, strict=True), key=lambda row: (row[0], row[1].number))
    db.execute(_LOCK_SETS, {"keys": sorted({int.from_bytes(key[1:9], "big", signed=True) for key in set_keys})})
    db.execute(
        _STORE_PARTS,
        {
            "set_key": [set_key for set_key, _ in rows],
            "number": [m.number for _, m in rows],
            "total": [m.total for _, m in rows],
            "link": [m.link for _, m in rows],
            "sender": [keys.seal(b"number", m.sender.encode()) for _, m in rows],
            "receiver": [m.receiver for _, m in rows],
            "data_coding": [m.data_coding for _, m in rows],
            "shifts": [m.shifts for _, m in rows],
            "body": [keys.seal(b"text", m.body) for _, m in rows],
            "trace": [m.trace for _, m in rows],
            "joined_key": [_joined_key(keys, set_key, m.number, m.body) for set_key, m in rows],
            "window_s": REPEAT_WINDOW_S,
        },
    )
    sets: dict[bytes, list[tuple[int, PartSet]]] = {}
    for set_key, number, link, sender, receiver, data_coding, shifts, body, trace in db.execute(
        _TAKE_COMPLETE, {"set_keys": sorted(set(set_keys))}
    ):
        part = PartSet(
            link,
            keys.open_text(b"number", sender),
            receiver,
            data_coding,
            shifts,
            [keys.open(b"text", body)],
            trace,
        )
        sets.setdefault(bytes(set_key), []).append((number, part))
    texts = []
    joined_keys = []
    for set_key, found in sets.items():
        joined_keys += [_joined_key(keys, set_key, number, one.bodies[0]) for number, one in found]
        ordered = [part for _, part in sorted(found, key=lambda item: item[0])]
        whole = ordered[0]._replace(bodies=[part.bodies[0] for part in ordered])
        texts.append(
            Received(
                whole.link, whole.sender, whole.receiver, decode(whole), set_key + b"".join(whole.bodies), whole.trace
            )
        )
    if joined_keys:
        db.execute(_MARK_JOINED, {"joined_keys": sorted(joined_keys), "nothing": b""})
    return texts


def _joined_key(keys: KeyRing, set_key: bytes, number: int, body: bytes) -> bytes:
    return keys.digest(b"joined", f"{set_key.hex()}:{number}:{body.hex()}")


class Taken(NamedTuple):
    """A text to be answered in this transaction."""

    id: int
    link: str
    sender: str
    receiver: str
    text: str
    trace: str


_TAKE = text("""
    select id, link, sender, receiver, body, trace from inbox
     where state = 0 and get_byte(sender_digest, 1) % :lanes = :lane order by id limit :count for update skip locked""")

_FINISH = text("""
    update inbox set state = :state, error = :error, finished_at = now() where id = any(cast(:ids as bigint[]))""")


def take(db: Session, count: int, lane: int = 0, lanes: int = 1) -> list[Taken]:
    """The oldest unanswered texts of a lane, locked until this transaction ends; call finish in the same one.

    All texts of one sender are in one lane, and one reader at a time takes from a lane (the gateway sees to that), so a
    person's texts stay in order.
    """
    open_text = service_of(db).keys.open_text
    return [
        Taken(row[0], row[1], open_text(b"number", row[2]), row[3], open_text(b"text", row[4]), row[5])
        for row in db.execute(_TAKE, {"count": count, "lane": lane, "lanes": lanes})
    ]


def finish(db: Session, ids: Sequence[int], state: State = State.DONE, error: str | None = None) -> None:
    db.execute(_FINISH, {"ids": list(ids), "state": int(state), "error": error})


_EXPIRE_PARTS = text("""
    with old as (
        select set_key from inbox_part where total > 0 group by set_key
        having max(received_at) < now() - make_interval(secs => :kept_s) limit 1000
    )
    delete from inbox_part p using old where p.set_key = old.set_key
    returning p.set_key, p.sender, p.total, p.trace""")


_FORGET_JOINED = text("""
    delete from inbox_part where total = 0 and received_at < now() - make_interval(secs => :window_s)""")


class Incomplete(NamedTuple):
    """Parts of a text came, the rest did not."""

    sender: str
    missing: int
    total: int
    trace: str


def expire_parts(db: Session) -> list[Incomplete]:
    """Drop sets that will not become whole any more; each sender is owed a word about it."""
    db.execute(_FORGET_JOINED, {"window_s": REPEAT_WINDOW_S})
    open_text = service_of(db).keys.open_text
    sets: dict[bytes, Incomplete] = {}
    for set_key, sender, total, trace in db.execute(_EXPIRE_PARTS, {"kept_s": PARTS_KEPT_S}):
        known = sets.get(bytes(set_key)) or Incomplete(open_text(b"number", sender), total, total, trace)
        sets[bytes(set_key)] = known._replace(missing=known.missing - 1)
    return list(sets.values())
