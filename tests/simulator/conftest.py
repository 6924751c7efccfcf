"""A carrier with two phones, and gateways that bind to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from esme import BareSocket, Esme

from simulator import Simulator

ZHANG = "+8613800138000"
WANJIRU = "+254712345678"


@pytest.fixture
async def network() -> AsyncIterator[Simulator]:
    """Carrier and phones, without the page."""
    async with Simulator(password="secret", retry_s=0.05) as simulator:
        simulator.add_handset(ZHANG, "张三")
        simulator.add_handset(WANJIRU, "Wanjiru", "text")
        yield simulator


@pytest.fixture
async def gateways(network: Simulator) -> AsyncIterator[Callable[..., Awaitable[Esme]]]:
    """Makes bound python-smpplib clients and closes them."""
    made: list[Esme] = []

    async def make(kind: str = "transceiver", **bind: object) -> Esme:
        made.append(Esme(network.smpp_port, **bind))
        return await asyncio.to_thread(made[-1].bind, kind)

    yield make
    for one in made:
        await asyncio.to_thread(one.close)


@pytest.fixture
async def bare(network: Simulator) -> AsyncIterator[Callable[[], Awaitable[BareSocket]]]:
    """Makes bare connections and closes them."""
    made: list[BareSocket] = []

    async def make() -> BareSocket:
        made.append(await BareSocket.connect(network.smpp_port))
        return made[-1]

    yield make
    for one in made:
        await one.close()
