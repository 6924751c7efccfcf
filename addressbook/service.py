"""What every domain function may know of the service it runs in, and the one way to get a session.

    session_maker(bind, service) -> sessions whose commit first writes what was collected
    db.info["service"]    the Service
    collect(db, writer, row)   rows of one kind, written by one statement each just before the commit

Outbox rows, audit rows and book changes are collected so that a batch of fifty texts costs one insert of each
kind, not fifty (0.3 ms apiece).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from addressbook.sealed import KeyRing

Writer = Callable[[Session, list[Any]], object]


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one book, one text and one day within what a phone and a link can carry."""

    contacts: int = 2_000
    groups: int = 200
    name_characters: int = 40
    invitations_a_day: int = 20  # for each inviter
    invited_a_day: int = 3  # for each invited number, over all inviters
    history_days: int = 90  # finished messages are kept so long
    push_wait_s: float = 2.0  # edits after the first within this time become one further push


@dataclass(frozen=True)
class Service:
    """Constant facts of this installation that domain functions need."""

    keys: KeyRing
    name: str = "Friend Book"
    address: str = "20880"  # the short code people text
    default_region: str = "CN"  # ISO 3166-1; for numbers without a country code from people we do not know
    routes: tuple[str, ...] = ()  # number prefixes, digits without "+", that the config routes to a link
    limits: Limits = field(default_factory=Limits)


def make_service(keys: KeyRing, name: str, region: str, links: Sequence[tuple[str, Sequence[str]]]) -> Service:
    """The facts as every process must see them alike. links: address and number prefixes of each."""
    routes = {prefix for _, prefixes in links for prefix in prefixes}
    return Service(keys, name, links[0][0] if links else "", region, tuple(sorted(routes)))


def service_of(db: Session) -> Service:
    service: Service = db.info["service"]
    return service


def collect(db: Session, writer: Writer, row: Any) -> None:
    """Write this row with the others of its kind, in the order collected, by one call just before the commit."""
    db.info.setdefault("collected", {}).setdefault(writer, []).append(row)


def write_collected(db: Session) -> None:
    """Write what was collected; runs by itself before each commit. A writer may collect for another writer."""
    while collected := db.info.pop("collected", None):
        for writer, rows in collected.items():
            writer(db, rows)


def ring(db: Session, bell: str) -> None:
    """After the commit, wake whoever looks after `bell` ("outbox", "pushes"). Lost rings are found by the sweep."""
    db.info.setdefault("rings", set()).add(bell)


def drop_collected(db: Session) -> None:
    """Forget what was collected, as a rollback does to the rest."""
    db.info.pop("collected", None)
    db.info.pop("rings", None)


class BookSession(Session):
    """A Session that writes what was collected just before it commits, and forgets it when it rolls back."""


event.listen(BookSession, "before_commit", write_collected)
event.listen(BookSession, "after_soft_rollback", lambda db, _previous: drop_collected(db))


def session_info(service: Service) -> dict[str, Any]:
    """The `info=` for sessionmaker or async_sessionmaker."""
    return {"service": service}
