"""FastStream over Redis Streams: a consumer group, acknowledged after the handler, no results kept."""

import asyncio
import contextlib
import os

import redis.asyncio
import uvloop
from counting import hit
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from running import IN_FLIGHT, IO_SECONDS, PAYLOAD, REDIS, main, spread, timed_async

TASKS = ("noop", "io")


def make_broker() -> RedisBroker:
    """A broker that subscribes to both streams; waiting handlers run side by side, the others in turn."""
    broker = RedisBroker(REDIS, logger=None, max_connections=4096)  # a request takes a connection of its own
    place = {"group": "bench", "consumer": str(os.getpid()), "last_id": ">", "max_records": 100}

    @broker.subscriber(stream=StreamSub("noop", **place))
    async def noop(data: dict) -> None:
        hit()

    @broker.subscriber(stream=StreamSub("io", **place), max_workers=IN_FLIGHT)
    async def io(data: dict) -> None:
        await asyncio.sleep(IO_SECONDS)
        hit()

    return broker


async def make_groups() -> None:
    """The groups that the workers read from the beginning."""
    async with redis.asyncio.Redis.from_url(REDIS) as client:
        for task in TASKS:
            with contextlib.suppress(redis.exceptions.ResponseError):  # another was first
                await client.xgroup_create(task, "bench", id="0", mkstream=True)


def fill(task: str, count: int) -> None:
    """Put `count` entries into the stream."""

    async def publish() -> None:
        async with RedisBroker(REDIS, logger=None) as broker:
            for first in range(0, count, 100):
                await asyncio.gather(
                    *(broker.publish(PAYLOAD, stream=task) for _ in range(first, min(count, first + 100)))
                )

    uvloop.run(publish())


def work(task: str, processes: int) -> None:
    """A worker."""
    if processes > 1:
        return spread(task, processes)

    async def serve() -> None:
        await make_groups()
        await FastStream(make_broker(), logger=None).run()

    return uvloop.run(serve())


def latency(count: int) -> list[float]:
    """Its own request and reply over pub/sub."""

    async def measure() -> list[float]:
        async with RedisBroker(REDIS, logger=None, max_connections=4096) as broker:
            return await timed_async(lambda: broker.request(PAYLOAD, stream="noop", timeout=20), count)

    return uvloop.run(measure())


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
