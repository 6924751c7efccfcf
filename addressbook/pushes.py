"""The owner's book changed: the handset is to follow. One open push a person.

request ─> open, due at once, or 2 s after the last one was planned ─> planned (ota_push.py) ─> sent
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook.service import collect, ring, service_of

# The first edit goes at once. While a push was planned less than push_wait_s ago, the next waits out that time and
# takes with it whatever changes meanwhile; an open push absorbs every later request. The idle update takes the row's
# lock: without it a planner could read the book before this transaction commits and close the push after it looked.
_REQUEST = text("""
    insert into push (owner_id, state, due_at, trace)
    select r.owner_id, 'open',
           greatest(now(), coalesce((select max(p.planned_at) from push p where p.owner_id = r.owner_id),
                                    '-infinity'::timestamptz) + make_interval(secs => :wait_s)),
           r.trace
      from unnest(cast(:owner_id as bigint[]), cast(:trace as text[])) as r(owner_id, trace)
     order by r.owner_id
        on conflict (owner_id) where state = 'open' do update set trace = push.trace""")


def request(db: Session, owner_id: int, trace: str) -> None:
    """Have this owner's handset brought up to date; asking twice in one transaction is asking once."""
    collect(db, _write_requests, (owner_id, trace))


def _write_requests(db: Session, requests: Sequence[tuple[int, str]]) -> None:
    by_owner = dict(requests)
    db.execute(
        _REQUEST,
        {
            "owner_id": list(by_owner),
            "trace": list(by_owner.values()),
            "wait_s": service_of(db).limits.push_wait_s,
        },
    )
    ring(db, "pushes")
