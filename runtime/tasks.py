"""Ending tasks for certain."""

import asyncio
from collections.abc import Collection

ASK_AGAIN_S = 0.5


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel these and wait until they have ended; what they raise is left for their task group.

    Once is not enough: asyncio.wait_for of Python 3.11 loses a cancellation that comes in the same moment as its result
    (fixed in 3.12), and psycopg waits for every answer with it. A task group would then wait for ever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=ASK_AGAIN_S)
