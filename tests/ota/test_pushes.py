"""From an edit to what the handset is owed, and from receipts back to what is known of the phone."""

import threading

import pytest
from books import AMINA, BY, LI, add, carrier_says, follow, member, plan, push_rows, sent, states, wait_out
from sqlalchemy import create_engine, text

from addressbook import consent, contacts, groups, pushes, subscribers
from addressbook.contacts import ChangeContact, DeleteContact
from addressbook.groups import AddMember, CreateGroup, DeleteGroup, RenameGroup
from addressbook.pushes import Content
from addressbook.sealed import attach
from addressbook.service import BookSession, Limits, Service, session_info
from runtime.database import driver_url
from smsgw import ota_push

MOBILE = "13800138000"


def shown(db: BookSession, after: int = 0) -> list[tuple[str, str]]:
    return [(one.kind, one.shown) for one in sent(db, after)]


# --- the way back: no news is no proof


def test_a_push_that_failed_is_sent_again_with_the_next(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    carrier_says(db, 4)
    assert follow(db) == 2
    assert (states(db, owner), push_rows(db)) == ({"张三": "failed"}, [("failed", True, 1)])
    add(db, owner, "李四", "13900139000")
    wait_out(db)
    last = sent(db)[-1].id
    plan(db)
    assert shown(db, last) == [("card", "张三"), ("card", "李四")]


def test_what_nobody_knows_is_sent_again_but_a_late_receipt_counts(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    carrier_says(db, 7)
    follow(db)
    assert (states(db, owner), push_rows(db)) == ({"张三": "unknown"}, [("sent", False, 1)])
    carrier_says(db, 3)
    follow(db)
    assert (states(db, owner), push_rows(db)) == ({"张三": "delivered"}, [("delivered", True, 1)])


def test_a_push_without_any_receipt_ends_without_proof(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    carrier_says(db, 7)
    db.execute(text("update push set planned_at = now() - interval '5 days'"))
    follow(db)
    assert push_rows(db) == [("sent", True, 1)]


@pytest.mark.parametrize(("state", "name"), [(0, "planned"), (1, "planned"), (2, "sent"), (3, "delivered"),
                                             (5, "failed"), (6, "failed")])  # fmt: skip
def test_an_entry_follows_its_message(db: BookSession, state: int, name: str) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    carrier_says(db, state)
    follow(db)
    assert states(db, owner) == {"张三": name}
    assert follow(db) == 0  # nothing moves twice


def test_a_receipt_takes_nothing_back_that_the_owner_confirmed(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    db.execute(text("update handset_entry set state = 'applied'"))
    carrier_says(db, 4)
    follow(db)
    assert (states(db, owner), push_rows(db)) == ({"张三": "applied"}, [("delivered", True, 1)])


def test_a_push_is_delivered_when_all_of_it_is(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    add(db, owner, "李四", "13900139000")
    plan(db)
    first, second = sent(db)
    carrier_says(db, 3, first.id)
    follow(db)
    assert push_rows(db)[0][:2] == ("sent", False)
    carrier_says(db, 3, second.id)
    follow(db)
    assert push_rows(db)[0][:2] == ("delivered", True)


def test_a_push_that_newer_ones_took_over_ends_without_proof(db: BookSession) -> None:
    owner = member(db)
    entry = add(db, owner, "张三", MOBILE)
    plan(db)
    contacts.change(db, ChangeContact(owner.id, entry.id, BY, name="张三丰"))
    wait_out(db)
    plan(db)
    follow(db)
    assert push_rows(db) == [("sent", True, 1), ("sent", False, 2)]


# --- only what changed


def test_an_edit_that_was_taken_back_before_the_push_sends_nothing(db: BookSession) -> None:
    owner = member(db)
    entry = add(db, owner, "张三", MOBILE)
    contacts.delete(db, DeleteContact(owner.id, entry.id, BY))
    db.commit()
    assert plan(db) == 1
    assert (sent(db), push_rows(db)) == ([], [("sent", True, 0)])
    assert pushes.holds(db, owner.id) == []


def test_only_what_changed_since_is_sent(db: BookSession) -> None:
    owner = member(db)
    first = add(db, owner, "张三", MOBILE)
    add(db, owner, "李四", "13900139000", "朋友")
    plan(db)
    last = sent(db)[-1].id
    contacts.change(db, ChangeContact(owner.id, first.id, BY, name="张三丰"))
    wait_out(db)
    plan(db)
    assert shown(db, last) == [("card", "张三丰"), ("text", f"请删除：\n张三 {MOBILE}")]
    assert states(db, owner) == {"张三丰": "planned", "李四": "planned"}


def test_a_deleted_contact_is_told_once_and_again_only_if_that_failed(db: BookSession) -> None:
    owner = member(db)
    entry = add(db, owner, "张三", MOBILE)
    plan(db)
    contacts.delete(db, DeleteContact(owner.id, entry.id, BY))
    wait_out(db)
    plan(db)
    told = ("text", f"请删除：\n张三 {MOBILE}")
    assert shown(db) == [("card", "张三"), told]
    (held,) = pushes.holds(db, owner.id)
    assert (held.content, held.deleted) == (Content("张三", "+8613800138000"), True)
    carrier_says(db, 4)
    follow(db)
    for _ in range(2):
        pushes.request(db, owner.id, "again")
        db.commit()
        wait_out(db)
        plan(db)
    assert shown(db) == [("card", "张三"), told, told]


def test_a_contact_that_comes_back_is_sent_again(db: BookSession) -> None:
    owner = member(db)
    entry = add(db, owner, "张三", MOBILE)
    plan(db)
    contacts.delete(db, DeleteContact(owner.id, entry.id, BY))
    wait_out(db)
    plan(db)
    db.execute(text("update contact set deleted_at = null"))  # undone
    contacts.change(db, ChangeContact(owner.id, entry.id, BY, name="张三丰"))
    wait_out(db)
    plan(db)
    assert shown(db)[-2:] == [("card", "张三丰"), ("text", f"请删除：\n张三 {MOBILE}")]


def test_changes_of_a_group_reach_each_of_its_members(db: BookSession) -> None:
    owner = member(db)
    entries = [add(db, owner, "张三", MOBILE, "朋友"), add(db, owner, "李四", "13900139000", "朋友")]
    add(db, owner, "王五", "13700137000")
    plan(db)
    last = sent(db)[-1].id
    (group,) = groups.groups_of(db, owner.id)
    groups.rename(db, RenameGroup(owner.id, group.id, "球队", BY))
    wait_out(db)
    plan(db)
    assert shown(db, last) == [("card", "球队/张三"), ("card", "球队/李四")]
    last = sent(db)[-1].id
    other = groups.create(db, CreateGroup(owner.id, "丙", BY))
    groups.add_member(db, AddMember(owner.id, other.id, entries[0].id, BY))
    groups.delete(db, DeleteGroup(owner.id, group.id, BY))
    wait_out(db)
    plan(db)
    assert shown(db, last) == [("card", "丙/张三"), ("card", "李四")]


def test_a_change_that_the_phone_does_not_show_keeps_what_is_known(db: BookSession) -> None:
    owner = member(db)
    entry = add(db, owner, "张三", MOBILE, "丁")
    plan(db)
    carrier_says(db, 3)
    follow(db)
    other = groups.create(db, CreateGroup(owner.id, "家", BY))
    groups.add_member(db, AddMember(owner.id, other.id, entry.id, BY))
    wait_out(db)
    plan(db)
    (held,) = pushes.holds(db, owner.id)
    assert (held.content.groups, held.state) == (("丁", "家"), "delivered")
    assert push_rows(db)[-1] == ("sent", True, 0)


def test_another_bearer_sends_everything_again_that_way(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    subscribers.set_handset(db, owner.id, "text", BY)
    wait_out(db)
    plan(db)
    assert shown(db)[1:] == [("text", f"请保存：\n张三 {MOBILE}")]


def test_a_text_carries_several_contacts_and_each_follows_it(db: BookSession) -> None:
    owner = member(db, AMINA, handset="text")
    add(db, owner, "Wanjiru", "0712345678", "Choir")
    add(db, owner, "Otieno", "0712345679")
    plan(db)
    assert shown(db) == [("text", "To save:\nWanjiru 0712345678 Choir\nOtieno 0712345679")]
    carrier_says(db, 3)
    follow(db)
    assert states(db, owner) == {"Wanjiru": "delivered", "Otieno": "delivered"}


def test_each_owner_gets_the_own_book_alone(db: BookSession) -> None:
    li, amina = member(db, LI), member(db, AMINA, handset="text")
    add(db, li, "张三", MOBILE, "朋友")
    add(db, amina, "Otieno", "0712345679", "Choir")
    assert plan(db) == 2
    rows = db.execute(text("select o.number_digest, p.owner_id from outbox o join push p on p.id = o.push_id"))
    digest = db.info["service"].keys.number_digest
    assert {(bytes(one), owner) for one, owner in rows} == {(digest(LI), li.id), (digest(AMINA), amina.id)}
    assert states(db, li) == {"张三": "planned"}
    assert states(db, amina) == {"Otieno": "planned"}


def test_who_said_stop_gets_nothing_and_all_of_it_after_coming_back(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    plan(db)
    add(db, owner, "李四", "13900139000")
    consent.stop(db, LI, "STOP", "sms", "trace-stop")
    db.commit()
    wait_out(db)
    assert plan(db) == 0
    follow(db)
    assert states(db, owner) == {"张三": "failed"}
    last = sent(db)[-1].id
    member(db)
    wait_out(db)
    plan(db)
    assert shown(db, last) == [("card", "张三"), ("card", "李四")]


def test_a_push_for_somebody_who_left_is_closed(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    db.execute(text("update subscriber set state = 'left'"))
    assert plan(db) == 1
    assert (sent(db), push_rows(db)) == ([], [("failed", True, 0)])


# --- when


def test_the_first_edit_goes_at_once_and_those_that_follow_become_one_more(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    assert plan(db) == 1
    for place in range(5):
        add(db, owner, f"李{place}", f"1390013900{place}")
    assert plan(db) == 0
    due_s = pushes.next_due_s(db)
    assert due_s is not None
    assert 1.0 < due_s <= 2.0
    wait_out(db)
    assert (plan(db), plan(db)) == (1, 0)
    assert len(sent(db)) == 6
    assert pushes.next_due_s(db) is None


def test_many_books_are_planned_together(db: BookSession) -> None:
    people = [member(db, f"+86137000000{place:02}") for place in range(20)]
    for person in people:
        add(db, person, "张三", MOBILE, "朋友")
    assert (plan(db, 15), plan(db, 15), plan(db, 15)) == (15, 5, 0)
    assert all(states(db, person) == {"张三": "planned"} for person in people)
    assert shown(db) == [("card", "朋友/张三")] * 20


def test_an_edit_beside_the_planner_is_never_lost(db: BookSession, database_url: str) -> None:
    """The edit commits in the middle of planning, or before, or after: its entry goes to the handset once."""
    service: Service = db.info["service"]
    fast = Service(keys=service.keys, limits=Limits(push_wait_s=0))
    engine = create_engine(driver_url(database_url))
    attach(engine, service.keys)
    owner = member(db)
    done = threading.Event()
    names = [f"人{place}" for place in range(40)]

    def edit() -> None:
        with BookSession(engine, info=session_info(fast)) as session:
            for place, name in enumerate(names):
                add(session, owner, name, f"138001380{place:02}")
        done.set()

    editor = threading.Thread(target=edit)
    editor.start()
    while not done.is_set():
        plan(db)
    editor.join()
    while plan(db):
        pass
    engine.dispose()
    assert sorted(one.shown for one in sent(db)) == sorted(names)


def test_an_edit_whose_request_is_not_committed_holds_its_push_back(db: BookSession, database_url: str) -> None:
    owner = member(db)
    add(db, owner, "张三", MOBILE)
    engine = create_engine(driver_url(database_url))
    attach(engine, db.info["service"].keys)
    with BookSession(engine, info=db.info) as other:
        pushes._write_requests(other, [(owner.id, "open edit")])
        db.execute(text("set lock_timeout = '2s'"))  # a planner that waits is wrong too
        assert plan(db) == 0  # else it would close the push that this edit relies on
        other.rollback()
    engine.dispose()
    assert plan(db) == 1


def test_two_planners_share_the_work(db: BookSession, database_url: str) -> None:
    for place in range(10):
        add(db, member(db, f"+86137000000{place:02}"), "张三", MOBILE)
    engine = create_engine(driver_url(database_url))
    attach(engine, db.info["service"].keys)
    with BookSession(engine, info=db.info) as other:
        assert pushes.plan_due(other, 6, ota_push.plan) == 6
        assert plan(db) == 4
        other.commit()
    engine.dispose()
    assert len(sent(db)) == 10


def test_nothing_on_the_way_to_the_handset_can_be_read_in_the_database(db: BookSession) -> None:
    owner = member(db)
    add(db, owner, "张三丰", MOBILE, "武当")
    plan(db)
    rows = db.execute(
        text("select content, content_digest from handset_entry union all select body, number from outbox")
    )
    dump = b"".join(bytes(value) for row in rows for value in row)
    assert len(dump) > 100
    assert not any(word.encode() in dump for word in ("张三丰", MOBILE, "武当"))
