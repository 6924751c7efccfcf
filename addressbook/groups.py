"""Named groups of an owner's contacts. A group is found by the digest of its folded name: "Work" and "work" are one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import audit, subscribers
from addressbook.audit import By
from addressbook.errors import Conflict, NotFound, Refused
from addressbook.names import clean_name, same_name
from addressbook.service import service_of


class Named(NamedTuple):
    """A group's name as it is kept, and the digest by which it is found."""

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """A group and how many contacts are in it."""

    id: int
    name: str
    version: int
    members: int = 0


@dataclass(frozen=True, slots=True)
class CreateGroup:
    owner_id: int
    name: str
    by: By


@dataclass(frozen=True, slots=True)
class RenameGroup:
    """version: the group's as the caller saw it; None: whichever."""

    owner_id: int
    group_id: int
    name: str
    by: By
    version: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """The group goes, its contacts stay."""

    owner_id: int
    group_id: int
    by: By
    version: int | None = None


@dataclass(frozen=True, slots=True)
class AddMember:
    owner_id: int
    group_id: int
    contact_id: int
    by: By


@dataclass(frozen=True, slots=True)
class RemoveMember:
    owner_id: int
    group_id: int
    contact_id: int
    by: By


def named(db: Session, raw_names: Iterable[str]) -> tuple[Named, ...]:
    """Clean names of groups, each once. Raises Refused."""
    service = service_of(db)
    found: dict[bytes, Named] = {}
    for raw in raw_names:
        name = clean_name(raw, service.limits.name_characters)
        digest = service.keys.digest(b"group", same_name(name))
        found.setdefault(digest, Named(name, digest))
    return tuple(found.values())


# --- commands -------------------------------------------------------------------------------------------------------

_CREATE = text(
    "insert into contact_group (owner_id, name, name_digest) values (:owner_id, :name, :digest) returning id"
)
_RENAME = text("update contact_group set name = :name, name_digest = :digest, version = version + 1 where id = :id")
_DELETE = text("update contact_group set deleted_at = now(), version = version + 1 where id = :id")


def create(db: Session, command: CreateGroup) -> Group:
    """Raises Refused: a bad name, a group of this name, too many groups."""
    subscribers.get(db, command.owner_id, lock=True)
    (wanted,) = named(db, [command.name])
    if twin := _by_digest(db, command.owner_id, wanted.digest):
        raise Refused("There is a group {name} already.", name=twin.name)
    for refused in without_room(db, {command.owner_id: (wanted,)}).values():
        raise refused
    keys = service_of(db).keys
    values = {"owner_id": command.owner_id, "name": keys.seal_text(b"name", wanted.name), "digest": wanted.digest}
    group = Group(db.execute(_CREATE, values).scalar_one(), wanted.name, 1)
    _changed(db, command.owner_id, "group.create", command.by, group_id=group.id, after={"name": group.name})
    return group


def rename(db: Session, command: RenameGroup) -> Group:
    """Raises NotFound, Conflict, Refused as create does."""
    subscribers.get(db, command.owner_id, lock=True)
    before = _at_version(db, command.owner_id, command.group_id, command.version)
    (wanted,) = named(db, [command.name])
    twin = _by_digest(db, command.owner_id, wanted.digest)
    if twin and twin.id != before.id:
        raise Refused("There is a group {name} already.", name=twin.name)
    if wanted.name == before.name:
        return before
    keys = service_of(db).keys
    db.execute(_RENAME, {"id": before.id, "name": keys.seal_text(b"name", wanted.name), "digest": wanted.digest})
    _changed(
        db, command.owner_id, "group.rename", command.by,
        group_id=before.id, before={"name": before.name}, after={"name": wanted.name},
    )  # fmt: skip
    return Group(before.id, wanted.name, before.version + 1, before.members)


def delete(db: Session, command: DeleteGroup) -> Group:
    """Raises NotFound, Conflict."""
    subscribers.get(db, command.owner_id, lock=True)
    before = _at_version(db, command.owner_id, command.group_id, command.version)
    db.execute(_DELETE, {"id": before.id})
    _changed(db, command.owner_id, "group.delete", command.by, group_id=before.id, before={"name": before.name})
    return before


_HAS_CONTACT = text("select from contact where id = :id and owner_id = :owner_id and deleted_at is null")
_ADD_MEMBER = text(
    "insert into membership (group_id, contact_id) values (:group_id, :contact_id) on conflict do nothing"
)
_REMOVE_MEMBER = text("delete from membership where group_id = :group_id and contact_id = :contact_id")


def add_member(db: Session, command: AddMember) -> bool:
    """Whether the contact was not in the group before. Raises NotFound."""
    return _move(db, command, _ADD_MEMBER, "group.add")


def remove_member(db: Session, command: RemoveMember) -> bool:
    """Whether the contact was in the group. Raises NotFound."""
    return _move(db, command, _REMOVE_MEMBER, "group.remove")


def _move(db: Session, command: AddMember | RemoveMember, statement: Any, action: str) -> bool:
    owner_id, group_id, contact_id = command.owner_id, command.group_id, command.contact_id
    subscribers.get(db, owner_id, lock=True)
    group = get(db, owner_id, group_id)
    if db.execute(_HAS_CONTACT, {"id": contact_id, "owner_id": owner_id}).one_or_none() is None:
        raise NotFound("There is no such entry in your book.")
    result: Any = db.execute(statement, {"group_id": group_id, "contact_id": contact_id})
    if not result.rowcount:
        return False
    name = {"group": group.name}
    before, after = (None, name) if action == "group.add" else (name, None)
    _changed(db, owner_id, action, command.by, group_id=group_id, contact_id=contact_id, before=before, after=after)
    return True


def _changed(db: Session, owner_id: int, action: str, by: By, **what: Any) -> None:
    audit.book_changed(db, owner_id, subscribers.next_version(db, owner_id), action, by, **what)


# --- for contacts.add_many ------------------------------------------------------------------------------------------

_ROOM = text("""
    select w.owner_id, count(*) filter (where g.id is null) as wanted,
           (select count(*) from contact_group o where o.owner_id = w.owner_id and o.deleted_at is null) as there
      from unnest(cast(:owner_id as bigint[]), cast(:digest as bytea[])) as w(owner_id, digest)
      left join contact_group g on g.owner_id = w.owner_id and g.name_digest = w.digest and g.deleted_at is null
     group by w.owner_id""")


def without_room(db: Session, wanted: Mapping[int, Sequence[Named]]) -> dict[int, Refused]:
    """Owners whose book cannot take these groups, those among them that are new."""
    pairs = [(owner_id, group.digest) for owner_id, names in wanted.items() for group in names]
    limit = service_of(db).limits.groups
    rows = db.execute(_ROOM, {"owner_id": [pair[0] for pair in pairs], "digest": [pair[1] for pair in pairs]})
    return {
        owner_id: Refused("You have {limit} groups already, more is not possible.", limit=limit)
        for owner_id, new, there in rows
        if new and there + new > limit
    }


# Groups that are there keep the name they were made with.
_PUT_IN = text("""
    with item as (
        select * from unnest(cast(:owner_id as bigint[]), cast(:contact_id as bigint[]), cast(:name as bytea[]),
                             cast(:digest as bytea[])) as item(owner_id, contact_id, name, digest)
    ), made as (
        insert into contact_group (owner_id, name, name_digest)
        select owner_id, name, digest from item
            on conflict (owner_id, name_digest) where deleted_at is null do nothing
        returning id, owner_id, name_digest
    ), there as (
        select id, owner_id, name_digest from made
         union all
        select g.id, g.owner_id, g.name_digest
          from contact_group g join item i on i.owner_id = g.owner_id and i.digest = g.name_digest
         where g.deleted_at is null
    )
    insert into membership (group_id, contact_id)
    select t.id, i.contact_id from item i join there t on t.owner_id = i.owner_id and t.name_digest = i.digest
        on conflict do nothing""")


def put_in(db: Session, contacts: Sequence[tuple[int, int, Sequence[Named]]]) -> None:
    """Put contacts (owner, contact, groups) of locked owners into groups, which are made where they are missing."""
    if not contacts:
        return
    seal = service_of(db).keys.seal
    rows = [
        (owner_id, contact_id, seal(b"name", group.name.encode()), group.digest)
        for owner_id, contact_id, names in contacts
        for group in names
    ]
    owner_id, contact_id, name, digest = map(list, zip(*rows, strict=True))
    db.execute(_PUT_IN, {"owner_id": owner_id, "contact_id": contact_id, "name": name, "digest": digest})


# --- read -----------------------------------------------------------------------------------------------------------

_COUNTED = """
    select g.id, g.name, g.version,
           (select count(*) from membership m join contact c on c.id = m.contact_id
             where m.group_id = g.id and c.deleted_at is null)
      from contact_group g where g.owner_id = :owner_id and g.deleted_at is null"""
_ALL = text(_COUNTED)
_BY_ID = text(_COUNTED + " and g.id = :id")
_BY_DIGEST = text(_COUNTED + " and g.name_digest = :digest")


def groups_of(db: Session, owner_id: int) -> list[Group]:
    """By name, with the number of members."""
    found = [_group(db, row) for row in db.execute(_ALL, {"owner_id": owner_id})]
    return sorted(found, key=lambda group: (same_name(group.name), group.id))


def get(db: Session, owner_id: int, group_id: int) -> Group:
    """Raises NotFound; another owner's group is not found either."""
    row = db.execute(_BY_ID, {"owner_id": owner_id, "id": group_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such group in your book.")
    return _group(db, row)


def by_name(db: Session, owner_id: int, name: str) -> Group | None:
    """In any case; None also for what cannot be a name."""
    try:
        (wanted,) = named(db, [name])
    except Refused:
        return None
    return _by_digest(db, owner_id, wanted.digest)


def _by_digest(db: Session, owner_id: int, digest: bytes) -> Group | None:
    row = db.execute(_BY_DIGEST, {"owner_id": owner_id, "digest": digest}).one_or_none()
    return None if row is None else _group(db, row)


def _at_version(db: Session, owner_id: int, group_id: int, version: int | None) -> Group:
    group = get(db, owner_id, group_id)
    if version is not None and group.version != version:
        raise Conflict("{name} was changed meanwhile. Look at it again, then decide.", name=group.name)
    return group


def _group(db: Session, row: Any) -> Group:
    return Group(row[0], service_of(db).keys.open_text(b"name", row[1]), row[2], row[3])


_NAMES_OF = text("""
    select m.contact_id, g.id, g.name
      from contact_group g join membership m on m.group_id = g.id
     where g.owner_id = :owner_id and g.deleted_at is null and m.contact_id = any(cast(:contact_ids as bigint[]))""")


def names_of(db: Session, owner_id: int, contact_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The groups of each of these contacts, by name; contacts without a group are left out."""
    keys = service_of(db).keys
    opened: dict[int, str] = {}
    found: dict[int, list[str]] = {}
    for contact_id, group_id, sealed in db.execute(_NAMES_OF, {"owner_id": owner_id, "contact_ids": list(contact_ids)}):
        if group_id not in opened:
            opened[group_id] = keys.open_text(b"name", sealed)
        found.setdefault(contact_id, []).append(opened[group_id])
    return {contact_id: tuple(sorted(names, key=same_name)) for contact_id, names in found.items()}
