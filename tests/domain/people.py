"""People who text the service, and what their phones are owed."""

from typing import NamedTuple

from sqlalchemy import func, select

from addressbook.audit import By
from addressbook.outbox import Kind, State
from addressbook.schema import Outbox, Table
from addressbook.service import BookSession

LI = "+8613900000001"  # Chinese
AMINA = "+254712000001"  # English
CHEN = "+8613700000003"
DAVID = "+254713000004"

BY = By("owner", "test", "trace-test")


class Owed(NamedTuple):
    """A text that waits to be sent."""

    to: str
    words: str
    kind: Kind


def owed(db: BookSession, state: State = State.QUEUED) -> list[Owed]:
    """Everything that waits (or is in another state), in order."""
    rows = db.execute(
        select(Outbox.number, Outbox.body, Outbox.kind).where(Outbox.state == state).order_by(Outbox.id)
    ).all()
    return [Owed(number, body.decode(), Kind(kind)) for number, body, kind in rows]


def count(db: BookSession, table: type[Table]) -> int:
    return db.execute(select(func.count()).select_from(table)).scalar_one()
