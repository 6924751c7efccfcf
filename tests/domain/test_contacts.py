"""Entries and groups of a book: what is refused, what is kept, under a race too."""

import asyncio
import json
from collections.abc import Callable

import pytest
from people import AMINA, BY, CHEN, LI, count
from sqlalchemy import event, select, text

from addressbook import contacts, groups, subscribers
from addressbook.contacts import AddContact, ChangeContact, DeleteContact, Entry
from addressbook.errors import Conflict, NotFound, Refused
from addressbook.groups import AddMember, CreateGroup, DeleteGroup, Group, RemoveMember, RenameGroup
from addressbook.schema import Audit, BookChange, Contact, ContactGroup, Membership, Push
from addressbook.service import BookSession, Limits, Service
from addressbook.subscribers import Person
from runtime.database import Database

Join = Callable[..., Person]


@pytest.fixture
def li(join: Join) -> Person:
    return join(LI)


@pytest.fixture
def service(keys: object) -> Service:
    return Service(keys=keys, limits=Limits(contacts=3, groups=2, name_characters=10))  # type: ignore[arg-type]  # a KeyRing


def add(db: BookSession, owner: Person, name: str, number: str, *names: str) -> Entry:
    return contacts.add(db, AddContact(owner.id, name, number, BY, names))


@pytest.mark.parametrize(
    ("name", "number", "names", "words"),
    [
        ("", "13800138000", (), "The name is missing."),
        ("\u202e\u200b", "13800138000", (), "The name is missing."),
        ("王" * 11, "13800138000", (), "That name is too long: 10 characters at most."),
        ("王" * 10_000, "13800138000", (), "That name is too long: 10 characters at most."),
        ("王", "", (), "The number is missing."),
        ("王", "1380013800", (), "1380013800 is no number in your country. Check the digits, or write + and the"),
        ("王", "13800138000", ("友" * 11,), "That name is too long: 10 characters at most."),
        ("王", "13800138000", ("",), "The name is missing."),
        ("王", "13800138000", tuple("abcdef"), "At most 5 groups at once."),
        ("王", "13800138000", tuple("abc"), "You have 2 groups already, more is not possible."),
    ],
)
def test_a_refused_add_changes_nothing(
    name: str, number: str, names: tuple[str, ...], words: str, db: BookSession, li: Person
) -> None:
    with pytest.raises(Refused) as refused:
        add(db, li, name, number, *names)
    assert refused.value.render().startswith(words)
    db.commit()
    assert (count(db, Contact), count(db, ContactGroup), count(db, BookChange), count(db, Push)) == (0, 0, 0, 0)
    assert subscribers.get(db, li.id).book_version == 0


def test_an_add_is_one_version_with_its_groups(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "138 0013 8000", "朋友", "朋友", "Work")
    db.commit()
    assert entry == Entry(entry.id, "张三", "+8613800138000", 1, ("朋友", "Work"))
    assert subscribers.get(db, li.id).book_version == 1
    (change,) = db.execute(select(BookChange)).scalars()
    assert (change.version, change.action, change.contact_id, change.before) == (1, "contact.add", entry.id, None)
    assert json.loads(change.after or "") == {"name": "张三", "number": "+8613800138000", "groups": ["朋友", "Work"]}
    audit = db.execute(select(Audit).order_by(Audit.id)).scalars().all()[-1]
    assert (audit.owner_id, audit.actor, audit.channel, audit.action) == (li.id, "owner", "test", "contact.add")
    assert db.execute(select(Push.owner_id, Push.state)).all() == [(li.id, "open")]


def test_a_number_stands_once_and_a_name_often(db: BookSession, li: Person) -> None:
    add(db, li, "张三", "13800138000")
    with pytest.raises(Refused, match="already") as refused:
        add(db, li, "李四", "+86 13800138000")
    assert refused.value.render() == "13800138000 is in your book already, as 张三."
    add(db, li, "张三", "13800138001")
    db.commit()
    assert [entry.name for entry in contacts.entries(db, li.id)] == ["张三", "张三"]


def test_two_books_may_hold_the_same_number(db: BookSession, li: Person, join: Join) -> None:
    amina = join(AMINA)
    add(db, li, "Joe", "+254712345678")
    add(db, amina, "Joseph", "0712345678")
    assert [entry.name for entry in contacts.find(db, amina.id, "0712345678", "KE")] == ["Joseph"]
    assert [entry.name for entry in contacts.find(db, li.id, "joe", "CN")] == ["Joe"]


def test_a_full_book_is_refused_and_has_room_after_a_deletion(db: BookSession, li: Person) -> None:
    entries = [add(db, li, f"n{n}", f"1380013800{n}") for n in range(3)]
    with pytest.raises(Refused, match="full"):
        add(db, li, "n3", "13800138003")
    contacts.delete(db, DeleteContact(li.id, entries[0].id, BY))
    add(db, li, "n3", "13800138003")
    with pytest.raises(Refused, match="full"):
        add(db, li, "n4", "13800138004")
    db.commit()
    assert len(contacts.entries(db, li.id)) == 3


def test_room_for_groups_counts_only_new_ones(db: BookSession, li: Person) -> None:
    add(db, li, "a", "13800138000", "x", "y")
    add(db, li, "b", "13800138001", "X", "Y")
    with pytest.raises(Refused, match="groups already"):
        add(db, li, "c", "13800138002", "x", "z")
    with pytest.raises(Refused, match="groups already"):
        groups.create(db, CreateGroup(li.id, "z", BY))
    assert groups.groups_of(db, li.id) == [Group(1, "x", 1, 2), Group(2, "y", 1, 2)]


async def test_two_adds_of_one_number_at_once_make_one_row(database: Database) -> None:
    owner = await database.transact(lambda db: subscribers.join(db, LI, words="START", by=BY))

    def attempt(db: BookSession, name: str) -> str:
        try:
            return contacts.add(db, AddContact(owner.id, name, "13800138000", BY, ("g",))).name
        except Refused as refused:
            return refused.words

    results = await asyncio.gather(*(database.transact(attempt, f"n{n}") for n in range(8)))  # type: ignore[arg-type]  # BookSession
    assert sorted(result.startswith("n") for result in results) == [False] * 7 + [True]
    assert await database.transact(lambda db: db.execute(select(Contact.id)).scalars().all()) == [1]
    assert (await database.transact(lambda db: subscribers.get(db, owner.id))).book_version == 1


async def test_two_unlocked_batches_of_one_number_make_one_row(database: Database) -> None:
    """The unique index holds even where nobody took the lock."""
    owner = await database.transact(lambda db: subscribers.join(db, LI, words="START", by=BY))

    def attempt(db: BookSession, name: str) -> bool:
        (result,) = contacts.add_many(db, [(owner, AddContact(owner.id, name, "13800138000", BY))])
        return isinstance(result, Entry)

    results = await asyncio.gather(*(database.transact(attempt, f"n{n}") for n in range(8)))  # type: ignore[arg-type]  # BookSession
    assert sum(results) == 1


async def test_edits_of_one_book_at_once_get_a_version_each(database: Database) -> None:
    owner = await database.transact(lambda db: subscribers.join(db, LI, words="START", by=BY))
    entry = await database.transact(contacts.add, AddContact(owner.id, "a", "13800138000", BY))
    await asyncio.gather(
        *(database.transact(contacts.change, ChangeContact(owner.id, entry.id, BY, name=f"n{n}")) for n in range(4)),
        *(database.transact(contacts.add, AddContact(owner.id, "b", f"1390013900{n}", BY)) for n in range(2)),
    )
    versions = await database.transact(
        lambda db: db.execute(select(BookChange.version).order_by(BookChange.version)).scalars().all()
    )
    assert versions == list(range(1, 8))


async def test_changes_to_one_number_at_once_leave_one(database: Database) -> None:
    owner = await database.transact(lambda db: subscribers.join(db, LI, words="START", by=BY))
    entries = [
        await database.transact(contacts.add, AddContact(owner.id, f"n{n}", f"1390013900{n}", BY)) for n in range(3)
    ]

    async def attempt(entry: Entry) -> str:
        try:
            await database.transact(contacts.change, ChangeContact(owner.id, entry.id, BY, number="13800138000"))
        except Refused as refused:
            return refused.words
        return "changed"

    results = sorted(await asyncio.gather(*map(attempt, entries)))
    assert results == ["changed"] + ["{number} is in your book already, as {name}."] * 2


async def test_of_two_edits_of_one_version_at_once_one_is_a_conflict(database: Database) -> None:
    owner = await database.transact(lambda db: subscribers.join(db, LI, words="START", by=BY))
    entry = await database.transact(contacts.add, AddContact(owner.id, "a", "13800138000", BY))

    async def attempt(name: str) -> bool:
        try:
            await database.transact(contacts.change, ChangeContact(owner.id, entry.id, BY, name=name, version=1))
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(f"n{n}") for n in range(6)))) == 1


# --- change and delete ----------------------------------------------------------------------------------------------


def test_a_stale_change_is_a_conflict(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "13800138000")
    contacts.change(db, ChangeContact(li.id, entry.id, BY, name="张三丰", version=1))
    with pytest.raises(Conflict):
        contacts.change(db, ChangeContact(li.id, entry.id, BY, name="李四", version=1))
    with pytest.raises(Conflict):
        contacts.delete(db, DeleteContact(li.id, entry.id, BY, version=1))
    db.commit()
    assert contacts.get(db, li.id, entry.id).name == "张三丰"
    assert subscribers.get(db, li.id).book_version == 2


def test_another_owners_entry_is_not_found(db: BookSession, li: Person, join: Join) -> None:
    amina = join(AMINA)
    entry = add(db, li, "张三", "13800138000", "g")
    (group,) = groups.groups_of(db, li.id)
    own = add(db, amina, "Joe", "0712345678", "h")
    for attempt in (
        lambda: contacts.get(db, amina.id, entry.id),
        lambda: contacts.change(db, ChangeContact(amina.id, entry.id, BY, name="x")),
        lambda: contacts.delete(db, DeleteContact(amina.id, entry.id, BY)),
        lambda: groups.get(db, amina.id, group.id),
        lambda: groups.rename(db, RenameGroup(amina.id, group.id, "x", BY)),
        lambda: groups.delete(db, DeleteGroup(amina.id, group.id, BY)),
        lambda: groups.add_member(db, AddMember(amina.id, group.id, own.id, BY)),
        lambda: groups.add_member(db, AddMember(li.id, group.id, own.id, BY)),
        lambda: groups.remove_member(db, RemoveMember(amina.id, group.id, entry.id, BY)),
        lambda: subscribers.get(db, 999),
        lambda: contacts.add(db, AddContact(999, "x", "13800138000", BY)),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert contacts.entries(db, amina.id, group_id=group.id) == []


def test_a_change_keeps_the_groups_and_its_history(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "13800138000", "朋友")
    changed = contacts.change(db, ChangeContact(li.id, entry.id, BY, number="13900139000"))
    assert changed == Entry(entry.id, "张三", "+8613900139000", 2, ("朋友",))
    assert contacts.change(db, ChangeContact(li.id, entry.id, BY, name="张三")) == changed  # nothing to change
    db.commit()
    last = db.execute(select(BookChange).order_by(BookChange.version.desc())).scalars().first()
    assert last is not None and last.version == 2
    assert json.loads(last.before or "")["number"] == "+8613800138000"
    assert json.loads(last.after or "")["number"] == "+8613900139000"


def test_a_change_to_a_number_that_stands_is_refused(db: BookSession, li: Person) -> None:
    add(db, li, "张三", "13800138000")
    entry = add(db, li, "李四", "13900139000")
    with pytest.raises(Refused, match="already"):
        contacts.change(db, ChangeContact(li.id, entry.id, BY, number="13800138000"))
    with pytest.raises(Refused, match="missing"):
        contacts.change(db, ChangeContact(li.id, entry.id, BY, name=" "))
    assert subscribers.get(db, li.id).book_version == 2


def test_a_deleted_number_may_come_back(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "13800138000", "朋友")
    assert contacts.delete(db, DeleteContact(li.id, entry.id, BY, version=1)).groups == ("朋友",)
    with pytest.raises(NotFound):
        contacts.delete(db, DeleteContact(li.id, entry.id, BY))
    assert contacts.entries(db, li.id) == []
    assert [group.members for group in groups.groups_of(db, li.id)] == [0]
    add(db, li, "张三", "13800138000")
    db.commit()
    assert db.execute(select(BookChange.action).order_by(BookChange.version)).scalars().all() == [
        "contact.add",
        "contact.delete",
        "contact.add",
    ]


# --- groups ---------------------------------------------------------------------------------------------------------


def test_groups_are_one_in_any_case(db: BookSession, li: Person) -> None:
    work = groups.create(db, CreateGroup(li.id, "Work", BY))
    other = groups.create(db, CreateGroup(li.id, "Home", BY))
    for name in ("work", "ＷＯＲＫ", " Work "):
        with pytest.raises(Refused, match="already"):
            groups.create(db, CreateGroup(li.id, name, BY))
        with pytest.raises(Refused, match="already"):
            groups.rename(db, RenameGroup(li.id, other.id, name, BY))
        assert groups.by_name(db, li.id, name) == work
    assert groups.by_name(db, li.id, "\u200b") is None
    assert groups.rename(db, RenameGroup(li.id, work.id, "WORK", BY, version=1)) == Group(work.id, "WORK", 2)
    with pytest.raises(Conflict):
        groups.rename(db, RenameGroup(li.id, work.id, "Jobs", BY, version=1))
    with pytest.raises(Conflict):
        groups.delete(db, DeleteGroup(li.id, work.id, BY, version=1))


def test_members_come_and_go_once(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "13800138000")
    group = groups.create(db, CreateGroup(li.id, "朋友", BY))
    assert groups.add_member(db, AddMember(li.id, group.id, entry.id, BY)) is True
    assert groups.add_member(db, AddMember(li.id, group.id, entry.id, BY)) is False
    assert contacts.entries(db, li.id, group_id=group.id)[0].groups == ("朋友",)
    assert groups.remove_member(db, RemoveMember(li.id, group.id, entry.id, BY)) is True
    assert groups.remove_member(db, RemoveMember(li.id, group.id, entry.id, BY)) is False
    db.commit()
    assert db.execute(select(BookChange.version, BookChange.action).order_by(BookChange.version)).all() == [
        (1, "contact.add"),
        (2, "group.create"),
        (3, "group.add"),
        (4, "group.remove"),
    ]


def test_a_deleted_group_leaves_its_people(db: BookSession, li: Person) -> None:
    entry = add(db, li, "张三", "13800138000", "朋友")
    (group,) = groups.groups_of(db, li.id)
    groups.delete(db, DeleteGroup(li.id, group.id, BY))
    assert groups.groups_of(db, li.id) == []
    assert contacts.get(db, li.id, entry.id).groups == ()
    fresh = groups.create(db, CreateGroup(li.id, "朋友", BY))
    assert (fresh.id != group.id, fresh.members) == (True, 0)


# --- many at once ---------------------------------------------------------------------------------------------------


def test_a_batch_answers_each_in_its_order(db: BookSession, li: Person, join: Join) -> None:
    people = [li, join(AMINA), join(CHEN), join("+254713000009")]
    add(db, people[1], "Joe", "0712345678")
    locked = subscribers.find_many(db, [person.number for person in people], lock=True)
    results = contacts.add_many(
        db,
        [
            (locked[AMINA], AddContact(people[1].id, "Jim", "0712345678", BY, ("g",))),
            (locked[LI], AddContact(li.id, "张三", "13800138000", BY, ("g", "h"))),
            (locked[CHEN], AddContact(people[2].id, "x" * 99, "13800138000", BY)),
            (locked["+254713000009"], AddContact(people[3].id, "Joe", "0712345678", BY, ("h",))),
        ],
    )
    db.commit()
    assert [type(result) for result in results] == [Refused, Entry, Refused, Entry]
    assert "as {name}" in results[0].words  # type: ignore[union-attr]  # a Refused
    assert count(db, Contact) == 3
    assert set(map(tuple, db.execute(select(ContactGroup.owner_id, ContactGroup.name)))) == {
        (li.id, "g"),
        (li.id, "h"),
        (people[3].id, "h"),
    }
    assert count(db, Membership) == 3
    assert count(db, BookChange) == 3


def test_an_add_takes_few_statements_however_many(db: BookSession, join: Join) -> None:
    people = [join(f"+86139000001{n:02d}") for n in range(20)]
    seen: list[str] = []
    event.listen(db.get_bind(), "before_cursor_execute", lambda *args: seen.append(args[2]))
    contacts.add_many(db, [(one, AddContact(one.id, "张三", "13800138000", BY, ("朋友",))) for one in people])
    db.commit()
    assert len(seen) <= 7, seen  # room, insert, groups; history, trail, push at the commit


def test_nothing_of_a_book_is_in_clear(db: BookSession, li: Person) -> None:
    add(db, li, "张三", "13800138000", "朋友")
    db.commit()
    stored = []
    for table in ("contact", "contact_group", "subscriber", "book_change", "audit", "consent", "push"):
        for row in db.execute(text(f"select * from {table}")):
            stored += [bytes(value) if isinstance(value, bytes) else str(value).encode() for value in row]
    assert len(stored) > 40
    for secret in ("张三", "朋友", "13800138000", LI[1:]):
        assert not any(secret.encode() in value for value in stored)
