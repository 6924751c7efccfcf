"""Every table. Read this first.

    subscriber ──< contact >──< membership >── contact_group        the book
        │ └──────< book_change (version n), audit
        ├──< push ──< handset_entry                                 what the handset was sent, what it holds
        ├──< invitation
    consent (ledger), stopped (its present state)                   who may be texted
    outbox ──< segment, parked_receipt                              to the phone network
    inbox, inbox_part                                               from the phone network
    outbox_history, segment_history, inbox_history                  the finished ones, partitioned by day (history.py)
    network_status, api_token, idempotent_request                   the service itself

Numbers, names and texts of people are sealed (sealed.py); a number is found by its digest. outbox, segment and inbox
are written by set-based statements in outbox.py and inbox.py; they have no foreign keys to the book, so that
erasing a book and keeping the traffic's accounts are two decisions.
"""

from datetime import date, datetime
from typing import Annotated, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from addressbook.sealed import SealedBytes, SealedText

NAMES = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}

Id = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Number = Annotated[str, mapped_column(SealedText("number"))]
Name = Annotated[str, mapped_column(SealedText("name"))]
Digest = Annotated[bytes, mapped_column(LargeBinary)]
Code = Annotated[int, mapped_column(SmallInteger)]
Word = Annotated[str, mapped_column(String(40))]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Now = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Owner = Annotated[int, mapped_column(BigInteger, ForeignKey("subscriber.id", ondelete="CASCADE"))]


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)


# --- the book -------------------------------------------------------------------------------------------------------


class Subscriber(Table):
    """A person with a number whom the service knows: a member, or somebody who was one."""

    __tablename__ = "subscriber"
    __table_args__ = (
        UniqueConstraint("number_digest"),
        CheckConstraint("state in ('member', 'left')", name="state"),
        CheckConstraint("handset in ('text', 'card')", name="handset"),
        CheckConstraint("book_version >= 0", name="book_version"),
    )

    id: Mapped[Id]
    number: Mapped[Number]
    number_digest: Mapped[Digest]
    name: Mapped[str | None] = mapped_column(SealedText("name"))
    state: Mapped[Word]
    language: Mapped[Word]  # "zh", "en"
    region: Mapped[str] = mapped_column(String(2))  # ISO 3166-1
    handset: Mapped[Word]  # the bearer that the handset takes: "card" (vCard to port 9204) or "text"
    book_version: Mapped[int] = mapped_column(server_default="0")  # + 1 with each change of the book
    joined_at: Mapped[Now]
    first_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # R0.18


class Contact(Table):
    """One entry of an owner's book."""

    __tablename__ = "contact"
    __table_args__ = (
        Index("contact_owner_id_number_digest_key", "owner_id", "number_digest", unique=True,
              postgresql_where=text("deleted_at is null")),
    )  # fmt: skip

    id: Mapped[Id]
    owner_id: Mapped[Owner]
    name: Mapped[Name]
    number: Mapped[Number]  # E.164, or a short code as it is dialled
    number_digest: Mapped[Digest]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Now]
    updated_at: Mapped[Now]
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # kept for undo, purged later


class ContactGroup(Table):
    """A named group of an owner's contacts."""

    __tablename__ = "contact_group"
    __table_args__ = (
        Index("contact_group_owner_id_name_digest_key", "owner_id", "name_digest", unique=True,
              postgresql_where=text("deleted_at is null")),
    )  # fmt: skip

    id: Mapped[Id]
    owner_id: Mapped[Owner]
    name: Mapped[Name]
    name_digest: Mapped[Digest]  # of the case-folded name: "Work" and "work" are one group
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Now]
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Membership(Table):
    """A contact is in a group."""

    __tablename__ = "membership"
    __table_args__ = (Index(None, "contact_id"),)

    group_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("contact_group.id", ondelete="CASCADE"), primary_key=True
    )
    contact_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True)


class BookChange(Table):
    """Version n of an owner's book: what changed, by whom, from what to what."""

    __tablename__ = "book_change"

    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("subscriber.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[Now]
    channel: Mapped[Word]  # "sms", "api" …
    action: Mapped[Word]  # "contact.add" …
    contact_id: Mapped[int | None] = mapped_column(BigInteger)
    group_id: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[str | None] = mapped_column(SealedText("change"))  # JSON
    after: Mapped[str | None] = mapped_column(SealedText("change"))


class Audit(Table):
    """Who did what to whose data. owner_id is no foreign key: the trail outlives the book."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "owner_id", "id"),)

    id: Mapped[Id]
    at: Mapped[Now]
    owner_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[Word]  # "owner", "invitee", "operator", "system"
    channel: Mapped[Word]
    action: Mapped[Word]
    detail: Mapped[str | None] = mapped_column(SealedText("audit"))
    trace: Mapped[Word]


# --- to the handset -------------------------------------------------------------------------------------------------


class Push(Table):
    """The owner's book changed and the handset is to follow; at most one open push a person."""

    __tablename__ = "push"
    __table_args__ = (
        CheckConstraint("state in ('open', 'sent', 'delivered', 'failed')", name="state"),
        Index("push_owner_id_open_key", "owner_id", unique=True, postgresql_where=text("state = 'open'")),
        Index("push_due_at_open_idx", "due_at", postgresql_where=text("state = 'open'")),
        Index(None, "owner_id", "planned_at"),  # when was this owner's last one?
        Index("push_unfinished_idx", "id", postgresql_where=text("state = 'sent' and finished_at is null")),
    )

    id: Mapped[Id]
    owner_id: Mapped[Owner]
    state: Mapped[Word]
    due_at: Mapped[Moment]
    to_version: Mapped[int | None]  # the book version that was planned
    messages: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[Now]
    planned_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    trace: Mapped[Word]


class HandsetEntry(Table):
    """What the handset holds of one contact, as far as we know: the last thing sent, and what became of it.

    contact_id is no foreign key: an entry that is to be deleted from the phone outlives its contact.
    """

    __tablename__ = "handset_entry"
    __table_args__ = (
        CheckConstraint("state in ('planned', 'sent', 'delivered', 'applied', 'failed', 'unknown')", name="state"),
        Index(None, "push_id"),
    )

    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("subscriber.id", ondelete="CASCADE"), primary_key=True)
    contact_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    bearer: Mapped[Word]
    content: Mapped[str] = mapped_column(SealedText("entry"))  # JSON: name, number, groups as sent
    content_digest: Mapped[Digest]  # to see without opening whether the contact differs from what was sent
    state: Mapped[Word]
    push_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("push.id", ondelete="SET NULL"))
    outbox_id: Mapped[int | None] = mapped_column(BigInteger)
    updated_at: Mapped[Now]


# --- who may be texted ----------------------------------------------------------------------------------------------


class Consent(Table):
    """The ledger (B11): who said yes or no to what, when, by which channel, in which words. Only ever added to."""

    __tablename__ = "consent"
    __table_args__ = (
        CheckConstraint("answer in ('yes', 'no')", name="answer"),
        Index(None, "number_digest", "id"),
    )

    id: Mapped[Id]
    at: Mapped[Now]
    number: Mapped[Number]
    number_digest: Mapped[Digest]
    purpose: Mapped[Word]  # "membership", "invitation", "everything"
    answer: Mapped[Word]
    words: Mapped[str] = mapped_column(SealedText("text"))
    channel: Mapped[Word]
    trace: Mapped[Word]


class Stopped(Table):
    """Numbers that said STOP and did not say START since; derived from the ledger, joined at every claim."""

    __tablename__ = "stopped"

    number_digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    since: Mapped[Now]


class Invitation(Table):
    """One invitation for a pair of people, ever."""

    __tablename__ = "invitation"
    __table_args__ = (
        UniqueConstraint("inviter_id", "number_digest"),
        CheckConstraint("state in ('drafted', 'open', 'accepted', 'declined', 'stopped')", name="state"),
        CheckConstraint("mode in ('owner', 'site')", name="mode"),  # R0.13, R0.14
        Index(None, "number_digest", "created_at"),
    )

    id: Mapped[Id]
    inviter_id: Mapped[Owner]
    number: Mapped[Number]
    number_digest: Mapped[Digest]
    mode: Mapped[Word]
    state: Mapped[Word]
    reminded: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[Now]
    answered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


# --- to and from the phone network ----------------------------------------------------------------------------------


class Outbox(Table):
    """A message that we owe to the phone network. States, kinds and transitions: outbox.py."""

    __tablename__ = "outbox"
    __table_args__ = (
        # No index knows the state: being sent and being delivered then touch none (heap-only tuples), which is a third
        # of what a message costs PostgreSQL.
        Index("outbox_due_idx", "route", "priority", "id", postgresql_where=text("due_at is not null")),
        Index("outbox_number_digest_due_idx", "number_digest", postgresql_where=text("due_at is not null")),
        Index("outbox_lease_until_idx", "lease_until", postgresql_where=text("lease_until is not null")),
        CheckConstraint("(state = 0) = (due_at is not null)", name="due_at"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: Mapped[Id]
    kind: Mapped[Code]
    priority: Mapped[Code]
    state: Mapped[Code] = mapped_column(SmallInteger, server_default="0")
    attempts: Mapped[Code] = mapped_column(SmallInteger, server_default="0")
    segments: Mapped[Code] = mapped_column(SmallInteger, server_default="0")  # 0 until the gateway planned it
    encoding: Mapped[Code]  # 0: body is UTF-8 text; 1: body is UDH with its length, then 8-bit data
    route: Mapped[str] = mapped_column(String(15))  # digits: longest prefix in the config, else country code
    number: Mapped[Number]
    number_digest: Mapped[Digest]
    sender: Mapped[str | None] = mapped_column(String(21))  # null: the link's own address
    body: Mapped[bytes] = mapped_column(SealedBytes("text"))
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # while it waits, else null
    valid_until: Mapped[Moment]
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # of the last claim; stays
    link: Mapped[str | None] = mapped_column(String(40))  # whose bind claimed it last
    created_at: Mapped[Now]
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    push_id: Mapped[int | None] = mapped_column(BigInteger)
    token_id: Mapped[int | None] = mapped_column(BigInteger)  # the API token that sent it; null: ourselves
    client_ref: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(String(80))
    trace: Mapped[Word]


class Segment(Table):
    """One submit_sm that left, and what the carrier said of it."""

    __tablename__ = "segment"
    __table_args__ = (
        # The id first: with the link first, a planner without statistics reads all of a link.
        Index("segment_message_id_link_idx", "message_id", "link"),
        Index("segment_asked_idx", "submitted_at", postgresql_where=text("carrier_id is not null and done_at is null")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    outbox_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)  # 1 … total
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    total: Mapped[Code]
    link: Mapped[Word]
    message_id: Mapped[str | None] = mapped_column(String(65))  # canonical form (receipts.py); null: useless id
    carrier_id: Mapped[str | None] = mapped_column(String(65))  # as the carrier wrote it, on links that take query_sm
    state: Mapped[Code]
    error: Mapped[str | None] = mapped_column(String(40))
    submitted_at: Mapped[Now]
    done_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ParkedReceipt(Table):
    """A receipt that names no message we know: perhaps it came before its submit_sm_resp was recorded."""

    __tablename__ = "parked_receipt"
    __table_args__ = (Index(None, "message_id", "link"), Index(None, "received_at"))

    id: Mapped[Id]
    link: Mapped[Word]
    message_id: Mapped[str] = mapped_column(String(65))  # one row for each key that the id may stand for
    number_digest: Mapped[Digest]  # must agree, since a key alone may name another message
    state: Mapped[Code]
    error: Mapped[str | None] = mapped_column(String(40))
    received_at: Mapped[Now]


class Inbox(Table):
    """A text that a person sent us, whole. States: inbox.py."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("repeat_key", "window"),
        Index("inbox_new_idx", "id", postgresql_where=text("state = 0")),
        {"postgresql_with": {"fillfactor": "80"}},
    )

    id: Mapped[Id]
    repeat_key: Mapped[Digest]  # digest of link, sender, receiver and octets: the same text again is a repeat …
    window: Mapped[int] = mapped_column(BigInteger)  # … within this stretch of time
    link: Mapped[Word]
    sender: Mapped[Number]
    sender_digest: Mapped[Digest]
    receiver: Mapped[str] = mapped_column(String(21))
    body: Mapped[str] = mapped_column(SealedText("text"))
    state: Mapped[Code] = mapped_column(SmallInteger, server_default="0")
    received_at: Mapped[Now]
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[str | None] = mapped_column(String(80))
    trace: Mapped[Word]


class InboxPart(Table):
    """One part of a long text that waits for the others."""

    __tablename__ = "inbox_part"
    __table_args__ = (Index(None, "received_at"),)

    set_key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)  # of sender, receiver, reference, total
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    total: Mapped[Code]
    link: Mapped[Word]
    sender: Mapped[Number]
    receiver: Mapped[str] = mapped_column(String(21))
    data_coding: Mapped[Code]
    shifts: Mapped[int]  # national language tables: locking << 8 | single
    body: Mapped[bytes] = mapped_column(SealedBytes("text"))  # octets; joined first, decoded then
    trace: Mapped[Word]
    received_at: Mapped[Now]


# --- what is finished: the same rows, moved in bulk, partitioned by day ---------------------------------------------

BY_DAY: dict[str, str] = {"postgresql_partition_by": "range (day)"}
Day = Annotated[date, mapped_column(Date, primary_key=True)]  # UTC, of finished_at; a partition is one day
MovedId = Annotated[int, mapped_column(BigInteger, primary_key=True, autoincrement=False)]


class OutboxHistory(Table):
    """A message that is through; columns as in Outbox."""

    __tablename__ = "outbox_history"
    __table_args__ = (Index(None, "number_digest"), BY_DAY)

    id: Mapped[MovedId]
    day: Mapped[Day]
    kind: Mapped[Code]
    state: Mapped[Code]
    attempts: Mapped[Code]
    encoding: Mapped[Code]
    number: Mapped[Number]
    number_digest: Mapped[Digest]
    sender: Mapped[str | None] = mapped_column(String(21))
    body: Mapped[bytes] = mapped_column(SealedBytes("text"))
    created_at: Mapped[Moment]
    finished_at: Mapped[Moment]
    push_id: Mapped[int | None] = mapped_column(BigInteger)
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    client_ref: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(String(80))
    trace: Mapped[Word]


class SegmentHistory(Table):
    """A segment of such a message; a late receipt looks here second."""

    __tablename__ = "segment_history"
    __table_args__ = (Index(None, "message_id", "link"), BY_DAY)

    outbox_id: Mapped[MovedId]
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    day: Mapped[Day]
    total: Mapped[Code]
    link: Mapped[Word]
    message_id: Mapped[str | None] = mapped_column(String(65))
    state: Mapped[Code]
    error: Mapped[str | None] = mapped_column(String(40))
    submitted_at: Mapped[Moment]
    done_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class InboxHistory(Table):
    """A text that was answered; columns as in Inbox."""

    __tablename__ = "inbox_history"
    __table_args__ = (Index(None, "sender_digest"), BY_DAY)

    id: Mapped[MovedId]
    day: Mapped[Day]
    link: Mapped[Word]
    sender: Mapped[Number]
    sender_digest: Mapped[Digest]
    receiver: Mapped[str] = mapped_column(String(21))
    body: Mapped[str] = mapped_column(SealedText("text"))
    state: Mapped[Code]
    received_at: Mapped[Moment]
    finished_at: Mapped[Moment]
    error: Mapped[str | None] = mapped_column(String(80))
    trace: Mapped[Word]


class HistoryMark(Table):
    """How far the hot tables reached at a moment: beyond the mark of an hour ago the mover need not look."""

    __tablename__ = "history_mark"

    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    outbox_id: Mapped[int] = mapped_column(BigInteger)
    inbox_id: Mapped[int] = mapped_column(BigInteger)


# --- the service itself ---------------------------------------------------------------------------------------------


class NetworkStatus(Table):
    """The links to carriers, as an operator sees them (R4.15, R4.16)."""

    __tablename__ = "network_status"

    link: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[Word]  # "up", "connecting", "down", "refused", "waiting" (another process holds it)
    since: Mapped[Now]
    last_success_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    queue: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None] = mapped_column(String(200))
    seen_at: Mapped[Now]  # a row not seen for 15 s belongs to a process that died


class ApiToken(Table):
    """A token for the gateway's API; only its SHA-256 is kept (a token has 256 bits, so no slow hash is needed)."""

    __tablename__ = "api_token"
    __table_args__ = (UniqueConstraint("name"), UniqueConstraint("token_hash"))

    id: Mapped[Id]
    name: Mapped[Word]
    token_hash: Mapped[Digest]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))  # "send", "read"
    created_at: Mapped[Now]
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class IdempotentRequest(Table):
    """What a request with an Idempotency-Key was answered, so that its repeat acts once."""

    __tablename__ = "idempotent_request"
    __table_args__ = (Index(None, "created_at"),)

    token_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("api_token.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    request_hash: Mapped[Digest]
    status: Mapped[Code]
    response: Mapped[Any] = mapped_column(JSONB)
    created_at: Mapped[Now]
