"""Who said yes or no to what, when, in which words; and the STOP that holds over everything.

    STOP ─> ledger "no" to everything, stopped, membership left, open invitations closed, the queue cancelled
    START ─> ledger "yes", no longer stopped            (subscribers.join does this)

After a STOP nothing is sent to the number, not even a confirmation, until its START: a person who wants no more
texts gets no more texts. What is already with the carrier cannot be called back. The ledger is only ever added to.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import audit, outbox
from addressbook.service import collect, service_of

_LEDGER = text("""
    insert into consent (number, number_digest, purpose, answer, words, channel, trace)
    select c.number, c.digest, c.purpose, c.answer, c.words, c.channel, c.trace
      from unnest(cast(:number as bytea[]), cast(:digest as bytea[]), cast(:purpose as text[]),
                  cast(:answer as text[]), cast(:words as bytea[]), cast(:channel as text[]),
                  cast(:trace as text[])) with ordinality
           as c(number, digest, purpose, answer, words, channel, trace, place)
     order by c.place""")

WORDS_CHARACTERS_MAX = 320  # of the text that said it; two parts of a long one show what was meant


def record(db: Session, number: str, purpose: str, *, yes: bool, words: str, channel: str, trace: str) -> None:
    """Add one answer to the ledger. Purposes: "membership", "invitation", "everything"."""
    answer = "yes" if yes else "no"
    kept = words[:WORDS_CHARACTERS_MAX].encode(errors="replace").decode()
    collect(db, _write_answers, (number, purpose, answer, kept, channel, trace))


def _write_answers(db: Session, answers: Sequence[tuple[str, str, str, str, str, str]]) -> None:
    keys = service_of(db).keys
    number, purpose, answer, words, channel, trace = map(list, zip(*answers, strict=True))
    db.execute(
        _LEDGER,
        {
            "number": [keys.seal_text(b"number", one) for one in number],
            "digest": [keys.number_digest(one) for one in number],
            "purpose": purpose, "answer": answer, "words": [keys.seal_text(b"text", one) for one in words],
            "channel": channel, "trace": trace,
        },
    )  # fmt: skip


# One statement, so that no moment exists in which only half of it holds. An open push is closed too: its planner
# would only make messages that are cancelled as they are written. A draft of theirs goes with their membership.
_STOP = text("""
    with halted as (
        insert into stopped (number_digest) values (:digest) on conflict (number_digest) do nothing
    ), invited as (
        update invitation set state = 'stopped', answered_at = now()
         where number_digest = :digest and state in ('open', 'drafted')
    ), gone as (
        update subscriber set state = 'left' where number_digest = :digest and state = 'member' returning id
    ), undrafted as (
        delete from invitation i using gone where i.inviter_id = gone.id and i.state = 'drafted'
    ), unpushed as (
        update push p set state = 'failed', finished_at = now()
          from gone where p.owner_id = gone.id and p.state = 'open'
    )
    select id from gone""")


def stop(db: Session, number: str, words: str, channel: str, trace: str) -> None:
    """Send this number nothing any more, at once, whatever waits. Saying it twice is as good as once."""
    digest = service_of(db).keys.number_digest(number)
    record(db, number, "everything", yes=False, words=words, channel=channel, trace=trace)
    left = db.execute(_STOP, {"digest": digest}).scalar_one_or_none()
    outbox.cancel_for(db, digest)
    audit.record(db, left, "owner" if left else "invitee", channel, "consent.stop", None, trace)


_START = text("delete from stopped where number_digest = :digest")


def start(db: Session, number: str, purpose: str, words: str, channel: str, trace: str) -> None:
    """This number may be texted again, because it said so."""
    record(db, number, purpose, yes=True, words=words, channel=channel, trace=trace)
    db.execute(_START, {"digest": service_of(db).keys.number_digest(number)})


_STOPPED = text("select number_digest from stopped where number_digest = any(cast(:digests as bytea[]))")


def stopped_among(db: Session, numbers: Sequence[str]) -> set[str]:
    """Those of these numbers that said STOP and did not say START since."""
    digest = service_of(db).keys.number_digest
    by_digest = {digest(number): number for number in numbers}
    found = db.execute(_STOPPED, {"digests": list(by_digest)}).scalars()
    return {by_digest[bytes(one)] for one in found}


def is_stopped(db: Session, number: str) -> bool:
    return bool(stopped_among(db, [number]))
