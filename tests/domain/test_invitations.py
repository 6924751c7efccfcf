"""The rules for inviting, and for what nobody is to learn by it."""

import asyncio
from collections.abc import Callable

import pytest
from people import AMINA, BY, CHEN, DAVID, LI, Owed, count
from sqlalchemy import select, text

from addressbook import consent, invitations, subscribers
from addressbook.errors import Refused
from addressbook.invitations import Draft, Invite
from addressbook.outbox import Kind
from addressbook.schema import Consent, Invitation, Subscriber
from addressbook.sealed import KeyRing
from addressbook.service import BookSession, Limits, Service
from addressbook.subscribers import Person
from runtime.database import Database

Say = Callable[..., list[Owed]]
Join = Callable[..., Person]


def english(_language: str) -> Callable[[str], str]:
    return str


@pytest.fixture
def service(keys: KeyRing) -> Service:
    return Service(keys=keys, limits=Limits(invitations_a_day=3, invited_a_day=2))


def invite(db: BookSession, inviter: Person, number: str) -> Draft | None:
    invitations.draft(db, Invite(inviter.id, number, BY), english)
    sent = invitations.send_draft(db, inviter.id, BY, english)
    db.commit()
    return sent


def invited(replies: list[Owed]) -> list[str]:
    return [one.to for one in replies if one.kind is Kind.INVITATION]


def states(db: BookSession) -> list[str]:
    return list(db.execute(select(Invitation.state).order_by(Invitation.id)).scalars())


def test_nothing_is_sent_before_the_inviter_saw_the_words_and_said_yes(say: Say) -> None:
    say(AMINA, "START Amina")
    (draft,) = say(AMINA, "INVITE +254713000004")
    assert (draft.to, draft.kind) == (AMINA, Kind.REPLY)
    invitation, reply = say(AMINA, "YES")
    assert (invitation.to, invitation.kind) == (DAVID, Kind.INVITATION)
    assert invitation.words in draft.words  # to the letter
    assert "Amina (0712000001)" in invitation.words
    assert "STOP" in invitation.words
    assert reply.to == AMINA


def test_an_invitation_speaks_the_language_of_the_invited(say: Say) -> None:
    say(AMINA, "START", AMINA, "INVITE +8613700000003")
    (invitation,) = [one for one in say(AMINA, "YES") if one.kind is Kind.INVITATION]
    assert "邀请您" in invitation.words and "退订" in invitation.words and "TD" in invitation.words


def test_a_new_draft_replaces_the_old_one(db: BookSession, say: Say) -> None:
    say(AMINA, "START", AMINA, "INVITE +254713000004", AMINA, "INVITE +254713000005")
    assert invited(say(AMINA, "YES")) == ["+254713000005"]
    assert invited(say(AMINA, "YES")) == []
    assert states(db) == ["open"]


def test_an_old_draft_is_no_longer_meant(db: BookSession, say: Say) -> None:
    say(AMINA, "START", AMINA, "INVITE +254713000004")
    db.execute(text("update invitation set created_at = now() - interval '25 hours'"))
    db.commit()
    assert invited(say(AMINA, "YES")) == []


def test_a_pair_is_invited_once_ever(db: BookSession, join: Join) -> None:
    amina = join(AMINA)
    assert invite(db, amina, DAVID)
    db.execute(text("update invitation set created_at = now() - interval '1 year'"))
    with pytest.raises(Refused, match="before"):
        invite(db, amina, "0713000004")
    invitations.decline(db, DAVID, words="NO", by=BY, in_language=english)
    with pytest.raises(Refused, match="before"):
        invite(db, amina, DAVID)
    assert invite(db, join(LI), DAVID)  # another pair


def test_an_inviter_has_a_daily_limit(db: BookSession, join: Join) -> None:
    amina = join(AMINA)
    for n in range(3):
        assert invite(db, amina, f"071300010{n}")
    with pytest.raises(Refused, match="people a day"):
        invite(db, amina, "0713000109")
    db.execute(text("update invitation set created_at = now() - interval '25 hours'"))
    assert invite(db, amina, "0713000109")


def test_a_number_has_a_daily_limit_over_all_inviters(db: BookSession, join: Join) -> None:
    for number in (AMINA, LI):
        assert invite(db, join(number), DAVID)
    with pytest.raises(Refused, match="cannot be invited today"):
        invite(db, join(CHEN), DAVID)


async def test_inviters_at_the_same_moment_share_the_limit_of_the_number(database: Database) -> None:
    inviters = [
        await database.transact(lambda db, n=n: subscribers.join(db, f"+86139000002{n:02d}", words="START", by=BY))
        for n in range(6)
    ]
    for inviter in inviters:
        await database.transact(invitations.draft, Invite(inviter.id, DAVID, BY), english)

    async def attempt(inviter: Person) -> bool:
        try:
            return await database.transact(invitations.send_draft, inviter.id, BY, english) is not None
        except Refused:
            return False

    assert sum(await asyncio.gather(*map(attempt, inviters))) == 2


@pytest.mark.parametrize("secret", ["member", "stopped"])
def test_an_inviter_cannot_tell_a_member_or_a_stop_from_a_stranger(
    secret: str, db: BookSession, say: Say, join: Join
) -> None:
    amina = join(AMINA)
    hidden, stranger = "+254713000007", "+254713000008"
    if secret == "member":
        join(hidden)
    else:
        say(hidden, "STOP")
    heard = {}
    for number in (hidden, stranger):
        replies = [*say(AMINA, f"INVITE {number}"), *say(AMINA, "YES"), *say(AMINA, f"INVITE {number}")]
        assert invited(replies) == ([number] if number == stranger else [])
        shown = "0" + number[4:]
        heard[number] = [one.words.replace(shown, "NUMBER") for one in replies if one.to == AMINA]
    assert heard[hidden] == heard[stranger]
    assert len(heard[hidden]) == 3
    # and it is used up alike
    invite(db, amina, "+254713000009")
    with pytest.raises(Refused, match="people a day"):
        invite(db, amina, "+254713000010")


def test_after_a_stop_nobody_can_invite_the_number(db: BookSession, say: Say) -> None:
    say(AMINA, "START", LI, "START", AMINA, "INVITE +254713000004", AMINA, "YES", LI, "INVITE +254713000004")
    say(DAVID, "STOP")
    assert invited(say(LI, "是")) == []  # drafted before the STOP
    assert set(states(db)) == {"stopped"}
    say(CHEN, "START", CHEN, "INVITE +254713000004")
    assert invited(say(CHEN, "是")) == []
    assert say(DAVID, "YES") == []


def test_a_yes_is_in_the_ledger_makes_a_member_and_tells_the_inviter(db: BookSession, say: Say) -> None:
    say(LI, "START", LI, "ADD 大卫 +254713000004", LI, "INVITE 大卫", LI, "YES")
    notice, welcome = say(DAVID, "Yes!")
    assert (notice.to, notice.kind, notice.words) == (
        LI,
        Kind.NOTICE,
        "大卫 +254713000004 接受了您的邀请，已加入Friend Book。",
    )
    assert (welcome.to, welcome.kind) == (DAVID, Kind.REPLY)
    person = subscribers.find(db, DAVID)
    assert person is not None
    assert (person.member, person.used, person.language, person.region) == (True, False, "en", "KE")
    ledger = db.execute(
        select(Consent.purpose, Consent.answer, Consent.words, Consent.channel)
        .where(Consent.number_digest == db.info["service"].keys.number_digest(DAVID))
        .order_by(Consent.id)
    ).all()
    assert ledger == [("membership", "yes", "Yes!", "sms"), ("invitation", "yes", "Yes!", "sms")]
    assert states(db) == ["accepted"]


def test_a_start_answers_an_invitation_too_and_names_the_new_member(db: BookSession, say: Say) -> None:
    say(LI, "START", LI, "INVITE +254713000004", LI, "YES")
    notice, _welcome = say(DAVID, "START David")
    assert notice.to == LI
    person = subscribers.find(db, DAVID)
    assert person is not None and person.name == "David"
    assert states(db) == ["accepted"]


def test_everyone_who_invited_is_told_and_shown_only_his_own_name_for_the_number(say: Say) -> None:
    say(LI, "START", LI, "ADD 大卫 +254713000004", LI, "INVITE 大卫", LI, "YES")
    say(AMINA, "START", AMINA, "INVITE +254713000004", AMINA, "YES")
    notices = {one.to: one.words for one in say(DAVID, "YES") if one.kind is Kind.NOTICE}
    assert set(notices) == {LI, AMINA}
    assert "大卫" in notices[LI]
    assert notices[AMINA] == "0713000004 accepted your invitation and has joined Friend Book."


def test_a_no_is_in_the_ledger_and_keeps_nothing_else(db: BookSession, say: Say) -> None:
    say(AMINA, "START", AMINA, "INVITE +254713000004", AMINA, "YES")
    notice, reply = say(DAVID, "NO")
    assert (notice.to, notice.words) == (AMINA, "0713000004 did not accept your invitation.")
    assert reply.to == DAVID
    assert count(db, Subscriber) == 1
    answer = db.execute(select(Consent.purpose, Consent.answer, Consent.words).order_by(Consent.id)).all()[-1]
    assert answer == ("invitation", "no", "NO")
    assert say(DAVID, "YES")[0].words == "There is no invitation for you. To register send START."


def test_an_inviter_who_stopped_is_not_told(db: BookSession, say: Say) -> None:
    say(AMINA, "START", AMINA, "INVITE +254713000004", AMINA, "YES", AMINA, "STOP")
    assert [one.to for one in say(DAVID, "YES")] == [DAVID]
    assert consent.is_stopped(db, AMINA)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0712000001", "your own"),
        ("+254712000001", "your own"),
        ("20880", "short code"),
        ("071200", "short code"),
        ("0712", "short code"),
        ("12", "too short"),
        ("", "missing"),
        ("0713000004 0713000005", "One number"),
        ("13800138000", "your country"),
    ],
)
def test_a_bad_number_is_refused(number: str, words: str, db: BookSession, join: Join) -> None:
    amina = join(AMINA)
    with pytest.raises(Refused) as refused:
        invitations.draft(db, Invite(amina.id, number, BY), english)
    assert words in refused.value.render()
    assert count(db, Invitation) == 0
