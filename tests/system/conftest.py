"""The whole system as real processes; everything here is slow but a few."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="smsgw-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="smsgw-") as name:
        yield Path(name)


@pytest.fixture
def installation(folder: Path) -> Iterator[Installation]:
    """Engines of its own for one test, durable as in production."""
    with Installation(folder) as one:
        yield one
