"""A batch of texts from people -> what they asked for, done, and what they are answered. One transaction.

    texts ─> who is it? (one statement, locked) ─> waves: the first text of everyone, then the second …
        wave ─> keywords.parse ─> ADDs of members together (contacts.add_many) | each other command by itself
             ─> a reply each, in that person's language, through the outbox

A member may do everything; anybody may START, STOP, say YES or NO to an invitation and ask for HELP; of anything else
that a stranger sends nothing is kept (R0.1, R0.5). A number that said STOP is heard only when it says START or STOP,
and hears nothing. Senders that are no people's numbers (short codes, names) are never answered: two machines would
talk for ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from addressbook import consent, contacts, groups, invitations, outbox, subscribers
from addressbook.audit import By
from addressbook.contacts import Entry
from addressbook.errors import NotFound, Refused
from addressbook.names import same_name
from addressbook.numbers import display, is_e164
from addressbook.service import service_of
from addressbook.subscribers import Person
from runtime.words import Words
from smsgw import keywords

PAGE_ENTRIES = 10  # of a list in one reply: six to eight parts at worst
SHOWN_GROUPS_MAX = 20
SHOWN_CHARACTERS_MAX = 40  # of what a person wrote, in a reply
GROUPS_COLUMN_CHARACTERS = 20

_ = str  # marks words for the catalogue


class ReceivedText(NamedTuple):
    """One whole text. sender: E.164 with "+"."""

    sender: str
    text: str
    trace: str


@cache
def texts() -> Words:
    """The catalogue of everything that is texted to people."""
    return Words(Path(__file__).parent / "locale", "texts")


def answer(db: Session, received: Sequence[ReceivedText]) -> None:
    """Do what these texts ask, in their order for each sender, and owe the replies. Nothing a person sends raises."""
    heard = [text for text in received if is_e164(text.sender)]
    if not heard:
        return
    senders = list(dict.fromkeys(text.sender for text in heard))
    room = _Room(db, subscribers.find_many(db, senders, lock=True), consent.stopped_among(db, senders))
    for wave in _waves(heard):
        room.hear(wave)
    subscribers.mark_used(db, sorted(room.first_used))


def _waves(received: Sequence[ReceivedText]) -> Iterator[list[ReceivedText]]:
    """The first text of everyone, the second of everyone …"""
    waves: list[list[ReceivedText]] = []
    places: dict[str, int] = {}
    for text in received:
        place = places.get(text.sender, 0)
        places[text.sender] = place + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(text)
    yield from waves


@dataclass(frozen=True, slots=True)
class _Turn:
    """One text on its way to its answer. person: who sent it, None for a number that we do not know."""

    db: Session
    text: ReceivedText
    person: Person | None
    language: str
    command: Any

    @property
    def member(self) -> Person:
        assert self.person is not None
        return self.person

    @property
    def by(self) -> By:
        return By("owner", "sms", self.text.trace)

    def say(self, words: str, /, **fields: object) -> str:
        return texts().translate(self.language)(words).format(**fields)

    def reply(self, words: str) -> None:
        outbox.send(self.db, self.text.sender, words, outbox.Kind.REPLY, self.text.trace)


class _Room:
    """Who is talking in this transaction, as it changes while they talk."""

    def __init__(self, db: Session, people: dict[str, Person], stopped: set[str]) -> None:
        self.db = db
        self.people = people
        self.stopped = stopped
        self.first_used: set[int] = set()

    def hear(self, wave: Sequence[ReceivedText]) -> None:
        """Each sender at most once."""
        adding = []
        for text in wave:
            turn = self.turn(text)
            if text.sender in self.stopped and not isinstance(turn.command, keywords.Start | keywords.Stop):
                continue
            if turn.person and turn.person.member:
                if not turn.person.used:
                    self.first_used.add(turn.person.id)
                if isinstance(turn.command, keywords.Add):
                    adding.append(turn)
                    continue
            self.answer(turn)
        if adding:
            _add_all(self.db, adding)

    def turn(self, text: ReceivedText) -> _Turn:
        person = self.people.get(text.sender)
        language = person.language if person else subscribers.language_for(text.sender)
        return _Turn(self.db, text, person, language, keywords.parse(text.text, language))

    def answer(self, turn: _Turn) -> None:
        """Do one command and reply; a refusal is a reply."""
        member = turn.person is not None and turn.person.member
        if isinstance(turn.command, keywords.Stop):
            self.stop(turn)
            return
        try:
            if isinstance(turn.command, keywords.Start):
                words = self.start(turn)
            elif isinstance(turn.command, keywords.Yes) and not member:
                words = self.yes_of_stranger(turn)
            else:
                words = (_OF_MEMBER if member else _OF_STRANGER).get(type(turn.command), _not_registered)(turn)
        except Refused as refused:
            words = refused.render(texts().translate(turn.language))
        if member and isinstance(turn.command, keywords.Start | keywords.Name | keywords.Language):
            self.people[turn.text.sender] = subscribers.get(self.db, turn.member.id)
        turn.reply(words)

    def stop(self, turn: _Turn) -> None:
        """Silence, also about this (consent.py)."""
        consent.stop(self.db, turn.text.sender, turn.text.text, "sms", turn.text.trace)
        self.stopped.add(turn.text.sender)
        if turn.person:
            self.people[turn.text.sender] = replace(turn.person, member=False)

    def start(self, turn: _Turn) -> str:
        name = turn.command.name
        if turn.person and turn.person.member:
            return _name(turn) if name else turn.say(_("You are registered already. HELP shows what you can do."))
        self.joined(turn, self.accept(turn, name) or subscribers.join(
            self.db, turn.text.sender, words=turn.text.text, by=turn.by, name=name or None
        ))  # fmt: skip
        return _welcome(turn)

    def yes_of_stranger(self, turn: _Turn) -> str:
        person = self.accept(turn, "")
        if person is None:
            return turn.say(_("There is no invitation for you. To register send START."))
        self.joined(turn, person)
        return _welcome(turn)

    def accept(self, turn: _Turn, name: str) -> Person | None:
        return invitations.accept(
            self.db, turn.text.sender, words=turn.text.text, by=By("invitee", "sms", turn.text.trace),
            in_language=texts().translate, name=name or None,
        )  # fmt: skip

    def joined(self, turn: _Turn, person: Person) -> None:
        self.people[turn.text.sender] = person
        self.stopped.discard(turn.text.sender)


def _welcome(turn: _Turn) -> str:
    return turn.say(
        _("Welcome to {service}. To save a number send ADD, the name and the number. HELP shows more."),
        service=service_of(turn.db).name,
    )


# --- ADD ------------------------------------------------------------------------------------------------------------


def _add_all(db: Session, turns: Sequence[_Turn]) -> None:
    commands = [
        (turn.member, contacts.AddContact(turn.member.id, command.name, command.number, turn.by, command.groups))
        for turn in turns
        if isinstance(command := turn.command, keywords.Add)
    ]
    for turn, added in zip(turns, contacts.add_many(db, commands), strict=True):
        if isinstance(added, Refused):
            turn.reply(added.render(texts().translate(turn.language)))
        else:
            turn.reply(turn.say(_("Saved: {entry}"), entry=_line(added, turn.member)))


def _line(entry: Entry, owner: Person) -> str:
    """An entry as people read it: name, number as they dial it, groups."""
    names = ",".join(entry.groups)
    if len(names) > GROUPS_COLUMN_CHARACTERS:
        names = names[: GROUPS_COLUMN_CHARACTERS - 2] + ".."
    return f"{entry.name} {display(entry.number, owner.region)} {names}".rstrip()


# --- the other commands of members ----------------------------------------------------------------------------------


def _delete(turn: _Turn) -> str:
    entry = _the_one(turn, turn.command.who, _("Which one? Send DEL and the number:\n{entries}"))
    contacts.delete(turn.db, contacts.DeleteContact(turn.member.id, entry.id, turn.by, entry.version))
    return turn.say(_("Deleted: {entry}"), entry=_line(entry, turn.member))


def _the_one(turn: _Turn, who: str, which: str) -> Entry:
    """The entry that was meant, by name, by number, or by both. Raises Refused with `which` if there are several."""
    owner = turn.member
    found = contacts.find(turn.db, owner.id, who, owner.region)
    if not found and " " in who:
        name, number = who.rsplit(maxsplit=1)
        found = [
            entry
            for entry in contacts.find(turn.db, owner.id, number, owner.region)
            if same_name(entry.name) == same_name(name)
        ]
    if not found:
        raise NotFound(_("There is no {name} in your book."), name=_short(who))
    if len(found) > 1:
        lines = "\n".join(_line(entry, owner) for entry in found[:PAGE_ENTRIES])
        raise Refused(which, entries=lines)
    return found[0]


def _short(raw: str) -> str:
    return raw if len(raw) <= SHOWN_CHARACTERS_MAX else raw[:SHOWN_CHARACTERS_MAX] + "..."


def _list(turn: _Turn) -> str:
    if turn.command.group:
        return _group_page(turn, turn.command.group)
    entries = contacts.entries(turn.db, turn.member.id)
    if not entries:
        return turn.say(_("Your book is empty. To save a number send ADD, the name and the number."))
    return _page(turn, entries, turn.command.page, "LIST")


def _groups(turn: _Turn) -> str:
    if turn.command.group:
        return _group_page(turn, turn.command.group)
    found = groups.groups_of(turn.db, turn.member.id)
    if not found:
        return turn.say(_("You have no groups yet. To make one send GROUP NEW and its name."))
    lines = [f"{group.name} {group.members}" for group in found[:SHOWN_GROUPS_MAX]]
    if len(found) > SHOWN_GROUPS_MAX:
        lines.append(turn.say(_("and {count} more"), count=len(found) - SHOWN_GROUPS_MAX))
    return "\n".join(lines)


def _group_page(turn: _Turn, wanted: str) -> str:
    """Who is in a group; "Choir 2" is the group Choir's second page unless there is a group of that name."""
    name, _space, page = wanted.rpartition(" ")
    group = groups.by_name(turn.db, turn.member.id, wanted)
    number = 1
    if group is None and name and page.isdigit() and len(page) <= 3:
        group, number = groups.by_name(turn.db, turn.member.id, name), int(page)
    if group is None:
        raise _no_group(wanted)
    members = contacts.entries(turn.db, turn.member.id, group_id=group.id)
    if not members:
        return turn.say(_("Nobody is in {group} yet."), group=group.name)
    return _page(turn, [replace(entry, groups=()) for entry in members], number, f"LIST {group.name}")


def _no_group(name: str) -> NotFound:
    return NotFound(_("There is no group {name}. Send GROUP to see yours."), name=_short(name))


def _page(turn: _Turn, entries: Sequence[Entry], page: int, more: str) -> str:
    pages = -(-len(entries) // PAGE_ENTRIES)
    page = min(max(page, 1), pages)
    first = (page - 1) * PAGE_ENTRIES
    lines = [
        f"{place} {_line(entry, turn.member)}"
        for place, entry in enumerate(entries[first : first + PAGE_ENTRIES], first + 1)
    ]
    if page < pages:
        lines.append(
            turn.say(_("Page {page} of {pages}. More: {more}"), page=page, pages=pages, more=f"{more} {page + 1}")
        )
    return "\n".join(lines)


def _new_group(turn: _Turn) -> str:
    group = groups.create(turn.db, groups.CreateGroup(turn.member.id, turn.command.group, turn.by))
    return turn.say(
        _("There is a group {group} now. To fill it send GROUP ADD, its name and a name."), group=group.name
    )


def _delete_group(turn: _Turn) -> str:
    group = groups.by_name(turn.db, turn.member.id, turn.command.group)
    if group is None:
        raise _no_group(turn.command.group)
    groups.delete(turn.db, groups.DeleteGroup(turn.member.id, group.id, turn.by, group.version))
    return turn.say(_("The group {group} is gone, its people stay in your book."), group=group.name)


_GROUP_WORDS_MAX = 6  # of a group's name without a comma after it


def _move_member(turn: _Turn) -> str:
    words, owner = turn.command.words, turn.member
    for split in range(min(len(words) - 1, _GROUP_WORDS_MAX), 0, -1):
        if group := groups.by_name(turn.db, owner.id, " ".join(words[:split])):
            break
    else:
        raise _no_group(words[0])
    entry = _the_one(turn, " ".join(words[split:]), _("Which one? Send the number instead of the name:\n{entries}"))
    fields = {"name": entry.name, "group": group.name}
    if turn.command.into:
        if groups.add_member(turn.db, groups.AddMember(owner.id, group.id, entry.id, turn.by)):
            return turn.say(_("{name} is in {group} now."), **fields)
        return turn.say(_("{name} is in {group} already."), **fields)
    if groups.remove_member(turn.db, groups.RemoveMember(owner.id, group.id, entry.id, turn.by)):
        return turn.say(_("{name} is no longer in {group}."), **fields)
    return turn.say(_("{name} is not in {group}."), **fields)


def _invite(turn: _Turn) -> str:
    number = turn.command.who
    if not any(map(str.isdigit, number)):
        number = _the_one(turn, number, _("Which one? Send INVITE and the number:\n{entries}")).number
    draft = invitations.draft(turn.db, invitations.Invite(turn.member.id, number, turn.by), texts().translate)
    return turn.say(
        _("{number} would get this text:\n{words}\nTo send it reply YES, to drop it NO."),
        number=display(draft.number, turn.member.region),
        words=draft.words,
    )


def _yes(turn: _Turn) -> str:
    sent = invitations.send_draft(turn.db, turn.member.id, turn.by, texts().translate)
    if sent is None:
        return turn.say(_("There is nothing to confirm. HELP shows what you can do."))
    return turn.say(
        _("Done. If {number} takes invitations, yours is on its way, and we tell you the answer."),
        number=display(sent.number, turn.member.region),
    )


def _no(turn: _Turn) -> str:
    if invitations.drop_draft(turn.db, turn.member.id):
        return turn.say(_("The invitation was not sent."))
    return turn.say(_("There is nothing to confirm. HELP shows what you can do."))


def _name(turn: _Turn) -> str:
    name = subscribers.set_name(turn.db, turn.member.id, turn.command.name, turn.by)
    invitations.drop_draft(turn.db, turn.member.id)  # its words, as they were shown, named somebody else
    return turn.say(_("Your invitations name you {name} now."), name=name)


def _language(turn: _Turn) -> str:
    subscribers.set_language(turn.db, turn.member.id, turn.command.language, turn.by)
    return replace(turn, language=turn.command.language).say(_("From now on we write in English."))


def _help(turn: _Turn) -> str:
    return turn.say(
        _(
            "ADD name number group: save\nDEL name: delete\nLIST: your book\nGROUP: your groups\n"
            "INVITE number: ask a friend to join\nNAME your name\nSTOP: no more texts"
        )
    )


# --- of people who are no members -----------------------------------------------------------------------------------


def _not_registered(turn: _Turn) -> str:
    return turn.say(_("You are not registered, so nothing was kept. To register send START."))


def _decline(turn: _Turn) -> str:
    by = By("invitee", "sms", turn.text.trace)
    if invitations.decline(turn.db, turn.text.sender, words=turn.text.text, by=by, in_language=texts().translate):
        return turn.say(_("All right. To get no texts at all send STOP."))
    return turn.say(_("There is no invitation for you. To register send START."))


def _help_of_stranger(turn: _Turn) -> str:
    return turn.say(
        _("{service} keeps your phone book by text. To register send START. For no more texts send STOP."),
        service=service_of(turn.db).name,
    )


def _misused(turn: _Turn) -> str:
    return turn.say(turn.command.words)


_Handlers = Mapping[type, Callable[[_Turn], str]]
_OF_MEMBER: _Handlers = {
    keywords.Delete: _delete,
    keywords.List: _list,
    keywords.Groups: _groups,
    keywords.NewGroup: _new_group,
    keywords.DeleteGroup: _delete_group,
    keywords.MoveMember: _move_member,
    keywords.Invite: _invite,
    keywords.Yes: _yes,
    keywords.No: _no,
    keywords.Name: _name,
    keywords.Language: _language,
    keywords.Help: _help,
    keywords.Misuse: _misused,
}
_OF_STRANGER: _Handlers = {
    keywords.No: _decline,
    keywords.Help: _help_of_stranger,
    keywords.Language: _help_of_stranger,
}
