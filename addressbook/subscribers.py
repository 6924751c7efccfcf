"""People the service knows: joining, their settings, leaving, being forgotten.

nobody ─join─> member ─STOP─> left ─join─> member         leaving keeps the book for BOOK_KEPT_DAYS
                  └───────────┴──erase─> nobody            whatever the state
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import audit, consent, outbox, pushes
from addressbook.audit import By
from addressbook.errors import NotFound, Refused
from addressbook.names import clean_name
from addressbook.numbers import region_of
from addressbook.service import service_of

BOOK_KEPT_DAYS = 30  # after STOP; a START within them finds the book as it was
CHINESE_REGIONS = frozenset({"CN", "TW", "HK", "MO", "SG"})
LANGUAGES = ("en", "zh")
HANDSETS = ("card", "text")
DEFAULT_HANDSET = "card"  # the phones that this is for take a business card; who cannot read them asks for text


@dataclass(frozen=True, slots=True)
class Person:
    """A subscriber as read at one moment."""

    id: int
    number: str
    name: str | None
    member: bool
    language: str
    region: str
    handset: str
    book_version: int
    used: bool  # did something after joining (R0.18)


def language_for(number: str) -> str:
    """What a stranger with this number probably reads."""
    return "zh" if region_of(number) in CHINESE_REGIONS else "en"


_COLUMNS = "id, number, number_digest, name, state, language, region, handset, book_version, first_used_at is not null"
_FIND = f"select {_COLUMNS} from subscriber where number_digest = any(cast(:digests as bytea[])) order by id"  # noqa: S608  # constants only
_FIND_MANY = text(_FIND)
_FIND_MANY_LOCKED = text(_FIND + " for no key update")
_GET = f"select {_COLUMNS} from subscriber where id = :id"  # noqa: S608  # constants only
_GET_ONE = text(_GET)
_GET_ONE_LOCKED = text(_GET + " for no key update")


def find_many(db: Session, numbers: Sequence[str], *, lock: bool = False) -> dict[str, Person]:
    """Those of these numbers (E.164) that are known. Locked in the order of their ids, so that batches never cross."""
    digest = service_of(db).keys.number_digest
    by_digest = {digest(number): number for number in numbers}
    rows = db.execute(_FIND_MANY_LOCKED if lock else _FIND_MANY, {"digests": list(by_digest)})
    return {person.number: person for row in rows if (person := _person(db, row, by_digest[bytes(row[2])]))}


def find(db: Session, number: str, *, lock: bool = False) -> Person | None:
    return find_many(db, [number], lock=lock).get(number)


def get(db: Session, subscriber_id: int, *, lock: bool = False) -> Person:
    """By id. Raises NotFound."""
    row = db.execute(_GET_ONE_LOCKED if lock else _GET_ONE, {"id": subscriber_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such subscriber.")
    return _person(db, row)


def _person(db: Session, row: Any, number: str | None = None) -> Person:
    keys = service_of(db).keys
    return Person(
        id=row[0],
        number=number or keys.open_text(b"number", row[1]),
        name=None if row[3] is None else keys.open_text(b"name", row[3]),
        member=row[4] == "member",
        language=row[5],
        region=row[6],
        handset=row[7],
        book_version=row[8],
        used=row[9],
    )


# The number's row may exist: left, or joining at this moment by another text.
_JOIN = text(f"""
    insert into subscriber (number, number_digest, name, state, language, region, handset)
    values (:number, :digest, :name, 'member', :language, :region, :handset)
        on conflict (number_digest) do update
           set state = 'member', name = coalesce(excluded.name, subscriber.name),
               joined_at = case when subscriber.state = 'left' then now() else subscriber.joined_at end
    returning {_COLUMNS}""")  # noqa: S608  # constants only


def join(
    db: Session,
    number: str,
    *,
    words: str,
    by: By,
    name: str | None = None,
    language: str | None = None,
    handset: str = DEFAULT_HANDSET,
    purpose: str = "membership",
) -> Person:
    """Make this number (E.164) a member on its own word; a STOP before it ends. A member stays one.

    The language follows the number's country until its owner chooses another. Raises Refused for a bad name.
    """
    service = service_of(db)
    keys = service.keys
    name = own_name(name, service.limits.name_characters) if name else None
    consent.start(db, number, purpose, words, by.channel, by.trace)
    row = db.execute(
        _JOIN,
        {
            "number": keys.seal_text(b"number", number),
            "digest": keys.number_digest(number),
            "name": None if name is None else keys.seal_text(b"name", name),
            "language": language or language_for(number),
            "region": region_of(number) or service.default_region,
            "handset": handset,
        },
    ).one()
    person = _person(db, row, number)
    audit.record(db, person.id, by.actor, by.channel, "subscriber.join", None, by.trace)
    if person.book_version:
        pushes.request(db, person.id, by.trace)  # they come back: the handset may have missed something
    return person


def own_name(raw: str, characters_max: int) -> str:
    """The name that a person's invitations carry to strangers: a name, not a message. Raises Refused."""
    name = clean_name(raw, characters_max)
    digits = sum(character.isdigit() for character in name)
    if "/" in name or "@" in name or digits > 4 or any("." in word[1:-1] for word in name.split()):
        raise Refused("Please send just your name, without addresses or numbers.")
    return name


_NAME = text("update subscriber set name = :name where id = :id")
_LANGUAGE = text("update subscriber set language = :language where id = :id")
_HANDSET = text("update subscriber set handset = :handset where id = :id")
_USED = text(
    "update subscriber set first_used_at = now() where id = any(cast(:ids as bigint[])) and first_used_at is null"
)


def set_name(db: Session, subscriber_id: int, name: str, by: By) -> str:
    """How this person is called in invitations; the name as it is kept."""
    service = service_of(db)
    kept = own_name(name, service.limits.name_characters)
    db.execute(_NAME, {"id": subscriber_id, "name": service.keys.seal_text(b"name", kept)})
    audit.record(db, subscriber_id, by.actor, by.channel, "subscriber.name", None, by.trace)
    return kept


def set_language(db: Session, subscriber_id: int, language: str, by: By) -> None:
    if language not in LANGUAGES:
        raise Refused("There is no such language here: {language}", language=language[:10])
    db.execute(_LANGUAGE, {"id": subscriber_id, "language": language})
    audit.record(db, subscriber_id, by.actor, by.channel, "subscriber.language", language, by.trace)


def set_handset(db: Session, subscriber_id: int, handset: str, by: By) -> None:
    """Which bearer the handset takes: "card" (vCard to port 9204) or "text"; what it holds is sent again that way."""
    if handset not in HANDSETS:
        raise Refused("There is no such handset profile: {handset}", handset=handset[:20])
    db.execute(_HANDSET, {"id": subscriber_id, "handset": handset})
    audit.record(db, subscriber_id, by.actor, by.channel, "subscriber.handset", handset, by.trace)
    pushes.request(db, subscriber_id, by.trace)


def mark_used(db: Session, subscriber_ids: Sequence[int]) -> None:
    """Note the first thing that these people did after joining (R0.18)."""
    if subscriber_ids:
        db.execute(_USED, {"ids": list(subscriber_ids)})


_NEXT_VERSION = text("update subscriber set book_version = book_version + 1 where id = :id returning book_version")


def next_version(db: Session, subscriber_id: int) -> int:
    """The number of the change that is being made to this book."""
    return int(db.execute(_NEXT_VERSION, {"id": subscriber_id}).scalar_one())


_LEFT_LONG_AGO = text("""
    select s.id from subscriber s join stopped t using (number_digest)
     where s.state = 'left' and t.since < now() - cast(:kept as interval)
     order by s.id limit :count""")


def left_long_ago(db: Session, count: int = 100) -> list[int]:
    """Whose book was kept long enough after their STOP; each is to be erased."""
    kept = timedelta(days=BOOK_KEPT_DAYS)
    return list(db.execute(_LEFT_LONG_AGO, {"kept": kept, "count": count}).scalars())


# The book, its history, pushes, handset entries and invitations sent go with the subscriber's row (on delete cascade).
_ERASE: Mapping[str, str] = {
    "audit": "update audit set detail = null where owner_id = :id",
    "ledger": "update consent set number = :nothing where number_digest = :digest",
    "invited": "update invitation set number = :nothing where number_digest = :digest",
    "outbox": "update outbox set number = :nothing, body = :no_text where number_digest = :digest",
    "inbox": "update inbox set sender = :nothing, body = :no_text where sender_digest = :digest",
    "sent": "update outbox_history set number = :nothing, body = :no_text where number_digest = :digest",
    "received": "update inbox_history set sender = :nothing, body = :no_text where sender_digest = :digest",
    "subscriber": "delete from subscriber where id = :id",
}
_ERASE_STATEMENTS = tuple(map(text, _ERASE.values()))


def erase(db: Session, subscriber_id: int, by: By) -> None:
    """Forget this person: the book, its history, what the handset holds, invitations sent, every text to and from.

    What stays cannot be read back to a person: the trail of acts without detail, the ledger's answers and a STOP under
    the number's keyed digest (so that a STOP outlives the book, and nobody invites the number twice), and the traffic's
    accounts with neither number nor text. Entries for this number in other people's books are theirs, and so are the
    texts that others got. Raises NotFound.
    """
    keys = service_of(db).keys
    person = get(db, subscriber_id, lock=True)
    digest = keys.number_digest(person.number)
    outbox.cancel_for(db, digest)
    values = {
        "id": subscriber_id,
        "digest": digest,
        "nothing": keys.seal(b"number", b""),
        "no_text": keys.seal(b"text", b""),
    }
    for statement in _ERASE_STATEMENTS:
        names = statement.compile().params
        db.execute(statement, {name: values[name] for name in names})
    audit.record(db, subscriber_id, by.actor, by.channel, "subscriber.erase", None, by.trace)
