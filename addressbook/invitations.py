"""Inviting people who are no members: drafted, shown, sent on the inviter's word, answered by the invited.

    INVITE ─> drafted ─inviter's YES─> open ─YES or START─> accepted
                 └─NO, or a day─> (gone)  ├──NO──────────> declined
                                          └──STOP────────> stopped

Whether a number is a member, or said STOP, is nobody's business but its owner's: the inviter is answered in the same
words, the invitation counts and is used up in the same way, and nothing is sent ("stopped" from the start).
One invitation for a pair of people, ever (unique index). When several people invited one person, all are told, and
the earliest of the accepted ones is the one that counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import audit, consent, outbox, subscribers
from addressbook.audit import By
from addressbook.errors import Refused
from addressbook.numbers import display, parse, region_of
from addressbook.service import service_of
from addressbook.subscribers import Person

InLanguage = Callable[[str], Callable[[str], str]]  # a language -> the function that translates to it

_ = str  # marks words for the catalogue

# Fits one SMS in either language with a name of 20 characters (tests/domain). In the language of the invited.
_INVITATION = _(
    "{inviter} invites you to {service}, a phone book kept by text. To join, reply YES. For no more texts, reply STOP."
)
_ACCEPTED = _("{who} accepted your invitation and has joined {service}.")
_DECLINED = _("{who} did not accept your invitation.")


@dataclass(frozen=True, slots=True)
class Invite:
    """Draft an invitation in the inviter's name (R0.13). number: as written."""

    inviter_id: int
    number: str
    by: By


@dataclass(frozen=True, slots=True)
class Draft:
    """What goes to the number, to the letter."""

    number: str
    words: str


# --- by the inviter -------------------------------------------------------------------------------------------------

# Drafts do not count, what was sent to nobody does: else the limits would tell members from others.
_COUNTS = text("""
    select (select count(*) from invitation where inviter_id = :inviter_id and state <> 'drafted'
               and created_at > now() - interval '1 day'),
           (select count(*) from invitation where number_digest = :digest and state <> 'drafted'
               and created_at > now() - interval '1 day'),
           exists (select from invitation where inviter_id = :inviter_id and number_digest = :digest
                      and state <> 'drafted')""")
_DROP = text("delete from invitation where inviter_id = :inviter_id and state = 'drafted'")
_DRAFT = text("""
    insert into invitation (inviter_id, number, number_digest, mode, state)
    values (:inviter_id, :number, :digest, 'owner', 'drafted')""")


def draft(db: Session, command: Invite, in_language: InLanguage) -> Draft:
    """Keep a draft (one for each inviter) and show its exact words. Raises Refused: see _check."""
    inviter = subscribers.get(db, command.inviter_id, lock=True)
    number = parse(command.number, inviter.region)
    if number.short:
        raise Refused("{number} is a short code. Only people can be invited.", number=number.e164)
    if number.e164 == inviter.number:
        raise Refused("That is your own number.")
    keys = service_of(db).keys
    digest = keys.number_digest(number.e164)
    _check(db, inviter, number.e164, digest)
    db.execute(_DROP, {"inviter_id": inviter.id})
    db.execute(_DRAFT, {"inviter_id": inviter.id, "number": keys.seal_text(b"number", number.e164), "digest": digest})
    audit.record(db, inviter.id, command.by.actor, command.by.channel, "invitation.draft", None, command.by.trace)
    return Draft(number.e164, _words(db, inviter, number.e164, in_language))


def _check(db: Session, inviter: Person, number: str, digest: bytes) -> None:
    limits = service_of(db).limits
    sent, received, twice = db.execute(_COUNTS, {"inviter_id": inviter.id, "digest": digest}).one()
    shown = display(number, inviter.region)
    if twice:
        raise Refused("You have invited {number} before. One invitation is enough.", number=shown)
    if sent >= limits.invitations_a_day:
        raise Refused("You can invite {limit} people a day. Please go on tomorrow.", limit=limits.invitations_a_day)
    if received >= limits.invited_a_day:
        raise Refused("{number} cannot be invited today. Please try tomorrow.", number=shown)


def _words(db: Session, inviter: Person, number: str, in_language: InLanguage) -> str:
    shown = display(inviter.number, region_of(number) or "")
    name = f"{inviter.name} ({shown})" if inviter.name else shown
    words = in_language(subscribers.language_for(number))(_INVITATION)
    return words.format(inviter=name, service=service_of(db).name)


_DRAFTED = text("""
    select id, number, number_digest from invitation
     where inviter_id = :inviter_id and state = 'drafted' and created_at > now() - interval '1 day'""")
# Two inviters of one number at the same moment must not both see the last place of its day.
_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(:key)")
_SEND = text("""
    update invitation i set created_at = now(),
           state = case when exists (select from stopped s where s.number_digest = i.number_digest)
                          or exists (select from subscriber m where m.number_digest = i.number_digest
                                        and m.state = 'member') then 'stopped' else 'open' end
     where i.id = :id and i.state = 'drafted'
    returning i.state""")


def send_draft(db: Session, inviter_id: int, by: By, in_language: InLanguage) -> Draft | None:
    """The inviter said yes to the draft's words: send them, unless the number is not to be invited. None: no draft.

    Raises Refused where a limit was reached since the draft.
    """
    inviter = subscribers.get(db, inviter_id, lock=True)
    row = db.execute(_DRAFTED, {"inviter_id": inviter.id}).one_or_none()
    if row is None:
        return None
    invitation_id, sealed, digest = row[0], row[1], bytes(row[2])
    number = service_of(db).keys.open_text(b"number", sealed)
    db.execute(_ONE_AT_A_TIME, {"key": int.from_bytes(digest[1:9], "big", signed=True)})
    _check(db, inviter, number, digest)
    words = _words(db, inviter, number, in_language)
    if db.execute(_SEND, {"id": invitation_id}).scalar_one() == "open":
        outbox.send(db, number, words, outbox.Kind.INVITATION, by.trace)
    audit.record(db, inviter.id, by.actor, by.channel, "invitation.send", None, by.trace)
    return Draft(number, words)


def drop_draft(db: Session, inviter_id: int) -> bool:
    """Whether there was one."""
    result: Any = db.execute(_DROP, {"inviter_id": inviter_id})
    return bool(result.rowcount)


# --- by the invited -------------------------------------------------------------------------------------------------

# With what the inviter calls the number: nobody else's label for it is shown, and not his to anybody else.
_OPEN = text("""
    select i.id, s.number, s.language, s.region, s.state, c.name
      from invitation i join subscriber s on s.id = i.inviter_id
      left join contact c on c.owner_id = s.id and c.number_digest = i.number_digest and c.deleted_at is null
     where i.number_digest = :digest and i.state = 'open'
     order by i.created_at, i.id
       for no key update of i""")
_ANSWERED = text("""
    update invitation set state = :state, answered_at = now() where id = any(cast(:ids as bigint[]))""")


def accept(
    db: Session, number: str, *, words: str, by: By, in_language: InLanguage, name: str | None = None
) -> Person | None:
    """This number says yes to all that invited it: it is a member, and they are told. None: nobody invited it.

    Raises Refused for a bad name of their own.
    """
    invitations = _open_for(db, number)
    if not invitations:
        return None
    person = subscribers.join(db, number, words=words, by=by, name=name)
    consent.record(db, number, "invitation", yes=True, words=words, channel=by.channel, trace=by.trace)
    _answer(db, number, invitations, "accepted", _ACCEPTED, by, in_language)
    return person


def decline(db: Session, number: str, *, words: str, by: By, in_language: InLanguage) -> bool:
    """This number says no to all that invited it, and they are told. Whether anybody had."""
    invitations = _open_for(db, number)
    if invitations:
        consent.record(db, number, "invitation", yes=False, words=words, channel=by.channel, trace=by.trace)
        audit.record(db, None, by.actor, by.channel, "invitation.decline", None, by.trace)
        _answer(db, number, invitations, "declined", _DECLINED, by, in_language)
    return bool(invitations)


def _open_for(db: Session, number: str) -> list[Any]:
    return list(db.execute(_OPEN, {"digest": service_of(db).keys.number_digest(number)}))


def _answer(
    db: Session, number: str, invitations: list[Any], state: str, notice: str, by: By, in_language: InLanguage
) -> None:
    db.execute(_ANSWERED, {"ids": [row[0] for row in invitations], "state": state})
    service = service_of(db)
    for _id, inviter, language, region, inviter_state, label in invitations:
        if inviter_state != "member":
            continue
        shown = display(number, region)
        who = f"{service.keys.open_text(b'name', label)} {shown}" if label is not None else shown
        outbox.send(
            db,
            service.keys.open_text(b"number", inviter),
            in_language(language)(notice).format(who=who, service=service.name),
            outbox.Kind.NOTICE,
            by.trace,
        )
