"""What changed, as texts that stand alone."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addressbook.outbox import Encoding
from addressbook.pushes import Change, Content, Plan, Recipient
from smsgw import ota_push, sms_text
from smsgw.carriers import LinkProfile

KENYA = Recipient(1, "en", "KE", "text")
CHINA = Recipient(2, "zh", "CN", "text")


def words(plan: Plan) -> list[str]:
    assert all(message.encoding is Encoding.TEXT for message in plan.messages)
    return [message.body.decode() for message in plan.messages]


def new(contact_id: int, name: str, number: str, *groups: str) -> Change:
    return Change(contact_id, None, Content(name, number, groups))


def test_a_line_that_no_sms_holds_loses_of_its_groups_first() -> None:
    name, groups = "Wanjiru " * 5 + "Kamau", ("x" * 60, "y" * 60)
    (text,) = words(ota_push.plan(KENYA, [new(1, name, "+254712345678", *groups)]))
    assert re.fullmatch(f"To save:\n{name} 0712345678 {'x' * 60},y+\\.\\.", text)
    assert len(text) == 160


def test_an_old_name_that_no_sms_holds_is_cut_before_the_new_one() -> None:
    old, new_ = Content("旧" * 40, "+8613800138000"), Content("新" * 40, "+8613800138001")
    (text,) = words(ota_push.plan(CHINA, [Change(1, old, new_)]))
    assert text.startswith(f"有变动：\n{'新' * 40} 13800138001 （原 旧")
    assert text.endswith("旧..")


def test_a_name_that_no_sms_holds_is_cut_and_shows_it() -> None:
    (text,) = words(ota_push.plan(CHINA, [new(1, "😀" * 40, "+8613800138000", "朋友")]))
    assert re.fullmatch("请保存：\n(😀)+.. 13800138000", text)
    assert sms_text.count(text, LinkProfile()).segments == 1


def test_several_texts_are_numbered_and_split_no_contact() -> None:
    changes = [new(place, f"Person {place:02}", f"+2547123456{place:02}", "Choir") for place in range(20)]
    plan = ota_push.plan(KENYA, changes)
    texts = words(plan)
    assert len(texts) == plan.segments == 4
    assert [text.split(" ")[0] for text in texts] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(text.split(" ", 1)[1].startswith("To save:\n") for text in texts)
    lines = [line for text in texts for line in text.split("\n")[1:]]
    assert lines == [f"Person {place:02} 07123456{place:02} Choir" for place in range(20)]


def test_a_single_text_is_not_numbered() -> None:
    assert words(ota_push.plan(CHINA, [new(1, "张三", "+8613800138000", "朋友", "球队")])) == [
        "请保存：\n张三 13800138000 朋友,球队"
    ]


def test_each_kind_of_change_is_said_in_words() -> None:
    li = Content("Li", "+8613800138000", ("Work",))
    changes = [
        Change(1, li, None),
        Change(2, li, Content("Li", "+8613900139000", ("Work",))),
        Change(3, li, Content("Li Si", "+8613800138000", ("Work",))),
        Change(4, li, Content("Li", "+8613800138000", ("Choir", "Work"))),
        Change(5, li, Content("Li", "+8613800138000")),
        new(6, "Amina", "+254712345678"),
    ]
    assert words(ota_push.plan(KENYA, changes)) == [
        (
            "1/2 To save:\nAmina 0712345678\nChanged:\nLi +8613900139000 (was +8613800138000) Work\n"
            "Li Si +8613800138000 (was Li) Work\nGroups:\nLi Choir,Work\nLi in no group now"
        ),
        "2/2 To delete:\nLi +8613800138000",
    ]


def test_lines_that_need_ucs2_do_not_make_the_others_dear() -> None:
    latin = [new(place, f"Person number {place:02}", f"+2547123456{place:02}") for place in range(0, 12, 2)]
    mixed = [new(place + 1, "张三", f"+2547123457{place:02}") for place in range(0, 12, 2)]
    apart = [change for pair in zip(latin, mixed, strict=True) for change in pair]
    assert ota_push.plan(KENYA, apart).segments == 3  # one of Latin letters, one of both, one of the others; mixed: 6


NAMES = st.text(st.characters(categories=["L", "N", "So"]), min_size=1, max_size=40)
GROUPS = st.lists(NAMES, max_size=3).map(tuple)
CONTENTS = st.builds(Content, NAMES, st.from_regex(r"\+8613[0-9]{9}", fullmatch=True), GROUPS)


@given(
    contents=st.lists(st.tuples(st.none() | CONTENTS, st.none() | CONTENTS).filter(any), min_size=1, max_size=30),
    recipient=st.sampled_from([KENYA, CHINA]),
)
@settings(max_examples=100, deadline=None)
def test_every_change_is_in_exactly_one_text_and_every_text_is_one_sms(
    contents: list[tuple[Content | None, Content | None]], recipient: Recipient
) -> None:
    changes = [Change(place, before, after) for place, (before, after) in enumerate(contents)]
    plan = ota_push.plan(recipient, changes)
    assert sorted(one for message in plan.messages for one in message.contact_ids) == list(range(len(changes)))
    for message in plan.messages:
        assert sms_text.count(message.body.decode(), LinkProfile()).segments == message.segments == 1


@pytest.mark.parametrize("handset", ["card", "text"])
def test_nothing_changed_is_nothing_to_send(handset: str) -> None:
    assert ota_push.plan(Recipient(1, "en", "KE", handset), []).messages == ()


# --- with cards


def carded(*changes: Change) -> list[str]:
    plan = ota_push.plan(Recipient(1, "en", "KE", "card"), changes)
    return [
        message.body[7:].decode().split("\r\n")[2] if message.encoding is Encoding.BINARY else message.body.decode()
        for message in plan.messages
    ]


def test_a_card_for_each_contact_and_one_text_for_what_a_card_cannot_do() -> None:
    li = Content("Li", "+254712000001")
    assert carded(new(1, "A", "+254712000002", "Choir"), Change(2, li, None), new(3, "C", "+254712000003")) == [
        "N:Choir/A",
        "N:C",
        "To delete:\nLi 0712000001",
    ]


def test_a_changed_number_leaves_an_old_entry_to_delete() -> None:
    assert carded(Change(1, Content("Li", "+254712000001"), Content("Li", "+254712000002"))) == [
        "N:Li",
        "To delete:\nLi 0712000001",
    ]


def test_a_change_of_group_alone_is_a_card_alone() -> None:
    before, after = Content("Li", "+254712000001"), Content("Li", "+254712000001", ("Choir",))
    assert carded(Change(1, before, after)) == ["N:Choir/Li"]


def test_a_group_that_the_card_does_not_show_costs_nothing() -> None:
    before = Content("Li", "+254712000001", ("Choir",))
    assert carded(Change(1, before, Content("Li", "+254712000001", ("Choir", "Work")))) == []


def test_the_summary_is_the_bearer_of_deletions_only() -> None:
    li = Content("Li", "+254712000001")
    changes = [Change(1, li, None), Change(2, li, Content("Li", "+254712000009"))]
    plan = ota_push.plan(Recipient(1, "en", "KE", "card"), changes)
    assert [message.contact_ids for message in plan.messages] == [(2,), (1,)]
    assert plan.segments == 2
