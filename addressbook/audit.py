"""Who changed what: the trail of every act, and the numbered history of every book.

Both are collected and written by one statement each just before the commit, so that a batch of texts costs one
insert of each. A change of a book is always three things together, which is why `book_changed` does all of them:
its line in the history, its line in the trail, and the push that takes it to the handset.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import pushes
from addressbook.service import collect, service_of

WORD_CHARACTERS_MAX = 40  # schema.Word: actor, channel, action, trace


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, by which channel, within which message's or request's way."""

    actor: str  # "owner", "invitee", "operator", "system"
    channel: str  # "sms", "api" …
    trace: str


_AUDIT = text("""
    insert into audit (owner_id, actor, channel, action, detail, trace)
    select a.owner_id, a.actor, a.channel, a.action, a.detail, a.trace
      from unnest(cast(:owner_id as bigint[]), cast(:actor as text[]), cast(:channel as text[]),
                  cast(:action as text[]), cast(:detail as bytea[]), cast(:trace as text[])) with ordinality
           as a(owner_id, actor, channel, action, detail, trace, place)
     order by a.place""")


def record(
    db: Session, owner_id: int | None, actor: str, channel: str, action: str, detail: str | None, trace: str
) -> None:
    """Note one act. The detail is sealed, and forgotten with the person; the rest stays."""
    collect(db, _write_acts, (owner_id, actor, channel, action, detail, trace))


def _write_acts(db: Session, acts: Sequence[tuple[int | None, str, str, str, str | None, str]]) -> None:
    seal = service_of(db).keys.seal
    owner_id, actor, channel, action, detail, trace = map(list, zip(*acts, strict=True))
    sealed = [None if words is None else seal(b"audit", words.encode()) for words in detail]
    db.execute(
        _AUDIT,
        {"owner_id": owner_id, "actor": actor, "channel": channel, "action": action, "detail": sealed, "trace": trace},
    )


_CHANGES = text("""
    insert into book_change (owner_id, version, channel, action, contact_id, group_id, before, after)
    select c.owner_id, c.version, c.channel, c.action, c.contact_id, c.group_id, c.before, c.after
      from unnest(cast(:owner_id as bigint[]), cast(:version as int[]), cast(:channel as text[]),
                  cast(:action as text[]), cast(:contact_id as bigint[]), cast(:group_id as bigint[]),
                  cast(:before as bytea[]), cast(:after as bytea[]))
           as c(owner_id, version, channel, action, contact_id, group_id, before, after)""")


def book_changed(
    db: Session,
    owner_id: int,
    version: int,
    action: str,
    by: By,
    *,
    contact_id: int | None = None,
    group_id: int | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Version n of this book came to be: keep from what to what, who did it, and have the handset follow."""
    collect(db, _write_changes, (owner_id, version, by.channel, action, contact_id, group_id, before, after))
    record(db, owner_id, by.actor, by.channel, action, f"version {version}", by.trace)
    pushes.request(db, owner_id, by.trace)


def _write_changes(db: Session, changes: Sequence[tuple[Any, ...]]) -> None:
    seal = service_of(db).keys.seal

    def sealed(states: Sequence[Mapping[str, Any] | None]) -> list[bytes | None]:
        return [
            None if state is None else seal(b"change", json.dumps(state, ensure_ascii=False).encode())
            for state in states
        ]

    owner_id, version, channel, action, contact_id, group_id, before, after = map(list, zip(*changes, strict=True))
    db.execute(
        _CHANGES,
        {"owner_id": owner_id, "version": version, "channel": channel, "action": action, "contact_id": contact_id,
         "group_id": group_id, "before": sealed(before), "after": sealed(after)},
    )  # fmt: skip
