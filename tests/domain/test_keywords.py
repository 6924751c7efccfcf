"""Texts as people write them, and what they are understood as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsgw.keywords import (
    Add,
    Delete,
    DeleteGroup,
    Groups,
    Help,
    Invite,
    Language,
    List,
    Misuse,
    MoveMember,
    Name,
    NewGroup,
    No,
    Start,
    Stop,
    Yes,
    parse,
)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "not understood"),
        (" \u3000\u200b", "not understood"),
        ("hello there", "not understood"),
        ("你好", "not understood"),
        ("Addis 0712345678", "not understood"),
        ("END of story", "not understood"),
        ("ADD", "To add"),
        ("加", "To add"),
        ("add Bob", "number is missing"),
        ("ADD Bob 2", "ADD"),
        ("ADD 0712345678", "name is missing"),
        ("ADD 0712345678 Choir", "name is missing"),
        ("ADD A 0712345678 B 0798765432", "One entry"),
        ("ADD A 0712345678 0798765432", "One entry"),
        ("DEL", "To delete"),
        ("INVITE", "To invite"),
        ("NAME", "your own name"),
        ("GROUP NEW", "Which group"),
        ("GROUP DEL", "Which group"),
        ("GROUP ADD Choir", "whom"),
        ("组 移除", "whom"),
        ("stop it", "STOP"),
        ("STOP texting me!", "STOP"),
    ],
)
def test_misuse_says_what_is_missing(text: str, missing: str) -> None:
    command = parse(text)
    if text == "ADD Bob 2":  # the number's own refusal says more
        assert command == Add("Bob", "2")
    else:
        assert isinstance(command, Misuse)
        assert missing in command.words


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ADD Amina 0712345678", Add("Amina", "0712345678")),
        ("add amina wanjiru 0712 345 678 choir friends", Add("amina wanjiru", "0712345678", ("choir friends",))),
        ("ADD: Li, +254 712345678, work, family", Add("Li", "+254712345678", ("work", "family"))),
        ("ADD Class 2 0712345678 2026", Add("Class 2", "0712345678", ("2026",))),
        ("ADD Team 7 110", Add("Team 7", "110")),
        ("ADD x 010 88001234", Add("x", "01088001234")),
        ("ADD x (010) 8800-1234", Add("x", "(010)8800-1234")),
        ("ADD Bob 07I2345678", Add("Bob", "07I2345678")),
        ("ADD 张三 138 0013 8000 朋友", Add("张三", "13800138000", ("朋友",))),
        ("添加张三13800138000朋友", Add("张三", "13800138000", ("朋友",))),
        ("加，李四，13900139000，朋友、同事", Add("李四", "13900139000", ("朋友", "同事"))),
        ("ＡＤＤ　张三　１３８００１３８０００", Add("张三", "13800138000")),
        ("\u202aADD\u00a0Bob\u2003٠٧١٢٣٤٥٦٧٨\u202c", Add("Bob", "0712345678")),
        ("ADD张三 13800138000", Add("张三", "13800138000")),
        ("ADD 妈妈❤️ 13800138000", Add("妈妈❤️", "13800138000")),
    ],
)
def test_add_is_read_by_the_shape_of_the_number(text: str, command: Add) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("DEL Amina", Delete("Amina")),
        ("delete 0712345678", Delete("0712345678")),
        ("删张三", Delete("张三")),
        ("删除 张三", Delete("张三")),
        ("LIST", List()),
        ("list 2", List(page=2)),
        ("List2", List(page=2)),
        ("LIST 0", List(page=1)),
        ("LIST Choir", List(group="Choir")),
        ("通讯录", List()),
        ("名单 朋友", List(group="朋友")),
        ("GROUP", Groups()),
        ("分组", Groups()),
        ("Groups", Groups()),
        ("GROUP Choir friends", Groups("Choir friends")),
        ("组朋友", Groups("朋友")),
        ("GROUP NEW Choir", NewGroup("Choir")),
        ("组 新建 足球", NewGroup("足球")),
        ("组新建足球", NewGroup("足球")),
        ("GROUP DEL Choir", DeleteGroup("Choir")),
        ("GROUP ADD Choir friends, Amina W", MoveMember(("Choir friends", "Amina W"), into=True)),
        ("GROUP REMOVE Choir Amina", MoveMember(("Choir", "Amina"), into=False)),
        ("组 添加 朋友13800138000", MoveMember(("朋友", "13800138000"), into=True)),
        ("INVITE 0712345678", Invite("0712345678")),
        ("邀请13800138000", Invite("13800138000")),
        ("START", Start()),
        ("开始", Start()),
        ("加入 李四", Start("李四")),
        ("Join Amina W", Start("Amina W")),
        ("NAME Amina", Name("Amina")),
        ("我叫李四", Name("李四")),
        ("English", Language("en")),
        ("中文", Language("zh")),
        ("HELP", Help()),
        ("help me", Help()),
        ("帮助", Help()),
        ("?", Help()),
        ("？？", Help()),
    ],
)
def test_each_command_is_understood_in_each_language(text: str, command: object) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    "text",
    ["STOP", "stop", " Stop! ", "S.T.O.P", "ＳＴＯＰ", "STOP ALL", "stopall", "UNSUBSCRIBE", "CANCEL", "END", "QUIT",
     "REVOKE", "OPT-OUT", "optout", "退订", "退 订。", "TD", "td", "T", "Ｔ", "停止", "ARRET", "arrêt", "ACHA",
     "simama", "रोकें", "बंद करें", "إيقاف", "توقف", "🛑 STOP 🛑", "\u200eSTOP\u200f", "STOP\n"],
)  # fmt: skip
def test_stop_is_heard_in_every_form(text: str) -> None:
    assert parse(text) == Stop()


@pytest.mark.parametrize(
    "text", ["YES", "yes!", "Y", "OK 👍", "1", "１", "1.", "是", "是的。", "好", "同意", "ndiyo", "हाँ"]
)
def test_yes_is_heard(text: str) -> None:
    assert parse(text) == Yes()


@pytest.mark.parametrize("text", ["NO", "No.", "2", "否", "不", "不同意", "取消", "hapana"])
def test_no_is_heard(text: str) -> None:
    assert parse(text) == No()


@given(st.text(max_size=300), st.sampled_from([None, "en", "zh", "sw"]))
def test_any_text_is_understood_as_something(text: str, language: str | None) -> None:
    assert parse(text, language)


WORDS = st.sampled_from(
    ["ADD", "加", "GROUP", "NEW", "STOP", ",", "+", "1", "13800138000", "(", "-", "张三", "\u3000", "退订"]
)


@given(st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS, max_size=8).map("".join))
def test_any_mix_of_keywords_is_understood_as_something(spaced: str, glued: str) -> None:
    assert parse(spaced)
    assert parse(glued)


@pytest.mark.parametrize("filling", ["1a", "1 ", "张1", "+", "(", "ADD ", ",", "\u0301"])
def test_a_huge_text_costs_little(filling: str) -> None:
    assert parse("ADD " + filling * 5_000)  # a pattern that backtracks would take minutes


NAMES = st.text(st.characters(whitelist_categories=["Lu", "Ll", "Lo"], max_codepoint=0x9FFF), min_size=1, max_size=20)


@given(NAMES, st.from_regex(r"07[0-9]{8}|\+2547[0-9]{8}|1[3-9][0-9]{9}", fullmatch=True))
def test_name_and_number_come_back_as_they_were_sent(name: str, number: str) -> None:
    assert parse(f"ADD {name} {number}") == Add(name, number)
