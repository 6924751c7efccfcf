"""Joining, leaving, coming back, being forgotten."""

import asyncio
from collections.abc import Callable

import pytest
from people import AMINA, BY, DAVID, LI, Owed, count, owed
from sqlalchemy import select, text

from addressbook import audit, consent, contacts, outbox, subscribers
from addressbook.audit import By
from addressbook.contacts import AddContact
from addressbook.errors import NotFound, Refused
from addressbook.outbox import Kind, State
from addressbook.schema import (
    Audit,
    BookChange,
    Consent,
    Contact,
    ContactGroup,
    HandsetEntry,
    Invitation,
    Membership,
    Push,
    Stopped,
    Subscriber,
)
from addressbook.sealed import KeyRing
from addressbook.service import BookSession
from addressbook.subscribers import Person
from runtime.database import Database

Say = Callable[..., list[Owed]]
Join = Callable[..., Person]


@pytest.mark.parametrize(
    "name", ["", "  ", "\u202e", "x" * 41, "win.example", "see http://x", "a@b", "call 0712345678", "I 12345"]
)
def test_a_name_that_is_a_message_is_refused(name: str, db: BookSession, join: Join) -> None:
    person = join(AMINA)
    with pytest.raises(Refused):
        subscribers.set_name(db, person.id, name, BY)
    if name.strip():
        with pytest.raises(Refused):
            subscribers.join(db, DAVID, words="START", by=BY, name=name)
    db.commit()
    assert count(db, Subscriber) == 1


@pytest.mark.parametrize("name", ["Amina", "J. R. Otieno", "李明", "O'Brien", "Class 2026", "Dr. Who"])
def test_a_name_is_kept(name: str, db: BookSession, join: Join) -> None:
    person = join(AMINA)
    assert subscribers.set_name(db, person.id, f" {name} ", BY) == name
    db.commit()
    assert subscribers.get(db, person.id).name == name


@pytest.mark.parametrize(
    ("number", "language", "region"),
    [(LI, "zh", "CN"), ("+85251234567", "zh", "HK"), ("+886912345678", "zh", "TW"), (AMINA, "en", "KE"),
     ("+6581234567", "zh", "SG"), ("+33612345678", "en", "FR"), ("+88213300100", "en", "CN")],
)  # fmt: skip
def test_language_and_region_follow_the_number(number: str, language: str, region: str, join: Join) -> None:
    person = join(number)
    assert (person.language, person.region, person.handset) == (language, region, "card")


def test_settings_that_do_not_exist_are_refused(db: BookSession, join: Join) -> None:
    person = join(AMINA)
    with pytest.raises(Refused):
        subscribers.set_language(db, person.id, "xx", BY)
    with pytest.raises(Refused):
        subscribers.set_handset(db, person.id, "fax", BY)
    subscribers.set_language(db, person.id, "zh", BY)
    subscribers.set_handset(db, person.id, "text", BY)
    db.commit()
    person = subscribers.get(db, person.id)
    assert (person.language, person.handset) == ("zh", "text")
    assert count(db, Push) == 1  # what the handset holds goes again, the new way


async def test_joining_twice_at_once_is_one_member(database: Database) -> None:
    people = await asyncio.gather(
        *(database.transact(lambda db: subscribers.join(db, AMINA, words="START", by=BY)) for _ in range(6))
    )
    assert len({person.id for person in people}) == 1


def test_many_are_found_in_one_statement_by_their_own_numbers(db: BookSession, join: Join) -> None:
    li, amina = join(LI, "李明"), join(AMINA)
    assert subscribers.find_many(db, [AMINA, LI, DAVID], lock=True) == {LI: li, AMINA: amina}
    assert subscribers.find(db, DAVID) is None
    with pytest.raises(NotFound):
        subscribers.get(db, 99)


def test_leaving_keeps_the_book_and_start_brings_it_back(db: BookSession, join: Join) -> None:
    amina = join(AMINA)
    contacts.add(db, AddContact(amina.id, "Joe", "0712345678", BY, ("Choir",)))
    db.commit()
    consent.stop(db, AMINA, "STOP", "sms", "t")
    db.commit()
    left = subscribers.find(db, AMINA)
    assert left is not None and not left.member
    back = join(AMINA)
    assert back.id == amina.id and back.member and back.book_version == 1
    assert [entry.groups for entry in contacts.entries(db, amina.id)] == [("Choir",)]
    assert db.execute(select(Push.state).order_by(Push.id)).scalars().all() == ["failed", "open"]


def test_who_left_long_ago_is_to_be_forgotten(db: BookSession, join: Join) -> None:
    amina, li = join(AMINA), join(LI)
    for number in (AMINA, LI, DAVID):
        consent.stop(db, number, "STOP", "sms", "t")
    db.commit()
    assert subscribers.left_long_ago(db) == []
    db.execute(text("update stopped set since = now() - interval '31 days'"))
    assert subscribers.left_long_ago(db) == [amina.id, li.id]
    db.commit()
    join(LI)
    assert subscribers.left_long_ago(db) == [amina.id]


def test_first_use_is_marked_once(db: BookSession, join: Join) -> None:
    amina, li = join(AMINA), join(LI)
    subscribers.mark_used(db, [])
    subscribers.mark_used(db, [amina.id])
    assert subscribers.get(db, amina.id).used
    assert not subscribers.get(db, li.id).used


# --- erase ----------------------------------------------------------------------------------------------------------


def test_erasing_leaves_nothing_of_the_person(db: BookSession, say: Say, keys: KeyRing) -> None:
    say(AMINA, "START Amina", AMINA, "ADD Joe 0712345678 Choir", AMINA, "INVITE 0713000004", AMINA, "YES")
    say(LI, "START", LI, "ADD 阿米娜 +254712000001", LI, "INVITE 阿米娜", LI, "YES")
    amina = subscribers.find(db, AMINA)
    assert amina is not None
    push_id = db.execute(select(Push.id).where(Push.owner_id == amina.id)).scalar_one()
    db.add(
        HandsetEntry(owner_id=amina.id, contact_id=1, bearer="card", content="{}", content_digest=b"x", state="sent",
                     push_id=push_id)
    )  # fmt: skip
    db.execute(
        text("""insert into inbox (repeat_key, "window", link, sender, sender_digest, receiver, body, trace)
                values ('k', 1, 'a', :number, :digest, '20880', :body, 't')"""),
        {
            "number": keys.seal_text(b"number", AMINA),
            "digest": keys.number_digest(AMINA),
            "body": keys.seal_text(b"text", "ADD Joe 0712345678"),
        },
    )
    outbox.send(db, AMINA, "still waiting", Kind.NOTICE, "t")
    db.commit()
    li_before = contacts.entries(db, 2)

    subscribers.erase(db, amina.id, By("operator", "command", "t"))
    db.commit()

    assert subscribers.find(db, AMINA) is None
    for table in (Contact, ContactGroup, Membership, BookChange, Push, HandsetEntry, Invitation):
        owner = getattr(table, "owner_id", getattr(table, "inviter_id", None))
        if owner is not None:
            assert db.execute(select(table).where(owner == amina.id)).first() is None, table
    assert count(db, Membership) == 0
    assert owed(db) == []
    opened = readable(db, keys)
    assert not [words for words in opened if "Amina" in words or "Joe" in words or "0712345678" in words]
    # Another owner's entry for the number is his, and the history of his book.
    assert contacts.entries(db, 2) == li_before
    assert len([words for words in opened if AMINA in words]) == 2
    # The trail stays, without detail; the ledger's answers too.
    trail = db.execute(select(Audit.action, Audit.detail).where(Audit.owner_id == amina.id).order_by(Audit.id)).all()
    assert trail[0] == ("subscriber.join", None)
    assert trail[-1] == ("subscriber.erase", None)
    assert {detail for _, detail in trail} == {None}
    ledger = db.execute(select(Consent.number, Consent.answer).where(Consent.words == Consent.words)).all()
    assert ("", "yes") in ledger


def readable(db: BookSession, keys: KeyRing) -> list[str]:
    """Everything in the database that the keys open, but texts to other people."""
    found = []
    purposes = {"number": b"number", "name": b"name", "sender": b"number", "body": b"text", "before": b"change",
                "after": b"change", "content": b"entry", "detail": b"audit"}  # fmt: skip
    for table in ("subscriber", "contact", "contact_group", "book_change", "audit", "handset_entry", "consent",
                  "invitation", "inbox", "outbox"):  # fmt: skip
        where = " where number_digest = :digest" if table == "outbox" else " where :digest is not null"
        for row in db.execute(text(f"select * from {table}{where}"), {"digest": keys.number_digest(AMINA)}).mappings():
            found += [
                keys.open_text(purposes[column], value)
                for column, value in row.items()
                if column in purposes and isinstance(value, bytes)
            ]
    return found


def test_a_stop_outlives_the_book(db: BookSession, join: Join) -> None:
    amina = join(AMINA)
    consent.stop(db, AMINA, "STOP", "sms", "t")
    subscribers.erase(db, amina.id, BY)
    db.commit()
    assert consent.is_stopped(db, AMINA)
    assert count(db, Stopped) == 1
    with pytest.raises(NotFound):
        subscribers.erase(db, amina.id, BY)
    again = join(AMINA)
    assert again.id != amina.id and again.book_version == 0 and not consent.is_stopped(db, AMINA)


# --- the ledger and the trail ---------------------------------------------------------------------------------------


def test_a_stop_twice_is_as_good_as_once(db: BookSession) -> None:
    for words in ("STOP", "stop now " + "x" * 999):
        consent.stop(db, DAVID, words, "sms", "t")
        db.commit()
    assert count(db, Stopped) == 1
    kept = db.execute(select(Consent.words).order_by(Consent.id)).scalars().all()
    assert [len(words) for words in kept] == [4, consent.WORDS_CHARACTERS_MAX]
    assert consent.stopped_among(db, [DAVID, AMINA]) == {DAVID}


def test_what_was_queued_is_cancelled_and_what_comes_later_too(db: BookSession) -> None:
    outbox.send(db, DAVID, "one", Kind.CAMPAIGN, "t")
    outbox.send(db, AMINA, "two", Kind.CAMPAIGN, "t")
    db.commit()
    outbox.send(db, DAVID, "in the same transaction", Kind.NOTICE, "t")
    consent.stop(db, DAVID, "STOP", "sms", "t")
    db.commit()
    assert [(one.to, one.words) for one in owed(db)] == [(AMINA, "two")]
    assert [one.words for one in owed(db, State.CANCELLED)] == ["one", "in the same transaction"]


def test_a_rolled_back_act_leaves_no_trace(db: BookSession) -> None:
    audit.record(db, 1, "owner", "sms", "x", "detail", "t")
    consent.record(db, AMINA, "membership", yes=True, words="YES", channel="sms", trace="t")
    db.execute(text("select 1"))
    db.rollback()
    audit.record(db, 2, "owner", "sms", "y", None, "t")
    db.commit()
    assert db.execute(select(Audit.owner_id, Audit.action, Audit.detail)).all() == [(2, "y", None)]
    assert count(db, Consent) == 0
