"""The keys that seal people's data: files in the data folder, mode 0600, made at the first start.

    keys/seal-1.key, seal-2.key …   the highest seals new values; the others open old ones
    keys/digest-1.key               numbers are found by it

`smsgw key add` makes the next sealing key. Processes seal with it from their next start, and open with it at once.
Nothing old is rewritten.
A lost key file is lost data: back the folder up, apart from the database.
"""

import fcntl
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

KEY_OCTETS = 32


class BadKeys(Exception):
    """The key folder cannot be used; the message says why."""


@dataclass(frozen=True)
class KeyFile:
    use: str  # "seal" or "digest"
    id: int
    made: datetime


def load(folder: Path) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Sealing keys and digest keys by id, made if there are none yet. Raises BadKeys."""
    _prepare(folder)
    found: dict[str, dict[int, bytes]] = {"seal": {}, "digest": {}}
    for path, entry in _files(folder):
        if not 0 < entry.id < 256:
            raise BadKeys(f"{path}: keys are numbered from 1 to 255")
        if path.stat().st_mode & 0o077:
            raise BadKeys(f"{path} can be read by others: chmod 600 it")
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError):
            raise BadKeys(f"{path} is not a key of {KEY_OCTETS} octets in hexadecimal") from None
        if len(key) != KEY_OCTETS:
            raise BadKeys(f"{path} is not a key of {KEY_OCTETS} octets in hexadecimal")
        found[entry.use][entry.id] = key
    return found["seal"], found["digest"]


def add(folder: Path) -> KeyFile:
    """Make the next sealing key."""
    _prepare(folder)
    newest = max((entry.id for _, entry in _files(folder) if entry.use == "seal"), default=0)
    if newest >= 255:
        raise BadKeys("there are 255 sealing keys already")
    _make(folder, "seal", newest + 1)
    return next(entry for _, entry in _files(folder) if entry.use == "seal" and entry.id == newest + 1)


def listed(folder: Path) -> list[KeyFile]:
    """Every key file, oldest first; never its content."""
    return [entry for _, entry in _files(folder)]


def _prepare(folder: Path) -> None:
    """Make the first keys, both or none: a new digest key beside old data would hide every number in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            uses = {entry.use for _, entry in _files(folder)}
            if len(uses) == 1:
                missing = ({"seal", "digest"} - uses).pop()
                raise BadKeys(f"{folder} has no {missing} key any more: bring it back from your backup")
            if not uses:
                for use in ("seal", "digest"):
                    _make(folder, use, 1)
    except OSError as error:
        raise BadKeys(f"{folder}: {error.strerror}") from None


def _files(folder: Path) -> list[tuple[Path, KeyFile]]:
    entries = []
    for path in folder.glob("*.key"):
        if match := re.fullmatch(r"(seal|digest)-(\d{1,3})\.key", path.name):
            made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            entries.append((path, KeyFile(match[1], int(match[2]), made)))
    return sorted(entries, key=lambda item: (item[1].use, item[1].id))


def _make(folder: Path, use: str, key_id: int) -> None:
    """Write whole or not at all; if another process was first, its key stands."""
    path = folder / f"{use}-{key_id}.key"
    draft = folder / f".{use}-{key_id}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(KEY_OCTETS) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
