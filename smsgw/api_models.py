"""What the API takes, checked while it is read: the models also make the OpenAPI document."""

import re
import secrets
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from addressbook import numbers
from addressbook.outbox import Kind, Outgoing

BATCH_MAX = 10_000
TEXT_CHARACTERS_MAX = 1_530  # ten parts of GSM 7-bit
VALIDITY_S_MAX = 7 * 86_400
_SENDER = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9 ._-]{1,11}")
_KINDS = {"otp": Kind.OTP, "reply": Kind.REPLY, "notice": Kind.NOTICE, "group": Kind.GROUP, "campaign": Kind.CAMPAIGN}


def _sender(value: str) -> str:
    if not _SENDER.fullmatch(value):
        raise ValueError("a number, a short code, or up to 11 Latin letters and digits")
    return value


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a character that nobody can show")
    return value


class MessageIn(BaseModel):
    """One text to one number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    to: Annotated[str, Field(min_length=3, max_length=40, examples=["+254712345678"])]
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX), AfterValidator(_storable)]
    sender: Annotated[str | None, Field(alias="from", max_length=16), AfterValidator(lambda v: v and _sender(v))] = None
    kind: Literal["otp", "reply", "notice", "group", "campaign"] = "notice"
    client_ref: Annotated[str | None, Field(max_length=64), AfterValidator(lambda v: v and _storable(v))] = None
    validity_s: Annotated[int | None, Field(ge=1, le=VALIDITY_S_MAX)] = None


class BatchIn(BaseModel):
    """Up to 10,000 texts; all are accepted or none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=BATCH_MAX)]


class Parsed(NamedTuple):
    messages: list[MessageIn]
    is_batch: bool


_ONE = TypeAdapter(MessageIn)
_MANY = TypeAdapter(BatchIn)
_IS_BATCH = re.compile(rb'\s*\{\s*"messages"\s*:')


def parse_body(body: bytes) -> Parsed:
    """Read one message or a batch. Raises pydantic.ValidationError."""
    if _IS_BATCH.match(body):
        return Parsed(_MANY.validate_json(body).messages, is_batch=True)
    try:
        return Parsed([_ONE.validate_json(body)], is_batch=False)
    except ValidationError as error:
        if any(detail["loc"] == ("messages",) for detail in error.errors(include_url=False, include_input=False)):
            return Parsed(_MANY.validate_json(body).messages, is_batch=True)
        raise


def problems_of(error: ValidationError) -> list[dict[str, str]]:
    """Where and what, at most a hundred; never the value."""
    details: list[Any] = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        {"where": ".".join(str(part) for part in detail["loc"]), "what": detail["msg"].removeprefix("Value error, ")}
        for detail in details[:100]
    ]


def outgoing(message: MessageIn, region: str, token_id: int) -> Outgoing:
    """The row to enqueue. Raises Refused for a number that cannot be."""
    to = message.to
    return Outgoing(
        number=to if numbers.is_possible_e164(to) else numbers.parse(to, region).e164,
        body=message.text.encode(),
        kind=_KINDS[message.kind],
        trace=secrets.token_hex(8),
        sender=message.sender,
        client_ref=message.client_ref,
        token_id=token_id,
        validity_s=message.validity_s,
    )
