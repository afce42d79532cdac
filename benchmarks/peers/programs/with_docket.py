"""Docket (Prefect): Streams and Lua, results kept; a full worker looks again after 5 ms, not 100."""

import asyncio
import logging
from datetime import timedelta

import uvloop
from counting import hit
from docket import Docket, Worker
from running import IO_SECONDS, PAYLOAD, REDIS, main, spread, timed_async

AT_A_TIME = 50  # with 100 it runs out of its own connections
LOOK_AGAIN = timedelta(milliseconds=5)


async def noop(data: dict) -> None:
    """Do nothing."""
    hit()


async def io(data: dict) -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(IO_SECONDS)
    hit()


TASKS = {"noop": noop, "io": io}


def made() -> Docket:
    """The docket, with both tasks."""
    docket = Docket("bench", url=REDIS)
    for task in TASKS.values():
        docket.register(task)
    return docket


def fill(task: str, count: int) -> None:
    """Put `count` tasks on it."""

    async def publish() -> None:
        async with made() as docket:
            for first in range(0, count, 50):
                await asyncio.gather(
                    *(docket.add(TASKS[task])(PAYLOAD) for _ in range(first, min(count, first + 50)))
                )

    uvloop.run(publish())


def work(task: str, processes: int) -> None:
    """A worker."""
    logging.disable(logging.WARNING)
    if processes > 1:
        return spread(task, processes)

    async def serve() -> None:
        async with (
            made() as docket,
            Worker(
                docket,
                concurrency=AT_A_TIME,
                minimum_check_interval=LOOK_AGAIN,
                schedule_automatic_tasks=False,
            ) as worker,
        ):
            await worker.run_forever()

    return uvloop.run(serve())


def latency(count: int) -> list[float]:
    """From adding until the result is there."""
    logging.disable(logging.WARNING)

    async def measure() -> list[float]:
        async with made() as docket:

            async def request() -> None:
                execution = await docket.add(noop)(PAYLOAD)
                await execution.get_result(timeout=timedelta(seconds=30))

            return await timed_async(request, count)

    return uvloop.run(measure())


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
