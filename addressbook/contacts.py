"""The entries of a book: add, change, delete, find.

    add_many   locked owners ─> checks ─> one statement adds the entries and counts up the versions ─> groups
    change, delete   the owner's row is locked first, so that two edits of one book never cross

Each command checks everything before it writes anything, because several texts share one transaction. A number stands
once in a book (unique index); a name may stand often.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import audit, groups, subscribers
from addressbook.audit import By
from addressbook.errors import Conflict, NotFound, Refused
from addressbook.names import clean_name, same_name
from addressbook.numbers import display, parse
from addressbook.service import service_of
from addressbook.subscribers import Person

GROUPS_OF_ONE_ADD_MAX = 5


@dataclass(frozen=True, slots=True)
class AddContact:
    """Put a number under a name, into these groups; a group that is not there yet is made."""

    owner_id: int
    name: str
    number: str  # as written
    by: By
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeContact:
    """Another name, another number, or both. version: the entry's as the caller saw it; None: whichever."""

    owner_id: int
    contact_id: int
    by: By
    name: str | None = None
    number: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteContact:
    owner_id: int
    contact_id: int
    by: By
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A contact as it stands in the book."""

    id: int
    name: str
    number: str
    version: int
    groups: tuple[str, ...] = ()


# --- add ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Adding:
    """One command on its way, checked."""

    command: AddContact
    owner: Person
    name: str
    number: str
    digest: bytes
    groups: tuple[groups.Named, ...]


def add(db: Session, command: AddContact) -> Entry:
    """Add one contact. Raises Refused: a bad name or number, a number that is in the book, a full book."""
    (added,) = add_many(db, [(subscribers.get(db, command.owner_id, lock=True), command)])
    if isinstance(added, Refused):
        raise added
    return added


def add_many(db: Session, commands: Sequence[tuple[Person, AddContact]]) -> list[Entry | Refused]:
    """Add one contact to each of these books, in a handful of statements however many they are.

    Every owner must be locked by the caller (subscribers.find_many(lock=True)) and appear once. A refused command
    writes nothing and does not hinder the others. Results in the order of the commands.
    """
    results: dict[int, Entry | Refused] = {}
    adding: dict[int, _Adding] = {}
    for owner, command in commands:
        try:
            adding[owner.id] = _checked(db, owner, command)
        except Refused as refused:
            results[owner.id] = refused
    results |= _without_room_for_groups(db, adding)
    if adding:
        rows = _insert(db, adding)
        missing = [item for owner_id, item in adding.items() if owner_id not in rows]
        results |= _why_not(db, missing)
        groups.put_in(
            db,
            [
                (owner_id, contact_id, adding[owner_id].groups)
                for owner_id, (contact_id, _) in rows.items()
                if adding[owner_id].groups
            ],
        )
        for owner_id, (contact_id, version) in rows.items():
            results[owner_id] = _added(db, adding[owner_id], contact_id, version)
    return [results[owner.id] for owner, _ in commands]


def _checked(db: Session, owner: Person, command: AddContact) -> _Adding:
    service = service_of(db)
    if len(command.groups) > GROUPS_OF_ONE_ADD_MAX:
        raise Refused("At most {limit} groups at once.", limit=GROUPS_OF_ONE_ADD_MAX)
    name = clean_name(command.name, service.limits.name_characters)
    number = parse(command.number, owner.region).e164
    return _Adding(command, owner, name, number, service.keys.number_digest(number), groups.named(db, command.groups))


def _without_room_for_groups(db: Session, adding: dict[int, _Adding]) -> dict[int, Entry | Refused]:
    """Take out those whose new groups would be too many."""
    wanted = {owner_id: item.groups for owner_id, item in adding.items() if item.groups}
    refused: dict[int, Entry | Refused] = dict(groups.without_room(db, wanted)) if wanted else {}
    for owner_id in refused:
        del adding[owner_id]
    return refused


# A version adds at most one contact, so a book whose version is below the limit has room and need not be counted.
_INSERT = text("""
    with item as (
        select * from unnest(cast(:owner_id as bigint[]), cast(:name as bytea[]), cast(:number as bytea[]),
                             cast(:digest as bytea[])) as item(owner_id, name, number, digest)
    ), added as (
        insert into contact (owner_id, name, number, number_digest)
        select i.owner_id, i.name, i.number, i.digest
          from item i join subscriber s on s.id = i.owner_id
         where case when s.book_version < :contacts_max then true
                    else (select count(*) from contact c
                           where c.owner_id = i.owner_id and c.deleted_at is null) < :contacts_max end
            on conflict (owner_id, number_digest) where deleted_at is null do nothing
        returning id, owner_id
    )
    update subscriber s set book_version = s.book_version + 1
      from added a where s.id = a.owner_id
    returning s.id, a.id, s.book_version""")


def _insert(db: Session, adding: dict[int, _Adding]) -> dict[int, tuple[int, int]]:
    """By owner: the new contact and the new version of the book."""
    service = service_of(db)
    seal = service.keys.seal
    items = adding.values()
    rows = db.execute(
        _INSERT,
        {
            "owner_id": list(adding),
            "name": [seal(b"name", item.name.encode()) for item in items],
            "number": [seal(b"number", item.number.encode()) for item in items],
            "digest": [item.digest for item in items],
            "contacts_max": service.limits.contacts,
        },
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def _added(db: Session, item: _Adding, contact_id: int, version: int) -> Entry:
    entry = Entry(contact_id, item.name, item.number, 1, tuple(group.name for group in item.groups))
    audit.book_changed(
        db, item.owner.id, version, "contact.add", item.command.by, contact_id=contact_id, after=_state(entry)
    )
    return entry


_DUPLICATES = text("""
    select c.owner_id, c.id, c.name, c.number, c.version
      from unnest(cast(:owner_id as bigint[]), cast(:digest as bytea[])) as i(owner_id, digest)
      join contact c on c.owner_id = i.owner_id and c.number_digest = i.digest and c.deleted_at is null""")


def _why_not(db: Session, items: Sequence[_Adding]) -> dict[int, Entry | Refused]:
    """What to say about entries that the insert left out."""
    if not items:
        return {}
    rows = db.execute(
        _DUPLICATES, {"owner_id": [item.owner.id for item in items], "digest": [item.digest for item in items]}
    )
    there = {row[0]: _entry(db, row[1:]) for row in rows}
    limit = service_of(db).limits.contacts
    return {
        item.owner.id: _duplicate(entry, item.owner)
        if (entry := there.get(item.owner.id))
        else Refused("Your book is full: {limit} entries at most.", limit=limit)
        for item in items
    }


def _duplicate(entry: Entry, owner: Person) -> Refused:
    return Refused(
        "{number} is in your book already, as {name}.",
        number=display(entry.number, owner.region),
        name=entry.name,
    )


# --- change and delete ----------------------------------------------------------------------------------------------

_CHANGE = text("""
    update contact
       set name = :name, number = :number, number_digest = :digest, version = version + 1, updated_at = now()
     where id = :id""")

_DELETE = text("update contact set deleted_at = now(), version = version + 1, updated_at = now() where id = :id")


def change(db: Session, command: ChangeContact) -> Entry:
    """Raises NotFound, Conflict (somebody changed the entry since), Refused as add does."""
    owner = subscribers.get(db, command.owner_id, lock=True)
    before = _at_version(db, command.owner_id, command.contact_id, command.version)
    service = service_of(db)
    name = before.name if command.name is None else clean_name(command.name, service.limits.name_characters)
    number = before.number if command.number is None else parse(command.number, owner.region).e164
    if (name, number) == (before.name, before.number):
        return before
    keys = service.keys
    if number != before.number and (twin := by_number(db, owner.id, number)):
        raise _duplicate(twin, owner)
    db.execute(
        _CHANGE,
        {
            "id": before.id,
            "name": keys.seal_text(b"name", name),
            "number": keys.seal_text(b"number", number),
            "digest": keys.number_digest(number),
        },
    )
    after = replace(before, name=name, number=number, version=before.version + 1)
    version = subscribers.next_version(db, owner.id)
    audit.book_changed(
        db, owner.id, version, "contact.change", command.by,
        contact_id=before.id, before=_state(before), after=_state(after),
    )  # fmt: skip
    return after


def delete(db: Session, command: DeleteContact) -> Entry:
    """Take it out of the book; what it was. The row is kept for undo. Raises NotFound, Conflict."""
    owner = subscribers.get(db, command.owner_id, lock=True)
    before = _at_version(db, owner.id, command.contact_id, command.version)
    db.execute(_DELETE, {"id": before.id})
    version = subscribers.next_version(db, owner.id)
    audit.book_changed(db, owner.id, version, "contact.delete", command.by, contact_id=before.id, before=_state(before))
    return before


def _at_version(db: Session, owner_id: int, contact_id: int, version: int | None) -> Entry:
    entry = get(db, owner_id, contact_id)
    if version is not None and entry.version != version:
        raise Conflict("{name} was changed meanwhile. Look at it again, then decide.", name=entry.name)
    return entry


def _state(entry: Entry) -> dict[str, Any]:
    """For the history."""
    return {"name": entry.name, "number": entry.number, "groups": list(entry.groups)}


# --- read -----------------------------------------------------------------------------------------------------------

_OF_BOOK = "select id, name, number, version from contact where owner_id = :owner_id and deleted_at is null"
_ALL = text(_OF_BOOK)
_BY_ID = text(_OF_BOOK + " and id = :id")
_BY_DIGEST = text(_OF_BOOK + " and number_digest = :digest")
_OF_GROUP = text(
    _OF_BOOK + " and exists (select from membership m where m.contact_id = contact.id and m.group_id = :group_id)"
)


def entries(db: Session, owner_id: int, *, group_id: int | None = None) -> list[Entry]:
    """The whole book, or one group of it, by name; with the groups of each."""
    if group_id is None:
        rows = db.execute(_ALL, {"owner_id": owner_id})
    else:
        rows = db.execute(_OF_GROUP, {"owner_id": owner_id, "group_id": group_id})
    found = [_entry(db, row) for row in rows]
    found.sort(key=lambda entry: (same_name(entry.name), entry.id))
    return _with_groups(db, owner_id, found)


def get(db: Session, owner_id: int, contact_id: int) -> Entry:
    """Raises NotFound; another owner's entry is not found either."""
    row = db.execute(_BY_ID, {"owner_id": owner_id, "id": contact_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such entry in your book.")
    return _with_groups(db, owner_id, [_entry(db, row)])[0]


def by_number(db: Session, owner_id: int, number: str) -> Entry | None:
    """number: E.164, or a short code as dialled."""
    digest = service_of(db).keys.number_digest(number)
    row = db.execute(_BY_DIGEST, {"owner_id": owner_id, "digest": digest}).one_or_none()
    return None if row is None else _with_groups(db, owner_id, [_entry(db, row)])[0]


def find(db: Session, owner_id: int, who: str, region: str) -> list[Entry]:
    """Everyone in the book of exactly this name, in any case; or with this number, as a person of the region writes it.

    A name is asked first: names are sealed without a digest, so the whole book is opened, 5 ms for 2,000 entries.
    """
    wanted = same_name(" ".join(who.split()))
    keys = service_of(db).keys
    rows = [
        row for row in db.execute(_ALL, {"owner_id": owner_id}) if same_name(keys.open_text(b"name", row[1])) == wanted
    ]
    if rows:
        return _with_groups(db, owner_id, [_entry(db, row) for row in rows])
    try:
        number = parse(who, region)
    except Refused:
        return []
    entry = by_number(db, owner_id, number.e164)
    return [] if entry is None else [entry]


def _entry(db: Session, row: Any) -> Entry:
    keys = service_of(db).keys
    return Entry(row[0], keys.open_text(b"name", row[1]), keys.open_text(b"number", row[2]), row[3])


def _with_groups(db: Session, owner_id: int, found: list[Entry]) -> list[Entry]:
    if not found:
        return found
    of_contact = groups.names_of(db, owner_id, [entry.id for entry in found])
    return [replace(entry, groups=of_contact[entry.id]) if entry.id in of_contact else entry for entry in found]
