"""arq: its Redis queue and results, asking every 5 ms where it would ask every 500."""

import asyncio
import logging

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from counting import hit
from running import IN_FLIGHT, IO_SECONDS, PAYLOAD, REDIS, main, spread, timed_async

POLL_SECONDS = 0.005
PLACE = RedisSettings.from_dsn(REDIS)


async def noop(ctx: dict, data: dict) -> None:
    """Do nothing."""
    hit()


async def io(ctx: dict, data: dict) -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(IO_SECONDS)
    hit()


def fill(task: str, count: int) -> None:
    """Put `count` jobs into the queue."""

    async def publish() -> None:
        pool = await create_pool(PLACE)
        for first in range(0, count, 100):
            await asyncio.gather(
                *(pool.enqueue_job(task, PAYLOAD) for _ in range(first, min(count, first + 100)))
            )
        await pool.aclose()

    uvloop.run(publish())


def work(task: str, processes: int) -> None:
    """A worker."""
    logging.disable(logging.WARNING)
    if processes > 1:
        return spread(task, processes)

    async def serve() -> None:
        worker = Worker(
            [noop, io],
            redis_settings=PLACE,
            max_jobs=IN_FLIGHT,
            poll_delay=POLL_SECONDS,
            handle_signals=False,
        )
        await worker.async_run()

    return uvloop.run(serve())


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there."""

    async def measure() -> list[float]:
        pool = await create_pool(PLACE)

        async def request() -> None:
            job = await pool.enqueue_job("noop", PAYLOAD)
            await job.result(timeout=30, poll_delay=POLL_SECONDS)

        took = await timed_async(request, count)
        await pool.aclose()
        return took

    return uvloop.run(measure())


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
