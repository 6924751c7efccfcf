"""Conversations: who texts what, and what each phone is owed. The tables read as the phones would show them."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import AMINA, BY, CHEN, DAVID, LI, Owed, count, owed
from sqlalchemy import select

from addressbook import consent, contacts, outbox, subscribers
from addressbook.outbox import Kind, State
from addressbook.schema import Audit, BookChange, Consent, Contact, Invitation, Push, Stopped, Subscriber
from addressbook.service import BookSession
from addressbook.subscribers import Person

Say = Callable[..., list[Owed]]
Join = Callable[..., Person]

# who, text -> the replies; with whom where it is not the sender
Turns = list[tuple[str, str, list[str | tuple[str, str]]]]

A, B, C, D = LI, AMINA, CHEN, DAVID

WORDS = st.sampled_from(
    ["ADD 张 13800138000 x", "ADD Joe 0712345678", "DEL Joe", "DEL 张", "LIST", "GROUP", "GROUP NEW x", "GROUP DEL x",
     "GROUP ADD x Joe", "INVITE +254713000004", "YES", "NO", "STOP", "START", "START Amina", "HELP", "中文", "English",
     "LIST x 2"]
)  # fmt: skip

WELCOME = "Welcome to Friend Book. To save a number send ADD, the name and the number. HELP shows more."
WELCOME_ZH = "欢迎使用Friend Book！保存号码请发送“添加 姓名 号码”，发送“帮助”查看用法。"
LI_INVITES = (
    "李明 (+8613900000001) invites you to Friend Book, a phone book kept by text."
    " To join, reply YES. For no more texts, reply STOP."
)
AMINA_INVITES = "+254712000001邀请您用Friend Book短信通讯录。加入请回复“是”或YES，拒收请回复退订或TD(STOP)。"
AMINA_DRAFT = f"+8613700000003 would get this text:\n{AMINA_INVITES}\nTo send it reply YES, to drop it NO."

DIALOGUES: dict[str, Turns] = {
    "a Chinese owner keeps a book": [
        (A, "开始", [WELCOME_ZH]),
        (A, "列表", ["通讯录是空的。保存号码请发送“添加 姓名 号码”。"]),
        (A, "ADD 张三 13800138000 朋友", ["已保存：张三 13800138000 朋友"]),
        (A, "加李四１３９００１３９０００", ["已保存：李四 13900139000"]),
        (A, "加王五 +254712345678 朋友，同学", ["已保存：王五 +254712345678 朋友,同学"]),
        (A, "加赵六 13800138000", ["13800138000 已在通讯录中，姓名是：张三。"]),
        (A, "名单", ["1 张三 13800138000 朋友\n2 李四 13900139000\n3 王五 +254712345678 同学,朋友"]),
        (A, "组", ["同学 1\n朋友 2"]),
        (A, "组 朋友", ["1 张三 13800138000\n2 王五 +254712345678"]),
        (A, "删 李四", ["已删除：李四 13900139000"]),
        (A, "删 李四", ["通讯录中没有 李四。"]),
        (A, "组 家人", ["没有分组 家人。发送“组”查看所有分组。"]),
        (A, "你好", ["没有看懂。发送“帮助”查看用法。"]),
    ],
    "an English owner keeps groups": [
        (B, "START Amina", [WELCOME]),
        (B, "GROUP", ["You have no groups yet. To make one send GROUP NEW and its name."]),
        (B, "GROUP NEW Choir friends",
         ["There is a group Choir friends now. To fill it send GROUP ADD, its name and a name."]),
        (B, "group new CHOIR FRIENDS", ["There is a group Choir friends already."]),
        (B, "LIST choir friends", ["Nobody is in Choir friends yet."]),
        (B, "ADD John Otieno 0712 345 678", ["Saved: John Otieno 0712345678"]),
        (B, "GROUP ADD Choir friends John Otieno", ["John Otieno is in Choir friends now."]),
        (B, "GROUP ADD choir friends, 0712345678", ["John Otieno is in Choir friends already."]),
        (B, "GROUP ADD choir friends, Mary", ["There is no Mary in your book."]),
        (B, "GROUP ADD Chess, John Otieno", ["There is no group Chess. Send GROUP to see yours."]),
        (B, "GROUP Choir friends", ["1 John Otieno 0712345678"]),
        (B, "GROUP REMOVE Choir friends John Otieno", ["John Otieno is no longer in Choir friends."]),
        (B, "GROUP REMOVE Choir friends John Otieno", ["John Otieno is not in Choir friends."]),
        (B, "GROUP DEL Choir friends", ["The group Choir friends is gone, its people stay in your book."]),
        (B, "GROUP DEL Choir friends", ["There is no group Choir friends. Send GROUP to see yours."]),
        (B, "list", ["1 John Otieno 0712345678"]),
    ],
    "two of one name": [
        (B, "START", [WELCOME]),
        (B, "ADD John 0712345678", ["Saved: John 0712345678"]),
        (B, "ADD John 0712345679 work", ["Saved: John 0712345679 work"]),
        (B, "DEL john", ["Which one? Send DEL and the number:\nJohn 0712345678\nJohn 0712345679 work"]),
        (B, "DEL Mary 0712345679", ["There is no Mary 0712345679 in your book."]),
        (B, "DEL John 0712345679", ["Deleted: John 0712345679 work"]),
        (B, "DEL +254712345678", ["Deleted: John 0712345678"]),
        (B, "LIST", ["Your book is empty. To save a number send ADD, the name and the number."]),
    ],
    "misuse is answered": [
        (B, "START", [WELCOME]),
        (B, "START", ["You are registered already. HELP shows what you can do."]),
        (B, "ADD Amina", ["The number is missing. Send ADD, the name and the number, e.g. ADD Amina 0712345678"]),
        (B, "ADD Amina 07I2345678", ["A number has only digits: 07I2345678"]),
        (B, "ADD Amina 13800138000",
         ["13800138000 is no number in your country. Check the digits, or write + and the country code first."]),
        (B, "ADD " + "x" * 41 + " 0712345678", ["That name is too long: 40 characters at most."]),
        (B, "YES", ["There is nothing to confirm. HELP shows what you can do."]),
        (B, "NO", ["There is nothing to confirm. HELP shows what you can do."]),
        (B, "NAME www.win.example", ["Please send just your name, without addresses or numbers."]),
        (B, "INVITE 0712000001", ["That is your own number."]),
        (B, "INVITE 20880", ["20880 is a short code. Only people can be invited."]),
        (B, "INVITE Mary", ["There is no Mary in your book."]),
        (B, "中文", ["以后用中文回复您。"]),
        (B, "YES", ["没有需要确认的事。发送“帮助”查看用法。"]),
        (B, "English", ["From now on we write in English."]),
    ],
    "strangers keep nothing": [
        (D, "ADD John 0712345678", ["You are not registered, so nothing was kept. To register send START."]),
        (D, "LIST", ["You are not registered, so nothing was kept. To register send START."]),
        (D, "hello", ["You are not registered, so nothing was kept. To register send START."]),
        (D, "YES", ["There is no invitation for you. To register send START."]),
        (D, "NO", ["There is no invitation for you. To register send START."]),
        (C, "帮助", ["Friend Book用短信保管您的通讯录。注册请发送“开始”，拒收请发送“退订”。"]),
    ],
    "an invitation accepted": [
        (A, "START 李明", [WELCOME_ZH]),
        (A, "ADD 大卫 +254713000004", ["已保存：大卫 +254713000004"]),
        (A, "邀请 大卫", ["+254713000004 将收到：\n" + LI_INVITES + "\n发送请回复 1，取消请回复 2。"]),
        (A, "1", [(D, LI_INVITES),
                  "好的。如果 +254713000004 接受邀请，邀请短信即将发出，有答复会告诉您。"]),
        (A, "1", ["没有需要确认的事。发送“帮助”查看用法。"]),
        (A, "INVITE +254713000004", ["您已邀请过 +254713000004，不必再邀请。"]),
        (D, "yes", [(A, "大卫 +254713000004 接受了您的邀请，已加入Friend Book。"),
                    WELCOME]),
        (D, "ADD Ming +8613900000001", ["Saved: Ming +8613900000001"]),
    ],
    "an invitation declined": [
        (B, "START", [WELCOME]),
        (B, "INVITE +8613700000003", [AMINA_DRAFT]),
        (B, "NO", ["The invitation was not sent."]),
        (B, "YES", ["There is nothing to confirm. HELP shows what you can do."]),
        (B, "INVITE +8613700000003", [AMINA_DRAFT]),
        (B, "YES", [(C, AMINA_INVITES),
                    "Done. If +8613700000003 takes invitations, yours is on its way, and we tell you the answer."]),
        (C, "不", [(B, "+8613700000003 did not accept your invitation."), "好的。不想再收到任何短信，请发送“退订”。"]),
        (C, "是", ["没有给您的邀请。注册请发送“开始”。"]),
    ],
    "a stop is silence until start": [
        (B, "START", [WELCOME]),
        (B, "ADD John 0712345678", ["Saved: John 0712345678"]),
        (B, "Stop!", []),
        (B, "LIST", []),
        (B, "HELP", []),
        (B, "STOP", []),
        (B, "START", [WELCOME]),
        (B, "LIST", ["1 John 0712345678"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue(name: str, say: Say) -> None:
    for who, words, replies in DIALOGUES[name]:
        expected = [(who, reply) if isinstance(reply, str) else reply for reply in replies]
        assert [(one.to, one.words) for one in say(who, words)] == expected, words


def test_nothing_of_a_stranger_is_kept(db: BookSession, say: Say) -> None:
    say(D, "ADD John 0712345678 work", D, "GROUP NEW x", D, "INVITE 0712345679", D, "NAME Dave", D, "YES")
    for table in (Subscriber, Contact, BookChange, Invitation, Push, Consent, Audit):
        assert count(db, table) == 0, table


@pytest.mark.parametrize("sender", ["20880", "10086", "BANK", "", "254712000001", "+0712000001"])
def test_machines_are_never_answered(sender: str, db: BookSession, say: Say) -> None:
    assert say(sender, "START", sender, "HELP") == []
    assert count(db, Subscriber) == 0


def test_one_batch_keeps_each_persons_order(say: Say) -> None:
    replies = say(
        A, "START", B, "START", A, "ADD 张三 13800138000", B, "ADD Joe 0712345678", B, "LIST",
        A, "DEL 张三", A, "LIST", B, "DEL Joe", D, "LIST", B, "LIST",
    )  # fmt: skip
    assert [one.words for one in replies if one.to == A][1:] == [
        "已保存：张三 13800138000",
        "已删除：张三 13800138000",
        "通讯录是空的。保存号码请发送“添加 姓名 号码”。",
    ]
    assert [one.words for one in replies if one.to == B][1:] == [
        "Saved: Joe 0712345678",
        "1 Joe 0712345678",
        "Deleted: Joe 0712345678",
        "Your book is empty. To save a number send ADD, the name and the number.",
    ]
    assert len([one for one in replies if one.to == D]) == 1


def test_a_refused_text_does_not_hinder_the_others_of_its_batch(say: Say) -> None:
    say(A, "START", B, "START", B, "ADD Joe 0712345678")
    replies = say(
        A, "ADD 张三 13800138000", B, "ADD Jim 0712345678", D, "ADD x 0712345678", A, "ADD " + "王" * 99 + " 110"
    )
    assert [(one.to, one.words) for one in replies] == [
        (D, "You are not registered, so nothing was kept. To register send START."),
        (A, "已保存：张三 13800138000"),
        (B, "0712345678 is in your book already, as Joe."),
        (A, "名称太长，最多40个字符。"),
    ]


def test_settings_hold_from_the_next_text_of_the_same_batch(say: Say) -> None:
    replies = say(B, "START", B, "中文", B, "START 李明", B, "INVITE +254713000004", B, "YES")
    assert [one.words for one in replies][1:3] == ["以后用中文回复您。", "您的邀请将署名：李明。"]
    (invitation,) = [one for one in replies if one.kind is Kind.INVITATION]
    assert invitation.words.startswith("李明 (0712000001) invites you")


def test_a_new_name_drops_the_draft_that_named_another(say: Say) -> None:
    say(B, "START Amina", B, "INVITE +254713000004")
    assert [one.words for one in say(B, "NAME Bishop", B, "YES")] == [
        "Your invitations name you Bishop now.",
        "There is nothing to confirm. HELP shows what you can do.",
    ]


def test_long_lists_come_in_pages(say: Say) -> None:
    say(B, "START")
    say(*(word for n in range(23) for word in (B, f"ADD Friend {n:02d}, 07123456{n:02d}, Choir")))
    (first,) = say(B, "LIST")
    assert first.words.splitlines()[0] == "1 Friend 00 0712345600 Choir"
    assert first.words.splitlines()[10:] == ["Page 1 of 3. More: LIST 2"]
    (last,) = say(B, "LIST 3")
    assert last.words.splitlines() == [f"{n + 1} Friend {n} 07123456{n} Choir" for n in (20, 21, 22)]
    assert say(B, "LIST 99") == [last]
    (second,) = say(B, "LIST Choir 2")
    assert second.words.splitlines()[::10] == ["11 Friend 10 0712345610", "Page 2 of 3. More: LIST Choir 3"]


def test_many_groups_are_listed_in_short(say: Say) -> None:
    say(B, "START")
    say(*(word for n in range(23) for word in (B, f"GROUP NEW g{n:02d}")))
    (reply,) = say(B, "GROUP")
    assert reply.words.splitlines() == [*(f"g{n:02d} 0" for n in range(20)), "and 3 more"]


def test_the_first_use_is_what_comes_after_joining(db: BookSession, say: Say) -> None:
    say(B, "START")
    assert subscribers.find(db, B).used is False
    say(B, "HELP")
    first = db.execute(select(Subscriber.first_used_at)).scalar_one()
    assert first is not None
    say(B, "HELP")
    assert db.execute(select(Subscriber.first_used_at)).scalar_one() == first


def test_stop_ends_everything_that_waits(db: BookSession, say: Say, join: Join) -> None:
    amina = join(AMINA)
    contacts.add(db, contacts.AddContact(amina.id, "Joe", "0712345678", BY))
    for kind in Kind:
        outbox.send(db, AMINA, f"text of kind {kind.name}", kind, "trace")
    db.commit()
    assert len(owed(db)) == len(Kind)

    assert say(AMINA, "退订") == []

    assert {one.kind for one in owed(db, State.CANCELLED)} == set(Kind)
    outbox.send(db, AMINA, "one more", Kind.OTP, "trace")
    db.commit()
    assert owed(db) == []
    assert consent.is_stopped(db, AMINA)
    assert db.execute(select(Push.state)).scalars().all() == ["failed"]
    ledger = db.execute(select(Consent.number, Consent.purpose, Consent.answer, Consent.words).order_by(Consent.id))
    assert ledger.all()[-1] == (AMINA, "everything", "no", "退订")


def test_stop_and_a_reply_in_one_batch(db: BookSession, say: Say) -> None:
    assert say(B, "START", B, "LIST", B, "STOP", B, "LIST") == []
    assert len(owed(db, State.CANCELLED)) == 2
    assert count(db, Stopped) == 1


def test_anybody_may_stop(db: BookSession, say: Say) -> None:
    assert say(D, "STOP") == []
    assert consent.is_stopped(db, D)
    assert count(db, Subscriber) == 0
    (welcome,) = say(D, "START")
    assert welcome.to == D
    assert not consent.is_stopped(db, D)


def test_a_start_with_a_bad_name_changes_nothing(db: BookSession, say: Say) -> None:
    say(D, "STOP")
    assert say(D, "START http://win.example") == []  # the refusal is not sent to a number that said STOP
    assert consent.is_stopped(db, D)
    (reply,) = say(C, "START 13800138000")
    assert reply.words == "请只写您的姓名，不要写网址或号码。"
    assert count(db, Subscriber) == 0


@pytest.mark.parametrize(
    "raw", ["ADD \x00 13800138000", "STOP\ud800", "ADD \ud800 13800138000", "LIST \ud83d", "DEL {0} {words}", "\x00",
            "ADD {name} 13800138000", "GROUP " + "{" * 500, "INVITE {1}", "START {}", "NAME %s",
            "ADD 甲 13800138000 " + "组" * 900]
)  # fmt: skip
def test_no_text_breaks_the_batch(raw: str, say: Say) -> None:
    say(A, "START")
    assert say(D, "HELP", A, raw, D, "HELP")


@given(turns=st.lists(st.tuples(st.sampled_from([A, B]), st.text(max_size=40) | WORDS), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_conversation_breaks(turns: list[tuple[str, str]], say: Say) -> None:
    say(A, "START", B, "START", *(word for turn in turns for word in turn))
