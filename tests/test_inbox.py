"""What people sent us: kept whole and once, answered in order."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from addressbook import inbox
from addressbook.inbox import PARTS_KEPT_S, REPEAT_WINDOW_S, PartSet, Received, ReceivedPart, State
from addressbook.sealed import attach
from addressbook.service import BookSession, Service, session_info
from runtime.database import driver_url

LI = "+8613900000001"
AMINA = "+254712000001"
WAIT_S = 10.0


@pytest.fixture
def others(database_url: str, service: Service) -> Iterator[Callable[[], Any]]:
    """others() -> another session on the same database, as another process has one."""
    engine: Engine = create_engine(driver_url(database_url))
    attach(engine, service.keys)
    yield lambda: BookSession(engine, info=session_info(service))
    engine.dispose()


def whole(words: str = "HELP", sender: str = LI, repeat: bytes | None = None, link: str = "carrier-a") -> Received:
    return Received(link, sender, "20880", words, words.encode() if repeat is None else repeat, "trace")


def part(
    number: int,
    total: int = 3,
    sender: str = LI,
    reference: int = 7,
    body: bytes | None = None,
    receiver: str = "20880",
) -> ReceivedPart:
    octets = f"[{number}]".encode() if body is None else body
    return ReceivedPart("carrier-a", sender, receiver, reference, total, number, 0, 0, octets, f"trace-{number}")


def joined(parts: PartSet) -> str:
    return b"".join(parts.bodies).decode()


def keep(db: BookSession, *received: Received | ReceivedPart) -> None:
    inbox.store(
        db,
        [one for one in received if isinstance(one, Received)],
        [one for one in received if isinstance(one, ReceivedPart)],
        joined,
    )
    db.commit()


def texts(db: BookSession) -> list[tuple[str, str]]:
    """Everything that waits to be answered."""
    found = [(one.sender, one.text) for one in inbox.take(db, 1_000)]
    db.rollback()
    return found


def parts_waiting(db: BookSession) -> int:
    found = db.scalar(text("select count(*) from inbox_part where total > 0"))
    db.commit()
    return int(found or 0)


def age(db: BookSession, table: str, seconds: float) -> None:
    """As if it had come so much earlier."""
    db.execute(text(f"update {table} set received_at = received_at - make_interval(secs => :s)"), {"s": seconds})
    if table == "inbox":
        db.execute(
            text('update inbox set "window" = floor(extract(epoch from received_at) / :w)'), {"w": REPEAT_WINDOW_S}
        )
    db.commit()


# ---- repeats


def test_a_repeat_of_the_carrier_is_dropped(db: BookSession) -> None:
    keep(db, whole("HELP"))
    keep(db, whole("HELP"), whole("HELP"))
    assert texts(db) == [(LI, "HELP")]


def test_the_same_text_of_another_person_or_link_is_no_repeat(db: BookSession) -> None:
    keep(db, whole("HELP"), whole("HELP", AMINA), whole("HELP", link="carrier-b"))
    assert texts(db) == [(LI, "HELP"), (AMINA, "HELP"), (LI, "HELP")]


def test_a_repeat_is_dropped_across_the_border_of_two_windows(db: BookSession) -> None:
    keep(db, whole("HELP"))
    # the latest moment of the window before: by the key alone the repeat would be another text
    db.execute(
        text("""update inbox set "window" = "window" - 1,
                       received_at = to_timestamp(floor(extract(epoch from now()) / :w) * :w) - interval '1 ms'"""),
        {"w": REPEAT_WINDOW_S},
    )
    db.commit()
    inside = db.scalar(
        text("select received_at > now() - make_interval(secs => :w) from inbox"), {"w": REPEAT_WINDOW_S}
    )
    keep(db, whole("HELP"))
    assert inside
    assert len(texts(db)) == 1


@pytest.mark.parametrize("seconds", [REPEAT_WINDOW_S + 1, 3 * REPEAT_WINDOW_S])
def test_the_same_text_after_the_window_is_meant(db: BookSession, seconds: float) -> None:
    keep(db, whole("HELP"))
    age(db, "inbox", seconds)
    keep(db, whole("HELP"))
    assert len(texts(db)) == 2


def test_a_repeat_of_an_answered_text_is_dropped_too(db: BookSession) -> None:
    keep(db, whole("HELP"))
    inbox.finish(db, [one.id for one in inbox.take(db, 10)])
    db.commit()
    keep(db, whole("HELP"))
    assert texts(db) == []


# ---- parts


def test_a_set_without_its_last_part_is_no_text(db: BookSession) -> None:
    keep(db, part(1), part(2))
    assert texts(db) == []
    assert parts_waiting(db) == 2


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
@pytest.mark.parametrize("together", [True, False])
def test_parts_come_in_any_order(db: BookSession, order: tuple[int, ...], together: bool) -> None:
    if together:
        keep(db, *map(part, order))
    else:
        for number in order:
            keep(db, part(number))
    assert texts(db) == [(LI, "[1][2][3]")]
    assert parts_waiting(db) == 0


def test_a_part_that_comes_twice_counts_once(db: BookSession) -> None:
    keep(db, part(1), part(1))
    keep(db, part(1))
    assert parts_waiting(db) == 1
    keep(db, part(2), part(3), part(3))
    assert texts(db) == [(LI, "[1][2][3]")]


def test_a_part_that_is_repeated_after_the_text_was_whole_is_no_new_text(db: BookSession) -> None:
    """Its acknowledgement was lost with the link. Kept, it would be an incomplete text, and the sender be told so."""
    keep(db, part(1), part(2), part(3))
    keep(db, part(3))
    assert parts_waiting(db) == 0
    age(db, "inbox_part", PARTS_KEPT_S + 1)
    assert inbox.expire_parts(db) == []
    assert texts(db) == [(LI, "[1][2][3]")]


def test_a_reference_that_is_used_again_makes_a_new_text(db: BookSession) -> None:
    keep(db, part(1, 2, body=b"a"), part(2, 2, body=b"b"))
    keep(db, part(1, 2, body=b"c"), part(2, 2, body=b"d"))
    assert texts(db) == [(LI, "ab"), (LI, "cd")]


def test_a_whole_set_that_is_repeated_is_one_text(db: BookSession) -> None:
    keep(db, part(1), part(2), part(3))
    keep(db, part(1), part(2), part(3))
    assert texts(db) == [(LI, "[1][2][3]")]
    assert parts_waiting(db) == 0


def test_the_same_long_text_after_the_window_is_meant(db: BookSession) -> None:
    keep(db, part(1), part(2), part(3))
    age(db, "inbox", REPEAT_WINDOW_S + 1)
    age(db, "inbox_part", REPEAT_WINDOW_S + 1)
    keep(db, part(1), part(2), part(3))
    assert len(texts(db)) == 2


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param({"sender": AMINA}, id="another sender"),
        pytest.param({"reference": 8}, id="another reference"),
        pytest.param({"total": 4}, id="another total"),
        pytest.param({"receiver": "10086"}, id="another receiver"),
    ],
)
def test_parts_of_two_texts_do_not_mix(db: BookSession, stranger: dict[str, Any]) -> None:
    keep(db, part(1), part(2, **stranger))
    keep(db, part(3))
    assert texts(db) == []
    keep(db, part(2))
    assert texts(db) == [(LI, "[1][2][3]")]
    assert parts_waiting(db) == 1


def test_two_processes_that_get_the_last_two_parts_at_once_make_one_text(
    db: BookSession, others: Callable[[], Any]
) -> None:
    """Neither sees the other's part before it is committed: one of them must wait."""
    started = threading.Event()

    def second() -> None:
        with others() as other:
            started.set()
            keep(other, part(2, 2))

    inbox.store(db, [], [part(1, 2)], joined)  # not committed
    thread = threading.Thread(target=second)
    thread.start()
    started.wait(WAIT_S)
    thread.join(0.3)  # long enough to store its part and to look, if nothing held it back
    db.commit()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert texts(db) == [(LI, "[1][2]")]
    assert parts_waiting(db) == 0


def test_parts_of_two_texts_do_not_wait_for_each_other(db: BookSession, others: Callable[[], Any]) -> None:
    inbox.store(db, [], [part(1, 2)], joined)  # not committed
    with others() as other:
        other.execute(text("set local lock_timeout = '2s'"))
        keep(other, part(1, 2, sender=AMINA), part(2, 2, sender=AMINA))
        assert texts(other) == [(AMINA, "[1][2]")]
    db.rollback()


def test_the_sender_of_parts_that_stay_alone_is_told_once(db: BookSession) -> None:
    keep(db, part(1), part(3), part(2, 2, AMINA))
    assert inbox.expire_parts(db) == []
    age(db, "inbox_part", PARTS_KEPT_S + 1)
    lost = {one.sender: (one.missing, one.total) for one in inbox.expire_parts(db)}
    assert lost == {LI: (1, 3), AMINA: (1, 2)}
    assert inbox.expire_parts(db) == []
    assert parts_waiting(db) == 0


def test_parts_are_kept_while_the_others_still_come(db: BookSession) -> None:
    keep(db, part(1))
    age(db, "inbox_part", PARTS_KEPT_S + 1)
    keep(db, part(2))
    assert inbox.expire_parts(db) == []
    keep(db, part(3))
    assert texts(db) == [(LI, "[1][2][3]")]


def test_what_completed_sets_leave_behind_goes_away(db: BookSession) -> None:
    keep(db, part(1), part(2), part(3))
    age(db, "inbox_part", PARTS_KEPT_S + 1)
    assert inbox.expire_parts(db) == []
    assert db.scalar(text("select count(*) from inbox_part")) == 0


# ---- reading them


def test_texts_are_taken_in_the_order_they_came(db: BookSession) -> None:
    keep(db, *[whole(f"{place}", LI if place % 2 else AMINA) for place in range(20)])
    first = inbox.take(db, 5)
    assert [one.text for one in first] == ["0", "1", "2", "3", "4"]
    inbox.finish(db, [one.id for one in first])
    db.commit()
    assert [words for _, words in texts(db)] == [f"{place}" for place in range(5, 20)]


def test_a_text_that_was_not_finished_is_taken_again(db: BookSession) -> None:
    keep(db, whole("HELP"))
    assert len(inbox.take(db, 10)) == 1
    db.rollback()
    assert len(inbox.take(db, 10)) == 1


def test_a_broken_text_is_finished_with_its_reason(db: BookSession) -> None:
    keep(db, whole("HELP"))
    inbox.finish(db, [one.id for one in inbox.take(db, 1)], State.BROKEN, "a fault of ours")
    db.commit()
    assert texts(db) == []
    assert db.execute(text("select state, error from inbox")).one() == (State.BROKEN, "a fault of ours")


def test_texts_and_numbers_are_sealed(db: BookSession) -> None:
    keep(db, whole("ADD 张三 13800138000"), part(1, body="李四 secret".encode()))
    stored = b""
    for table in ("inbox", "inbox_part"):
        for row in db.execute(text(f"select * from {table}")):
            stored += b"\n".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
    for secret in (LI[1:].encode(), b"13800138000", "张三".encode(), "李四".encode(), b"secret"):
        assert secret not in stored


@pytest.mark.parametrize("words", ["", "\0", "\ud800 half a pair", "x" * 2_000, "😀"])
def test_any_text_can_be_kept(db: BookSession, words: str) -> None:
    keep(db, whole(words, repeat=b"octets"))
    assert texts(db) == [(LI, words.encode(errors="replace").decode())]


def test_lanes_share_the_people_and_keep_each_persons_order(db: BookSession) -> None:
    people = [f"+86139000000{place:02}" for place in range(40)]
    keep(db, *[whole(f"{turn}", person) for turn in range(3) for person in people])
    lanes = [inbox.take(db, 1_000, lane, 4) for lane in range(4)]
    assert sorted(one.id for lane in lanes for one in lane) == list(range(1, 121))
    assert sum(bool(lane) for lane in lanes) > 1
    for lane in lanes:
        for person in {one.sender for one in lane}:
            assert [one.text for one in lane if one.sender == person] == ["0", "1", "2"]
