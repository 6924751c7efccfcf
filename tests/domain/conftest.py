"""The service as people meet it: by text."""

from collections.abc import Callable

import pytest
from people import BY, Owed, owed
from sqlalchemy import text

from addressbook import subscribers
from addressbook.service import BookSession
from addressbook.subscribers import Person
from smsgw import dialogue
from smsgw.dialogue import ReceivedText


@pytest.fixture
def say(db: BookSession) -> Callable[..., list[Owed]]:
    """say(who, words, who, words …) in one batch, as the gateway hears it; what is owed for it, which is then sent."""

    def hear(*turns: str) -> list[Owed]:
        dialogue.answer(
            db,
            [
                ReceivedText(who, words, f"trace-{place}")
                for place, (who, words) in enumerate(zip(turns[::2], turns[1::2], strict=True))
            ],
        )
        db.commit()
        replies = owed(db)
        db.execute(text("update outbox set state = 2, due_at = null where state = 0"))
        db.commit()
        return replies

    return hear


@pytest.fixture
def join(db: BookSession) -> Callable[..., Person]:
    """join(number): make it a member."""

    def member(number: str, name: str | None = None) -> Person:
        person = subscribers.join(db, number, words="START", by=BY, name=name)
        db.commit()
        return person

    return member
