"""Tokens for the gateway's API: shown once, kept as a digest, with scopes."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from addressbook.errors import NotFound, Refused
from addressbook.schema import ApiToken

SCOPES = ("send", "read")
PREFIX = "smsgw_"  # so that a token is recognised where it leaked


class Token(NamedTuple):
    id: int
    name: str
    scopes: frozenset[str]


def add(db: Session, name: str, scopes: Sequence[str] = SCOPES) -> str:
    """Make a token and return it; it is not to be had again. Raises Refused."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Refused("scopes are: {scopes}", scopes=", ".join(SCOPES))
    if not 0 < len(name) <= 40 or not name.isprintable():
        raise Refused("a token's name has 1 to 40 printable characters")
    if db.scalar(select(ApiToken.id).where(ApiToken.name == name)):
        raise Refused("there is a token called {name} already", name=name)
    token = PREFIX + secrets.token_urlsafe(32)
    db.add(ApiToken(name=name, token_hash=digest(token), scopes=sorted(set(scopes))))
    db.flush()
    return token


def find(db: Session, token: str) -> Token | None:
    """Whose token this is, unless it was revoked."""
    row = db.execute(
        select(ApiToken.id, ApiToken.name, ApiToken.scopes).where(
            ApiToken.token_hash == digest(token), ApiToken.revoked_at.is_(None)
        )
    ).first()
    return Token(row.id, row.name, frozenset(row.scopes)) if row else None


def revoke(db: Session, name: str) -> None:
    """End a token; processes notice within seconds."""
    ended = db.execute(
        update(ApiToken).where(ApiToken.name == name, ApiToken.revoked_at.is_(None)).values(revoked_at=text("now()"))
        .returning(ApiToken.id)
    ).first()  # fmt: skip
    if ended is None:
        raise NotFound("there is no token called {name}", name=name)


def listed(db: Session) -> list[ApiToken]:
    return list(db.scalars(select(ApiToken).order_by(ApiToken.name)))


def digest(token: str) -> bytes:
    """A token has 256 random bits: one round of SHA-256 cannot be undone by guessing."""
    return hashlib.sha256(token.encode()).digest()
