"""A carrier with two phones, and gateways to try against it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from rig import AMINA, LI, PASSWORD, Rig, rig_on

from simulator import Simulator


@pytest.fixture
async def network() -> AsyncIterator[Simulator]:
    """Carrier and phones; a deliver_sm that was refused for now is sent again after 50 ms."""
    async with Simulator(password=PASSWORD, retry_s=0.05) as simulator:
        simulator.add_handset(LI, "李")
        simulator.add_handset(AMINA, "Amina", "text")
        yield simulator


@pytest.fixture
async def rig(tmp_path: Path, database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    async with rig_on(tmp_path, database_url, redis_url) as made:
        yield made


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}
