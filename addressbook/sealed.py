"""Names, numbers and texts of people, sealed at rest; numbers found by a keyed digest.

    value in the database:  key id (1) | nonce (12) | AES-256-GCM ciphertext | tag (16)
    digest:                 key id (1) | HMAC-SHA256 of purpose and value, first 16 octets

The purpose ("number", "name", "text" …) is the associated data, so a value copied into a column of another
purpose does not open. NIST SP 800-38D, 8.2.1: the nonce is a fixed field, random for each process (6 octets), and a
counter (6 octets), because random nonces would reach their limit of 2^32 per key in three days at 20,000 texts/s.
"""

import hmac
import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Dialect, LargeBinary
from sqlalchemy.types import TypeDecorator

KEY_OCTETS = 32
DIGEST_OCTETS = 17
RELOAD_EVERY_S = 5.0  # at most: a value that names a key which nobody has must not cost a look at the disk each time
_NONCE_OCTETS = 12
_HEAD_OCTETS = 1 + _NONCE_OCTETS
_NO_KEYS = "this engine has no keys: call sealed.attach(engine, keys) first"

Reload = Callable[[], tuple[Mapping[int, bytes], Mapping[int, bytes]]]


class SealBroken(Exception):
    """A sealed value does not open: altered, moved to another purpose, or its key is missing. Never retried."""


class KeyRing:
    """Every key that old values need, and the ones for new values.

    seal_keys and digest_keys map a key id (1 to 255) to 32 octets; the highest id is used for new values.
    There is one digest key in use at a time: a number must have one digest, or uniqueness would not hold.
    reload: where to look for a sealing key that another process has begun to use meanwhile.
    """

    def __init__(
        self, seal_keys: Mapping[int, bytes], digest_keys: Mapping[int, bytes], reload: Reload | None = None
    ) -> None:
        for keys in (seal_keys, digest_keys):
            if not keys or any(not 0 < key_id < 256 or len(key) != KEY_OCTETS for key_id, key in keys.items()):
                raise ValueError("a key ring needs keys of 32 octets with ids from 1 to 255")
        self.seal_key_ids = tuple(sorted(seal_keys))
        self.digest_key_ids = tuple(sorted(digest_keys))
        self._reload = reload
        self._reloaded_at = -RELOAD_EVERY_S
        self._ciphers = {key_id: AESGCM(key) for key_id, key in seal_keys.items()}
        newest = max(seal_keys)
        self._encrypt = self._ciphers[newest].encrypt
        self._newest = bytes([newest])
        self._fixed_field = os.urandom(6)
        self._next_count = itertools.count().__next__
        self._digest_id = bytes([max(digest_keys)])
        self._digest_key = digest_keys[max(digest_keys)]

    def seal(self, purpose: bytes, value: bytes) -> bytes:
        """Seal octets with the newest key; about 2 µs."""
        nonce = self._fixed_field + self._next_count().to_bytes(6, "big")
        return self._newest + nonce + self._encrypt(nonce, value, purpose)

    def open(self, purpose: bytes, value: bytes) -> bytes:
        """Open what seal made, with whichever key it names. Raises SealBroken."""
        value = bytes(value)
        cipher = self._ciphers.get(value[0]) if value else None
        if cipher is None and value:
            cipher = self._newly_made(value[0])
        if cipher is None:
            raise SealBroken("a sealed value names a key that is not in the key ring")
        try:
            return cipher.decrypt(value[1:_HEAD_OCTETS], value[_HEAD_OCTETS:], purpose)
        except (InvalidTag, ValueError):
            raise SealBroken(f"a sealed {purpose.decode()} does not open with its key") from None

    def _newly_made(self, key_id: int) -> AESGCM | None:
        """The cipher of a key that was added after our start; for sealing we go on with the one we know."""
        now = time.monotonic()
        if self._reload is not None and now - self._reloaded_at >= RELOAD_EVERY_S:
            self._reloaded_at = now
            for found, key in self._reload()[0].items():
                self._ciphers.setdefault(found, AESGCM(key))
        return self._ciphers.get(key_id)

    def seal_text(self, purpose: bytes, value: str) -> bytes:
        return self.seal(purpose, value.encode())

    def open_text(self, purpose: bytes, value: bytes) -> str:
        return self.open(purpose, value).decode()

    def digest(self, purpose: bytes, value: str) -> bytes:
        """The same 17 octets for the same value, and nothing to be learned from them without the key."""
        return self._digest_id + hmac.digest(self._digest_key, purpose + b"\0" + value.encode(), "sha256")[:16]

    def number_digest(self, number: str) -> bytes:
        """By this a number (E.164 with "+", or a short code as it is dialled) is found."""
        return self._digest_id + hmac.digest(self._digest_key, b"number\0" + number.encode(), "sha256")[:16]


def attach(engine: Any, keys: KeyRing) -> None:
    """Give an Engine or AsyncEngine the keys with which its sealed columns are written and read."""
    engine.dialect.smsgw_keys = keys


def _keys_of(dialect: Dialect) -> KeyRing:
    keys: KeyRing | None = getattr(dialect, "smsgw_keys", None)
    assert keys is not None, _NO_KEYS
    return keys


T = TypeVar("T")


class _Sealed(TypeDecorator[T]):
    """Sealed octets in the database. The purpose is the associated data of every value in the column."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, purpose: str) -> None:
        super().__init__()
        self.purpose = purpose
        self._label = purpose.encode()


class SealedText(_Sealed[str]):
    """A str in Python."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else _keys_of(dialect).seal(self._label, value.encode())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else _keys_of(dialect).open(self._label, value).decode()


class SealedBytes(_Sealed[bytes]):
    """Octets in Python."""

    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        return None if value is None else _keys_of(dialect).seal(self._label, value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        return None if value is None else _keys_of(dialect).open(self._label, value)
