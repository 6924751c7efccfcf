"""Books and their handsets, as the tests of pushes see them."""

from typing import NamedTuple

from sqlalchemy import text

from addressbook import contacts, pushes, subscribers
from addressbook.audit import By
from addressbook.contacts import AddContact, Entry
from addressbook.service import BookSession, service_of
from addressbook.subscribers import Person
from smsgw import ota_push

LI = "+8613900000001"
AMINA = "+254712000001"
BY = By("owner", "test", "trace-test")


class Sent(NamedTuple):
    """A message of a push. shown: the name on a card, or a text's words."""

    id: int
    kind: str
    shown: str


def member(db: BookSession, number: str = LI, handset: str = "card") -> Person:
    person = subscribers.join(db, number, words="START", by=BY, handset=handset)
    db.commit()
    return person


def add(db: BookSession, owner: Person, name: str, number: str, *groups: str) -> Entry:
    entry = contacts.add(db, AddContact(owner.id, name, number, BY, groups))
    db.commit()
    return entry


def plan(db: BookSession, count: int = pushes.BATCH_PUSHES) -> int:
    """Plan once; how many pushes were due."""
    planned = pushes.plan_due(db, count, ota_push.plan)
    db.commit()
    return planned


def follow(db: BookSession) -> int:
    moved = pushes.follow(db)
    db.commit()
    return moved


def wait_out(db: BookSession) -> None:
    """Commit what was edited, and let the time be over in which edits are gathered."""
    db.commit()
    db.execute(text("update push set due_at = now() - interval '1 s' where state = 'open'"))
    db.commit()


def sent(db: BookSession, after: int = 0) -> list[Sent]:
    """What pushes have put into the outbox, in order, from a message on."""
    rows = db.execute(
        text("select id, encoding, body from outbox where push_id is not null and id > :after order by id"),
        {"after": after},
    )
    db_keys = service_of(db).keys
    found = []
    for outbox_id, encoding, sealed in rows:
        body = db_keys.open(b"text", sealed)
        if encoding == 0:
            found.append(Sent(outbox_id, "text", body.decode()))
        else:
            assert body[:7] == bytes.fromhex("060504 23F40000")
            name = next(line for line in body[7:].decode().split("\r\n") if line.startswith("N"))
            found.append(Sent(outbox_id, "card", name.split(":", 1)[1]))
    return found


def carrier_says(db: BookSession, state: int, *ids: int) -> None:
    """Give these messages (or all that wait) a state, as the gateway records it."""
    db.execute(
        text(
            "update outbox set state = :state, due_at = case when :state = 0 then now() end"
            " where id = any(cast(:ids as bigint[])) or cast(:all as boolean)"
        ),
        {"state": state, "ids": list(ids), "all": not ids},
    )
    db.commit()


def states(db: BookSession, owner: Person) -> dict[str, str]:
    """By name: what is known of the entry on the phone."""
    return {held.content.name: held.state for held in pushes.holds(db, owner.id)}


def push_rows(db: BookSession) -> list[tuple[str, bool, int]]:
    """State, whether it is finished, and messages of every push."""
    rows = db.execute(text("select state, finished_at is not null, messages from push order by id"))
    return [tuple(row) for row in rows]
