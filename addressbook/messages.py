"""Messages that clients of the API send: accepted once, and what became of them."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import outbox
from addressbook.outbox import Outgoing, State

KEY_KEPT_S = 86_400


class KeyReused(Exception):
    """The Idempotency-Key came before with another body: the client's mistake, not to be retried."""


def accept(db: Session, outgoing: Sequence[Outgoing]) -> list[int]:
    """Owe these messages; their ids in order."""
    return outbox.enqueue(db, outgoing)


def accept_once(
    db: Session, token_id: int, key: str, request_hash: bytes, outgoing: Sequence[Outgoing],
    answer: Callable[[list[int]], dict[str, Any]],
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Owe these messages unless this key was seen; then the former answer, as status and body. Raises KeyReused."""
    db.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, :token_id))"), {"key": key, "token_id": token_id}
    )
    known = db.execute(
        text("select request_hash, status, response from idempotent_request where token_id = :token_id and key = :key"),
        {"token_id": token_id, "key": key},
    ).first()
    if known is not None:
        if bytes(known.request_hash) != request_hash:
            raise KeyReused
        return known.status, known.response
    response = answer(accept(db, outgoing))
    db.execute(
        text("""insert into idempotent_request (token_id, key, request_hash, status, response)
                values (:token_id, :key, :request_hash, 202, cast(:response as jsonb))"""),
        {"token_id": token_id, "key": key, "request_hash": request_hash, "response": json.dumps(response)},
    )
    return 202, response


def forget_keys(db: Session) -> int:
    """Drop idempotency keys older than a day; how many."""
    gone: Any = db.execute(
        text("delete from idempotent_request where created_at < now() - make_interval(secs => :kept_s)"),
        {"kept_s": KEY_KEPT_S},
    )
    return int(gone.rowcount)


_HOT = text("""
    select state, kind, client_ref, error, created_at, finished_at, attempts
      from outbox where id = :id and token_id = :token_id""")
_HOT_SEGMENTS = text("""
    select number, total, state, error, submitted_at, done_at from segment
     where outbox_id = :id order by attempt, number""")
_MOVED = text("""
    select state, kind, client_ref, error, created_at, finished_at, attempts
      from outbox_history where id = :id and token_id = :token_id""")
_MOVED_SEGMENTS = text("""
    select number, total, state, error, submitted_at, done_at from segment_history
     where outbox_id = :id order by attempt, number""")


def state(db: Session, message_id: int, token_id: int) -> dict[str, Any] | None:
    """A message of this token, with its segments; None if it has none of that id. Looks into the history second."""
    for whole, parts in ((_HOT, _HOT_SEGMENTS), (_MOVED, _MOVED_SEGMENTS)):
        row = db.execute(whole, {"id": message_id, "token_id": token_id}).first()
        if row is not None:
            return _shown(message_id, row, db.execute(parts, {"id": message_id}))
    return None


def _shown(message_id: int, row: Any, segments: Iterable[Any]) -> dict[str, Any]:
    return {
        "id": str(message_id),
        "state": State(row.state).name.lower(),
        "kind": outbox.Kind(row.kind).name.lower(),
        "client_ref": row.client_ref,
        "error": row.error,
        "created_at": row.created_at.isoformat(),
        "finished_at": row.finished_at and row.finished_at.isoformat(),
        "attempts": row.attempts,
        "segments": [
            {
                "number": segment.number,
                "of": segment.total,
                "state": State(segment.state).name.lower(),
                "error": segment.error,
                "submitted_at": segment.submitted_at.isoformat(),
                "done_at": segment.done_at and segment.done_at.isoformat(),
            }
            for segment in segments
        ],
    }
