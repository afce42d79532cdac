"""Taskiq: its Redis Streams broker and its Redis result backend."""

import asyncio

import uvloop
from counting import hit
from running import IN_FLIGHT, IO_SECONDS, PAYLOAD, REDIS, become, main, timed_async
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

POLL_SECONDS = 0.005  # it asks for a result every 200 ms by default, which would be all that one sees
broker = RedisStreamBroker(REDIS, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(REDIS, result_ex_time=3600)
)


@broker.task(task_name="noop")
async def noop(data: dict) -> None:
    """Do nothing."""
    hit()


@broker.task(task_name="io")
async def io(data: dict) -> None:
    """Wait as for a quick network call."""
    await asyncio.sleep(IO_SECONDS)
    hit()


TASKS = {"noop": noop, "io": io}


def fill(task: str, count: int) -> None:
    """Put `count` tasks into the stream."""

    async def publish() -> None:
        await broker.startup()
        for first in range(0, count, 100):
            await asyncio.gather(*(TASKS[task].kiq(PAYLOAD) for _ in range(first, min(count, first + 100))))
        await broker.shutdown()

    uvloop.run(publish())


def work(task: str, processes: int) -> None:
    """Its own supervisor with `processes` workers."""
    limits = ("--workers", str(processes), "--max-async-tasks", str(IN_FLIGHT))
    become("taskiq", "worker", "with_taskiq:broker", "--log-level", "ERROR", *limits)


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there."""

    async def request() -> None:
        task = await noop.kiq(PAYLOAD)
        await task.wait_result(check_interval=POLL_SECONDS, timeout=30)

    async def measure() -> list[float]:
        await broker.startup()
        took = await timed_async(request, count)
        await broker.shutdown()
        return took

    return uvloop.run(measure())


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
