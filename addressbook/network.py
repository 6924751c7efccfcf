"""The status of every link to a network: what an operator sees, and whether it is still true (R4.15, R4.16)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

SEEN_WITHIN_S = 15  # a row that nobody refreshed for so long belongs to a process that died


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """state: up, connecting, down, refused (the carrier's word), waiting (another process holds the bind)."""

    link: str
    state: str
    queue: int
    last_error: str | None
    last_success_at: datetime | None


_REPORT = text("""
    insert into network_status as n (link, state, since, last_success_at, queue, last_error, seen_at)
    values (:link, :state, now(), :last_success_at, :queue, :last_error, now())
        on conflict (link) do update
       set state = excluded.state, queue = excluded.queue, last_error = excluded.last_error, seen_at = now(),
           since = case when n.state = excluded.state then n.since else now() end,
           last_success_at = coalesce(excluded.last_success_at, n.last_success_at)
     where not (:state = 'waiting' and n.state <> 'waiting' and n.seen_at > now() - make_interval(secs => :fresh_s))""")


def report(db: Session, status: LinkStatus) -> None:
    """Write this link's state down. Who only waits for a link does not overwrite the word of who holds it."""
    db.execute(
        _REPORT,
        {
            "link": status.link,
            "state": status.state,
            "queue": status.queue,
            "last_error": status.last_error,
            "last_success_at": status.last_success_at,
            "fresh_s": SEEN_WITHIN_S,
        },
    )


_UP = text("""
    select link from network_status
     where state = 'up' and seen_at > now() - make_interval(secs => :fresh_s)""")
_DOWN_LONG = text("""
    select link from network_status
     where case when state = 'up' then seen_at else since end < now() - make_interval(secs => :patience_s)""")


def fail_over_routes(db: Session, links: Mapping[str, Sequence[str]], patience_s: float) -> list[str]:
    """The prefixes of links that have been away for so long, if a link that takes any number is up.

    links: the prefixes of each configured link; one without takes any number.
    """
    up = set(db.execute(_UP, {"fresh_s": SEEN_WITHIN_S}).scalars())
    if not any(link in up and not prefixes for link, prefixes in links.items()):
        return []
    away = set(db.execute(_DOWN_LONG, {"patience_s": patience_s}).scalars()) - up
    return sorted({prefix for link in away & set(links) for prefix in links[link]})


def table(db: Session) -> Sequence[dict[str, Any]]:
    """Every link with its state, "lost" where its process has not been heard for SEEN_WITHIN_S."""
    rows = db.execute(
        text("""
        select link, case when seen_at < now() - make_interval(secs => :fresh_s) then 'lost' else state end as state,
               since, last_success_at, queue, last_error
          from network_status order by link"""),
        {"fresh_s": SEEN_WITHIN_S},
    ).mappings()
    return [dict(row) for row in rows]
