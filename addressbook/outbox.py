"""What we owe to the phone network.

    enqueue ─> QUEUED ─claim─> CLAIMED ─accepted─> SENT ─receipts─> DELIVERED | FAILED | EXPIRED | UNKNOWN
                 │  ^             │ └── refused for good ─> FAILED
                 │  └─ put back ──┤     (throttled, link lost before it was written: the attempt does not count)
                 │                └── lease over: unknown whether it left; the kind's resend rule decides
                 └─ STOP ─> CANCELLED        └ too late ─> EXPIRED

Every statement works on a whole batch over arrays (unnest); one round trip serves hundreds of messages.
Repeats: a claim is taken once (SKIP LOCKED and the state); an answer or a receipt that comes twice changes nothing
the second time (segment's primary key, done_at is null).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from addressbook.numbers import route_of
from addressbook.service import collect, ring, service_of

LEASE_S = 90.0  # longer than a response time-out (60 s): a lease that ends means that its holder died
QUEUE_CLAIM_MAX = 5_000
ANYWHERE = "0"  # the route of a short code, and of what failed over: no number begins so
SEGMENTS_MAX = 255  # 3GPP TS 23.040, 9.2.3.24.1
ATTEMPTS_MAX = 2  # the first, and one more for kinds that may be resent
# A claim whose holder died was most likely never sent (a link claims ahead of what it sends), so it uses up no resend;
# the bound is for a message that kills whoever takes it.
ORPHANED_MAX = 5
PARKED_RECEIPT_KEPT_S = 3_600.0


class State(IntEnum):
    QUEUED = 0
    CLAIMED = 1
    SENT = 2
    DELIVERED = 3
    FAILED = 4
    EXPIRED = 5
    CANCELLED = 6
    UNKNOWN = 7


class Kind(IntEnum):
    OTP = 0
    USSD = 1
    REPLY = 2
    NOTICE = 3
    PUSH = 4
    GROUP = 5
    INVITATION = 6
    CAMPAIGN = 7


class Encoding(IntEnum):
    TEXT = 0  # body is UTF-8 text
    BINARY = 1  # body is a UDH with its length octet, then 8-bit data


class Rule(NamedTuple):
    """How a kind is carried. A lower priority number goes first."""

    priority: int
    validity_s: int
    resend: bool  # once more when it is unknown whether it left


# The one table of kinds. A code is never sent twice: two codes confuse, and a stale one opens a door (S2).
RULES: dict[Kind, Rule] = {
    Kind.OTP: Rule(priority=0, validity_s=600, resend=False),
    Kind.USSD: Rule(priority=1, validity_s=60, resend=False),
    Kind.REPLY: Rule(priority=2, validity_s=3_600, resend=True),
    Kind.NOTICE: Rule(priority=3, validity_s=86_400, resend=True),
    Kind.PUSH: Rule(priority=4, validity_s=259_200, resend=True),
    Kind.GROUP: Rule(priority=5, validity_s=86_400, resend=True),
    Kind.INVITATION: Rule(priority=6, validity_s=172_800, resend=True),
    Kind.CAMPAIGN: Rule(priority=7, validity_s=86_400, resend=True),
}
_TEXT_OF = {member: str(int(member)) for member in (*Kind, *Encoding)}  # str() of an IntEnum costs a microsecond
_RESENT = [int(kind) for kind, rule in RULES.items() if rule.resend]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to enqueue. number is E.164 with "+", or a short code; validity_s None: the kind's own."""

    number: str
    body: bytes
    kind: Kind
    trace: str
    encoding: Encoding = Encoding.TEXT
    sender: str | None = None
    client_ref: str | None = None
    token_id: int | None = None
    push_id: int | None = None
    validity_s: int | None = None
    segments: int = 0


def send(db: Session, to: str, words: str, kind: Kind, trace: str, *, push_id: int | None = None) -> None:
    """Owe one text; it is written with all others of this transaction just before the commit."""
    collect(db, enqueue, Outgoing(to, words.encode(), kind, trace, push_id=push_id))


# A batch's columns go over as joined text and are cut apart by PostgreSQL: psycopg needs 0.5 to 1.5 µs to write one
# element of an array, a join 0.1 µs, octets as hexadecimal 0.3 µs. U+001F stands in no id, number or reference.
CUT = "\x1f"


def joined(values: Iterable[object]) -> str:
    """Values whose str() is what PostgreSQL reads; none may be None."""
    return CUT.join(map(str, values))


def joined_or_null(values: Iterable[object]) -> str:
    """None becomes the empty string, which the statements read back as null."""
    return CUT.join(["" if value is None else str(value).replace(CUT, " ") for value in values])


_ENQUEUE = text("""
    insert into outbox (kind, priority, state, segments, encoding, route, number, number_digest, sender, body,
                        valid_until, push_id, token_id, client_ref, trace, due_at, error, finished_at)
    select m.kind, m.priority, case when s.number_digest is null then 0 else 6 end, m.segments, m.encoding,
           m.route, decode(m.number, 'hex'), m.digest, m.sender, decode(m.body, 'hex'),
           now() + make_interval(secs => m.validity_s), m.push_id, m.token_id, m.client_ref, m.trace,
           case when s.number_digest is null then now() end,
           case when s.number_digest is null then null else 'the number said STOP' end,
           case when s.number_digest is null then null else now() end
      from (select kind, priority, segments, encoding, route, number, decode(digest, 'hex') as digest, sender, body,
                   validity_s, push_id, token_id, client_ref, trace, place
              from unnest(cast(string_to_array(:kind, E'\\x1f') as smallint[]),
                          cast(string_to_array(:priority, E'\\x1f') as smallint[]),
                          cast(string_to_array(:segments, E'\\x1f') as smallint[]),
                          cast(string_to_array(:encoding, E'\\x1f') as smallint[]),
                          string_to_array(:route, E'\\x1f'), string_to_array(:number, E'\\x1f'),
                          string_to_array(:digest, E'\\x1f'), string_to_array(:sender, E'\\x1f', ''),
                          string_to_array(:body, E'\\x1f'), cast(string_to_array(:validity_s, E'\\x1f') as int[]),
                          cast(string_to_array(:push_id, E'\\x1f', '') as bigint[]),
                          cast(string_to_array(:token_id, E'\\x1f', '') as bigint[]),
                          string_to_array(:client_ref, E'\\x1f', ''), string_to_array(:trace, E'\\x1f'))
                   with ordinality
                   as m(kind, priority, segments, encoding, route, number, digest, sender, body, validity_s, push_id,
                        token_id, client_ref, trace, place)) m
      left join stopped s on s.number_digest = m.digest
     order by m.place
    returning id""")


def enqueue(db: Session, messages: Sequence[Outgoing]) -> list[int]:
    """Owe all of them, in one statement; their ids in order. A number that said STOP gets CANCELLED at once."""
    if not messages:
        return []
    service = service_of(db)
    routes, seal, digest = service.routes, service.keys.seal, service.keys.number_digest
    rules = [RULES[m.kind] for m in messages]
    values = {
        "kind": CUT.join([_TEXT_OF[m.kind] for m in messages]),
        "priority": joined(rule.priority for rule in rules),
        "segments": joined(m.segments for m in messages),
        "encoding": CUT.join([_TEXT_OF[m.encoding] for m in messages]),
        "route": CUT.join([route_of(m.number, routes) or ANYWHERE for m in messages]),
        "number": CUT.join([seal(b"number", m.number.encode()).hex() for m in messages]),
        "digest": CUT.join([digest(m.number).hex() for m in messages]),
        "sender": joined_or_null(m.sender for m in messages),
        "body": CUT.join([seal(b"text", m.body).hex() for m in messages]),
        "validity_s": joined(
            rule.validity_s if m.validity_s is None else m.validity_s for m, rule in zip(messages, rules, strict=True)
        ),
        "push_id": joined_or_null(m.push_id for m in messages),
        "token_id": joined_or_null(m.token_id for m in messages),
        "client_ref": joined_or_null(m.client_ref for m in messages),
        "trace": joined(m.trace for m in messages),
    }
    ids = sorted(db.execute(_ENQUEUE, values).scalars())  # the sequence counts in the order of `place`
    ring(db, "outbox")
    return ids


_CANCEL = text("""
    update outbox set state = 6, due_at = null, finished_at = now(), error = 'the number said STOP'
     where number_digest = :digest and due_at is not null""")


def cancel_for(db: Session, number_digest: bytes) -> int:
    """Cancel everything that waits for this number; how many. What is already claimed is checked at the claim."""
    return _count(db, _CANCEL, digest=number_digest)


class Claimed(NamedTuple):
    """A message that is ours to send until lease_until; number and body still sealed."""

    id: int
    kind: int
    attempts: int
    encoding: int
    number: bytes
    sender: str | None
    body: bytes
    valid_until: datetime
    trace: str
    refused: bool  # said STOP, or too late: already finished, not to be sent


# The routes that have something waiting are found by hopping over the index (a loose index scan), then the best of
# each; so a million rows that wait for a dead link cost a claim for another link nothing. From there on rows are met by
# their place (ctid), which the lock keeps: it saves two look-ups by id.
_CLAIM = text("""
    with recursive waiting as (
        (select route from outbox where due_at is not null order by route limit 1)
        union all
        select (select o.route from outbox o where o.due_at is not null and o.route > w.route order by o.route limit 1)
          from waiting w where w.route is not null
    ), best as (
        select c.place
          from waiting w
         cross join lateral (
               select o.ctid as place, o.id, o.priority from outbox o
                where o.due_at is not null and o.route = w.route and o.due_at <= now()
                order by o.priority, o.id limit :count) c
         where w.route is not null
           and (w.route = any(cast(:routes as text[])) or (:any_route and w.route <> all(cast(:others as text[]))))
         order by c.priority, c.id limit :count
    ), picked as (
        select o.ctid as place, exists (select from stopped s where s.number_digest = o.number_digest) as stopped
          from outbox o
         where o.ctid = any(array(select place from best)) and o.state = 0
           for update of o skip locked
    )
    update outbox o
       set state = case when p.stopped then 6 when o.valid_until <= now() then 5 else 1 end,
           attempts = o.attempts + 1, link = :link, due_at = null,
           lease_until = case when p.stopped or o.valid_until <= now() then null
                              else now() + make_interval(secs => :lease_s) end,
           error = case when p.stopped then 'the number said STOP' when o.valid_until <= now() then 'too late' end,
           finished_at = case when p.stopped or o.valid_until <= now() then now() end
      from picked p
     where o.ctid = p.place
    returning o.id, o.kind, o.attempts, o.encoding, o.number, o.sender, o.body, o.valid_until, o.trace, o.state <> 1""")


def claim(
    db: Session,
    link: str,
    count: int,
    *,
    routes: Sequence[str] = (),
    any_route: bool = True,
    others: Sequence[str] = (),
) -> list[Claimed]:
    """Take up to `count` due messages of these routes (or of any but `others`), the most urgent first."""
    rows = db.execute(
        _CLAIM,
        {
            "count": min(count, QUEUE_CLAIM_MAX), "routes": list(routes), "others": list(others),
            "any_route": any_route, "lease_s": LEASE_S, "link": link,
        },
    )  # fmt: skip
    return sorted(map(Claimed._make, rows), key=_urgency)


_PRIORITIES = {int(kind): rule.priority for kind, rule in RULES.items()}


def _urgency(row: Claimed) -> tuple[int, int]:
    return _PRIORITIES[row.kind], row.id


class Accepted(NamedTuple):
    """One submit_sm was accepted. message_id is canonical (receipts.py), or None if the link's ids are useless."""

    outbox_id: int
    number: int
    attempt: int
    total: int
    message_id: str | None
    carrier_id: str | None = None  # on links that take query_sm: the id as the carrier wrote it


class Ended(NamedTuple):
    """A message is through with submitting: SENT, FAILED, UNKNOWN …, with the reason where it is bad."""

    outbox_id: int
    state: State
    error: str | None


_ACCEPTED = text("""
    with part as (
        insert into segment (outbox_id, number, attempt, total, link, message_id, carrier_id, state)
        select s.outbox_id, s.number, s.attempt, s.total, :link, s.message_id, s.carrier_id, 2
          from unnest(cast(string_to_array(:outbox_id, E'\\x1f') as bigint[]),
                      cast(string_to_array(:number, E'\\x1f') as smallint[]),
                      cast(string_to_array(:attempt, E'\\x1f') as smallint[]),
                      cast(string_to_array(:total, E'\\x1f') as smallint[]),
                      string_to_array(:message_id, E'\\x1f', ''), string_to_array(:carrier_id, E'\\x1f', ''))
               as s(outbox_id, number, attempt, total, message_id, carrier_id)
            on conflict (outbox_id, number, attempt) do nothing
    )
    update outbox set state = 2, due_at = null, error = null, finished_at = null
     where id = any(cast(string_to_array(:ids, E'\\x1f') as bigint[])) and state in (0, 1, 7)""")

_ENDED = text("""
    update outbox o set state = e.state, error = e.error, finished_at = now()
      from unnest(cast(:ids as bigint[]), cast(:state as smallint[]), cast(:error as text[])) as e(id, state, error)
     where o.id = e.id and o.state in (1, 2)""")


def record_accepted(db: Session, link: str, accepted: Sequence[Accepted], sent: Sequence[int]) -> None:
    """Write down the ids that the carrier gave, and which messages are now out whole; one statement."""
    if not accepted and not sent:
        return
    outbox_id, number, attempt, total, message_id, carrier_id = zip(*accepted, strict=True) if accepted else [()] * 6
    db.execute(_ACCEPTED, {
        "outbox_id": joined(outbox_id), "number": joined(number), "attempt": joined(attempt), "total": joined(total),
        "message_id": joined_or_null(message_id), "carrier_id": joined_or_null(carrier_id), "ids": joined(sent),
        "link": link,
    })  # fmt: skip


def record_ended(db: Session, ended: Sequence[Ended]) -> None:
    """Write down messages that will not be sent, or whose fate is not known."""
    if ended:
        ids, states, errors = map(list, zip(*ended, strict=True))
        db.execute(_ENDED, {"ids": ids, "state": [int(state) for state in states], "error": errors})


_PUT_BACK = text("""
    update outbox set state = 0, attempts = greatest(attempts - :uncounted, 0), lease_until = null,
           due_at = now() + make_interval(secs => :delay_s)
     where id = any(cast(:ids as bigint[])) and state = 1""")


def put_back(db: Session, ids: Sequence[int], delay_s: float = 0.0, *, attempt_counts: bool = False) -> None:
    """Queue these again. The attempt does not count if nothing of them was sent (throttled, or never written)."""
    if ids:
        db.execute(_PUT_BACK, {"ids": list(ids), "delay_s": delay_s, "uncounted": int(not attempt_counts)})
        ring(db, "outbox")


_STATE_TEXT = {state: str(int(state)) for state in State}  # str() of an IntEnum member costs a microsecond


class Receipt(NamedTuple):
    """What a carrier said of one segment."""

    message_id: str
    state: State
    error: str | None


# Hit or missed must be said of one moment: an answer that is committed between two statements would make a receipt
# that the first did not match one that the second need not park.
_RECEIPTS = text("""
    with told as materialized (
        select * from unnest(string_to_array(:message_id, E'\\x1f'),
                             cast(string_to_array(:state, E'\\x1f') as smallint[]),
                             string_to_array(:error, E'\\x1f', '')) as r(message_id, state, error)
    ), hit as (
        update segment s set state = r.state, error = r.error, done_at = now()
          from told r
         where s.message_id = r.message_id and s.link = :link and s.done_at is null and s.total <= :longest
        returning s.outbox_id, s.total, r.state, r.error
    ), single as (
        update outbox o set state = h.state, due_at = null, error = h.error, finished_at = now()
          from hit h
         where h.total = 1 and o.id = h.outbox_id and o.state in (0, 1, 2, 7)
    )
    select array_agg(distinct h.outbox_id) filter (where h.total > 1),
           case when count(*) < (select count(*) from told) then array(
               select r.message_id from told r
                where not exists (select from segment s where s.message_id = r.message_id and s.link = :link)) end,
           count(*) = (select count(*) from told)
      from hit h""")

# Two links that bring receipts of two parts at once must not each miss the other's.
_LOCK = text("select from outbox where id = any(cast(:ids as bigint[])) order by id for update")

# In state 0 it waits to be sent once more, because nobody knew: now it is known, and need not be.
# A long message is delivered when each of its parts is, of whichever attempt; it fails with the first that fails.
_WHOLE = text("""
    update outbox o
       set state = w.state, due_at = null, finished_at = now(),
           error = case when w.state <> 3 then 'a part was not delivered' end
      from (select outbox_id,
                   case when bool_or(state in (4, 5)) then 4 else 3 end as state
              from segment where outbox_id = any(cast(:ids as bigint[]))
             group by outbox_id, total
            having bool_or(state in (4, 5)) or count(distinct number) filter (where state = 3) = total) w
     where o.id = w.outbox_id and o.state in (0, 1, 2, 7)""")


def record_receipts(db: Session, link: str, receipts: Sequence[Receipt]) -> list[str]:
    """Match final receipts to segments; the ids that named no segment (yet) are returned, to be parked."""
    if not receipts:
        return []
    long_messages, missed, _ = _match(db, link, receipts, SEGMENTS_MAX)
    if long_messages:
        db.execute(_LOCK, {"ids": long_messages})
        db.execute(_WHOLE, {"ids": long_messages})
    return missed or []


def record_short_receipts(db: Session, link: str, receipts: Sequence[Receipt]) -> bool:
    """As record_receipts, in one statement, for messages of one segment; False if others are among them.

    Those are left as they are: give the whole batch to record_receipts then, which does nothing twice.
    """
    return _match(db, link, receipts, 1)[2]


def _match(
    db: Session, link: str, receipts: Sequence[Receipt], longest: int
) -> tuple[list[int] | None, list[str] | None, bool]:
    """The long messages that were touched, the ids of no segment, and whether each id found an unsettled segment."""
    latest = {receipt.message_id: receipt for receipt in receipts}
    row = db.execute(_RECEIPTS, {
        "link": link, "message_id": joined_or_null(latest), "longest": longest,
        "state": CUT.join([_STATE_TEXT[receipt.state] for receipt in latest.values()]),
        "error": joined_or_null([receipt.error for receipt in latest.values()]),
    }).one()  # fmt: skip
    return row[0], row[1], row[2]


class Unproven(NamedTuple):
    """A segment that left long ago, without a receipt; number still sealed."""

    message_id: str
    carrier_id: str
    number: bytes
    sender: str | None


_UNPROVEN = text("""
    select s.message_id, s.carrier_id, o.number, o.sender
      from segment s join outbox o on o.id = s.outbox_id
     where s.carrier_id is not null and s.done_at is null and s.link = :link and s.message_id is not null
       and s.submitted_at between now() - make_interval(secs => :until_s) and now() - make_interval(secs => :after_s)
     order by s.submitted_at limit :count""")


def unproven(db: Session, link: str, after_s: float, until_s: float, count: int) -> list[Unproven]:
    """What this link might be asked about: segments between these ages that no receipt has settled."""
    rows = db.execute(_UNPROVEN, {"link": link, "after_s": after_s, "until_s": until_s, "count": count})
    return [Unproven._make(row) for row in rows]


class Candidate(NamedTuple):
    """One message that a receipt may be about: if the id's key and the number agree, it is."""

    place: int  # of the receipt in its batch
    message_id: str
    number_digest: bytes
    state: State
    error: str | None


_RESOLVE = text("""
    select distinct on (c.place) c.place, c.message_id
      from unnest(cast(:place as int[]), cast(:message_id as text[]), cast(:digest as bytea[]))
           with ordinality as c(place, message_id, digest, rank)
      join segment s on s.link = :link and s.message_id = c.message_id
      join outbox o on o.id = s.outbox_id and o.number_digest = c.digest
     order by c.place, c.rank""")


def resolve(db: Session, link: str, candidates: Sequence[Candidate]) -> dict[int, str]:
    """For receipts whose id can be read in several ways: the key that names a message to that number, by place."""
    if not candidates:
        return {}
    rows = db.execute(_RESOLVE, {
        "link": link, "place": [c.place for c in candidates], "message_id": [c.message_id for c in candidates],
        "digest": [c.number_digest for c in candidates],
    })  # fmt: skip
    return {row.place: row.message_id for row in rows}


_PARK = text("""
    insert into parked_receipt (link, message_id, number_digest, state, error)
    select :link, r.message_id, r.digest, r.state, r.error
      from unnest(cast(:message_id as text[]), cast(:digest as bytea[]), cast(:state as smallint[]),
                  cast(:error as text[])) as r(message_id, digest, state, error)""")

_UNPARK = text("""
    delete from parked_receipt p using segment s, outbox o
     where p.link = :link and s.link = p.link and s.message_id = p.message_id
       and o.id = s.outbox_id and o.number_digest = p.number_digest
    returning p.message_id, p.state, p.error""")


def park(db: Session, link: str, candidates: Sequence[Candidate]) -> None:
    """Keep receipts that came before the answer to their submit_sm was recorded, under every key they may have."""
    if candidates:
        db.execute(_PARK, {
            "link": link, "message_id": [c.message_id for c in candidates],
            "digest": [c.number_digest for c in candidates], "state": [int(c.state) for c in candidates],
            "error": [c.error for c in candidates],
        })  # fmt: skip


def match_parked(db: Session, link: str) -> int:
    """Match what was parked on this link with what has been recorded since; how many matched."""
    found = [Receipt(row[0], State(row[1]), row[2]) for row in db.execute(_UNPARK, {"link": link})]
    record_receipts(db, link, found)
    return len(found)


def any_parked(db: Session, link: str) -> bool:
    """Whether receipts of this link still wait for their message."""
    return bool(db.scalar(text("select exists (select from parked_receipt where link = :link)"), {"link": link}))


_LEASES_OVER = text("""
    update outbox
       set state = case when kind = any(cast(:resent as smallint[])) and attempts < :attempts then 0 else 7 end,
           due_at = case when kind = any(cast(:resent as smallint[])) and attempts < :attempts then now() end,
           finished_at = case when kind = any(cast(:resent as smallint[])) and attempts < :attempts then null
                              else now() end,
           error = 'unknown whether it was sent'
     where state = 1 and lease_until is not null
       and ((lease_until < now() and lease_until >= coalesce(cast(:since as timestamptz), '-infinity'))
            or (link = :link and lease_until >= now()))
    returning state""")


def end_leases(db: Session, link: str | None = None, since: datetime | None = None) -> int:
    """Let the resend rule decide over claims whose holder died: all that ran out, and all that `link` held.

    Who has just become the only owner of a link knows that every claim of that link is an orphan. since: leases that
    ended before this moment were looked at already.
    """
    values = {"resent": _RESENT, "link": link, "attempts": ORPHANED_MAX, "since": since}
    freed = db.execute(_LEASES_OVER, values).scalars().all()
    if State.QUEUED in freed:
        ring(db, "outbox")
    return len(freed)


# Only what is older than the history's mark (history.py) is looked at: the hot hour is not read for this.
_FORGOTTEN = text("""
    update outbox set state = 7, finished_at = now(), error = 'no receipt came'
     where id in (select id from outbox
                   where id <= coalesce((select outbox_id from history_mark where at < now() - interval '1 hour'
                                          order by at desc limit 1), 9223372036854775807)
                     and state = 2 and valid_until + interval '1 hour' < now()
                   order by id limit 5000 for update skip locked)""")

_PARKED_TOO_LONG = text("delete from parked_receipt where received_at < now() - make_interval(secs => :kept_s)")


def sweep(db: Session, since: datetime | None = None) -> int:
    """Set right what a crash or a silent carrier left, since the last sweep; how many rows."""
    return (
        end_leases(db, since=since)
        + _count(db, _FORGOTTEN)
        + _count(db, _PARKED_TOO_LONG, kept_s=PARKED_RECEIPT_KEPT_S)
    )


_FAIL_OVER = text("""
    update outbox set route = :anywhere where due_at is not null and route = any(cast(:routes as text[]))""")


def fail_over(db: Session, routes: Sequence[str]) -> int:
    """Let whichever link takes any number have what waits for these routes; how many messages."""
    moved = _count(db, _FAIL_OVER, routes=list(routes), anywhere=ANYWHERE) if routes else 0
    if moved:
        ring(db, "outbox")
    return moved


def _count(db: Session, statement: TextClause, **values: Any) -> int:
    result: Any = db.execute(statement, values)
    return int(result.rowcount)
