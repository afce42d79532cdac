"""SAQ: its Redis queue, results kept in the job."""

import asyncio
import logging

import uvloop
from counting import hit
from running import IN_FLIGHT, IO_SECONDS, PAYLOAD, REDIS, main, spread, timed_async
from saq import Queue, Worker


async def noop(ctx: dict, *, data: dict) -> None:
    """Do nothing."""
    hit()


async def io(ctx: dict, *, data: dict) -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(IO_SECONDS)
    hit()


def fill(task: str, count: int) -> None:
    """Put `count` jobs into the queue."""

    async def publish() -> None:
        queue = Queue.from_url(REDIS)
        await queue.connect()
        for first in range(0, count, 100):
            await asyncio.gather(
                *(queue.enqueue(task, data=PAYLOAD) for _ in range(first, min(count, first + 100)))
            )
        await queue.disconnect()

    uvloop.run(publish())


def work(task: str, processes: int) -> None:
    """A worker."""
    logging.disable(logging.WARNING)
    if processes > 1:
        return spread(task, processes)

    async def serve() -> None:
        queue = Queue.from_url(REDIS)
        await queue.connect()
        await Worker(queue, [noop, io], concurrency=IN_FLIGHT).start()

    return uvloop.run(serve())


def latency(count: int) -> list[float]:
    """Through its notifications over pub/sub; `apply` would ask every 500 ms."""

    async def measure() -> list[float]:
        queue = Queue.from_url(REDIS)
        await queue.connect()

        async def request() -> None:
            job = await queue.enqueue("noop", data=PAYLOAD)
            while not job.completed:
                try:
                    await job.refresh(until_complete=2)
                except TimeoutError:
                    continue  # it misses a wake-up now and then

        took = await timed_async(request, count)
        await queue.disconnect()
        return took

    return uvloop.run(measure())


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
