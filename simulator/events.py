"""What changed, told to whoever watches: pages, tests and waiting helpers. Topics only; the state stands elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

Seen = TypeVar("Seen")

WATCHERS_MAX = 200  # open pages and waiting tests; each costs one small object


class TooManyWatchers(RuntimeError):
    """No more pages can be kept live."""


class Events:
    """Topics that changed, gathered for each watcher until it looks: a slow watcher costs no memory."""

    def __init__(self) -> None:
        self._watchers: dict[asyncio.Event, set[str]] = {}

    def tell(self, topic: str) -> None:
        """Something about `topic` changed."""
        for ring, topics in self._watchers.items():
            topics.add(topic)
            ring.set()

    async def watch(self, pause_s: float, idle_s: float) -> AsyncIterator[frozenset[str]]:
        """The topics that changed, at most once every `pause_s`; an empty set after `idle_s` of quiet."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise TooManyWatchers
        ring = asyncio.Event()
        self._watchers[ring] = set()
        try:
            while True:
                try:
                    async with asyncio.timeout(idle_s):
                        await ring.wait()
                except TimeoutError:
                    yield frozenset()
                    continue
                changed, self._watchers[ring] = frozenset(self._watchers[ring]), set()
                ring.clear()
                yield changed
                await asyncio.sleep(pause_s)
        finally:
            del self._watchers[ring]

    async def until(self, look: Callable[[], Seen | None], timeout_s: float) -> Seen:
        """Wait until `look()` returns something; raises TimeoutError."""
        ring = asyncio.Event()
        self._watchers[ring] = set()
        try:
            async with asyncio.timeout(timeout_s):
                while not (seen := look()):
                    await ring.wait()
                    ring.clear()
                return seen
        finally:
            del self._watchers[ring]
