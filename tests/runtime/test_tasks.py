"""A task that is told to end ends, even one that did not hear it the first time."""

import asyncio

from runtime.tasks import end


async def test_a_task_that_loses_its_first_cancellation_is_ended_all_the_same() -> None:
    lost = 0

    async def hard_of_hearing() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(hard_of_hearing())
        await asyncio.sleep(0)
        await end([task])
    assert (task.cancelled(), lost) == (True, 2)


async def test_a_task_that_has_failed_keeps_its_failure() -> None:
    async def broken() -> None:
        raise RuntimeError("a fault")

    task = asyncio.create_task(broken())
    await asyncio.wait([task])
    await end([task])
    assert isinstance(task.exception(), RuntimeError)


async def test_there_may_be_nothing_to_end() -> None:
    await end([])
