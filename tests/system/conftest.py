"""The whole system as real processes; everything here is slow but a few."""

import tempfile
from collections.abc import Generator, Iterator
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the processes said last."""
    report = yield
    installation = getattr(item, "funcargs", {}).get("installation")
    if report.failed and call.when != "teardown" and isinstance(installation, Installation):
        for one in installation.processes:
            report.sections.append((one.log.name, one.tail()))
    return report
