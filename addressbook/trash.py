"""What was deleted, or ended, long enough ago is thrown away; a little at a time, so that nobody waits for it."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

DELETED_KEPT_DAYS = 30  # for undo (R2.24, B7)
PUSHES_KEPT_DAYS = 30
LINKS_KEPT_DAYS = 7  # a link that nobody has reported for so long is in no configuration any more
_ROWS_MAX = 5_000

_LIMIT = f"limit {_ROWS_MAX} for update skip locked"

_CONTACTS = text(f"""
    delete from contact where id in (
           select id from contact where deleted_at < now() - make_interval(days => :days) {_LIMIT})""")  # noqa: S608  # constants only

_GROUPS = text(f"""
    delete from contact_group where id in (
           select id from contact_group where deleted_at < now() - make_interval(days => :days) {_LIMIT})""")  # noqa: S608  # constants only

# An entry whose owner was asked to delete it, and got the text: the contact's row is gone, so is ours to remember.
_ENTRIES = text(f"""
    delete from handset_entry where (owner_id, contact_id) in (
           select e.owner_id, e.contact_id from handset_entry e
            where e.state in ('delivered', 'applied') and e.updated_at < now() - make_interval(days => :days)
              and not exists (select from contact c where c.id = e.contact_id) {_LIMIT})""")  # noqa: S608  # constants only

# The owner's last planned one stays: from its version on the book is compared with the handset (pushes.py).
_PUSHES = text(f"""
    delete from push where id in (
           select p.id from push p
            where p.finished_at < now() - make_interval(days => :days)
              and exists (select from push q where q.owner_id = p.owner_id and q.to_version >= p.to_version
                             and q.id > p.id) {_LIMIT})""")  # noqa: S608  # constants only

_LINKS = text("delete from network_status where seen_at < now() - make_interval(days => :days)")


def empty(db: Session) -> int:
    """Throw away up to 5,000 rows of each kind; how many rows."""
    days = (
        (_CONTACTS, DELETED_KEPT_DAYS),
        (_GROUPS, DELETED_KEPT_DAYS),
        (_ENTRIES, DELETED_KEPT_DAYS),
        (_PUSHES, PUSHES_KEPT_DAYS),
        (_LINKS, LINKS_KEPT_DAYS),
    )
    rows = 0
    for statement, kept in days:
        result: Any = db.execute(statement, {"days": kept})
        rows += int(result.rowcount)
    return rows
