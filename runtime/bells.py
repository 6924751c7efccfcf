"""Wake-ups between processes, by Redis; whatever is lost here is found by a poll or the sweep.

    ring({"outbox"})  ─ publish ─>  wait("outbox")     the gateway looks for due messages
    ring({"pushes"})  ─ RQ job  ─>  workers.jobs.plan_pushes

A ring carries no data. With Redis away everything still happens, later.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

CHANNEL = "smsgw:ring:"
RECONNECT_S = 1.0
RING_WITHIN_S = 0.5  # whoever commits waits for the ring: a Redis that hangs must not hold up an acknowledgement
# A job that waits in the queue will see whatever was committed before it starts: one is enough.
JOB_PENDING_S = 5
_FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class Bells:
    """The bells of one process. jobs maps a bell to the RQ job that answers it, by its dotted name."""

    def __init__(self, redis_url: str, jobs: Mapping[str, str] | None = None) -> None:
        self.client = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        )
        self._url = redis_url
        self._jobs = dict(jobs or {})
        self._heard: dict[str, list[asyncio.Event]] = {}
        self.connected = False
        self._away_until = 0.0  # monotonic; until then no ring is tried

    def event(self, bell: str) -> asyncio.Event:
        """A new event for one waiter: set whenever this bell rings, in any process; the waiter clears it."""
        event = asyncio.Event()
        self._heard.setdefault(bell, []).append(event)
        return event

    def _sound(self, bell: str) -> None:
        for event in self._heard.get(bell, ()):
            event.set()

    async def ring(self, bells: frozenset[str]) -> None:
        """Ring after a commit. Never raises: a lost ring costs time, not a message."""
        for bell in bells:
            self._sound(bell)
        if time.monotonic() < self._away_until:
            return
        try:
            for bell in sorted(bells):
                if bell in self._jobs:
                    await self._enqueue(bell)
                else:
                    async with asyncio.timeout(RING_WITHIN_S):
                        await self.client.publish(CHANNEL + bell, b"")
        except _FAILURES as error:
            self._away_until = time.monotonic() + RECONNECT_S
            log.warning("rings were lost", extra={"bells": sorted(bells), "reason": type(error).__name__})

    async def _enqueue(self, bell: str) -> None:
        async with asyncio.timeout(RING_WITHIN_S):
            first = await self.client.set(f"{CHANNEL}{bell}:pending", b"1", nx=True, ex=JOB_PENDING_S)
        if first:
            await asyncio.to_thread(enqueue_job, self._url, self._jobs[bell])

    async def listen(self) -> None:
        """Hear the other processes' bells until cancelled; reconnects by itself."""
        while True:
            with contextlib.suppress(*_FAILURES):
                async for bell in self._channel():
                    self._sound(bell)
            self.connected = False
            await asyncio.sleep(RECONNECT_S)

    async def _channel(self) -> AsyncIterator[str]:
        async with self.client.pubsub() as channel:
            await channel.psubscribe(CHANNEL + "*")
            self.connected = True
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=2.0)
                if message is not None:
                    yield message["channel"].decode().removeprefix(CHANNEL)

    async def close(self) -> None:
        with contextlib.suppress(*_FAILURES):
            await self.client.connection_pool.disconnect()


def enqueue_job(redis_url: str, job: str) -> None:
    """Put a job by its dotted name on the one queue of the workers."""
    from redis import Redis
    from rq import Queue
    from rq.serializers import JSONSerializer

    with Redis.from_url(redis_url, socket_timeout=5) as client:
        Queue("smsgw", connection=client, serializer=JSONSerializer).enqueue(job, result_ttl=0, failure_ttl=86_400)


def clear_pending(client: Any, bell: str) -> None:
    """A job says that it starts looking now: the next ring makes a new job."""
    client.delete(f"{CHANNEL}{bell}:pending")
