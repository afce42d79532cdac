"""What pushing costs: to one of many, to all, to who is quiet, to who comes back, beside who does not read.

Each scene is measured the same way with the plain application that one would write first.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import redis.asyncio
from streammesh import names

from benchmarks.arena import arena, until
from benchmarks.http_load import Poster, post
from benchmarks.listeners import Crowd, fields_of, get, tell_at_rate
from benchmarks.machine import cpu_seconds, resident_mb
from benchmarks.measuring import Results, percentile
from benchmarks.targets import OURS

RATE = 200.0  # notifications a second, each for one of all
SECONDS = 6
BROADCASTS = 20
IDLE_SECONDS = 10.0
BACK, BEHIND = 200, 20_000  # clients that come back, and how many notifications each has missed
SLOW = 500
SPARE_FILES = 1_000  # beside one for each stream, where the system allows fewer than are asked for
KINDS: dict[str, Callable[[int], str]] = {
    "subject": lambda n: f"subject=user/{n}",
    "event": lambda n: f"event=event-{n}",
    "task": lambda n: f"task=task-{n}",
    "service": lambda n: f"service=s{n}",
    "type": lambda n: f"type=order.k{n}.placed",
    "glob": lambda n: f"type=order.k{n}.*",
    "middle": lambda n: f"type=*.k{n}.p*",
    "prefix": lambda n: f"subject_prefix=user/{n}",
}


@dataclass
class Stage:
    """A server of streams, the Redis that it reads, and its process."""

    system: str
    url: str
    pid: int
    client: redis.asyncio.Redis
    stream: str
    key: str = "none"

    def crowd(self) -> Crowd:
        """Clients of it, none yet."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return Crowd(host, int(port))

    def ask(self, query: str, *lines: str) -> bytes:
        """A request for a stream."""
        return get(f"/v1/notifications?{query}", self.url.removeprefix("http://"), self.key, *lines)


@asynccontextmanager
async def _ours(**env: str) -> AsyncIterator[Stage]:
    async with arena() as mesh:
        most = {"API_MAX_STREAMS": "30000", "API_MAX_STREAMS_PER_KEY": "30000", "API_MAX_CONCURRENT": "40000"}
        mesh.env |= most | env
        pid = await mesh.start_api()
        yield Stage(OURS, mesh.api_url, pid, mesh.redis, mesh.keys.notifications(), mesh.api_key)


async def filters(results: Results, size: int) -> None:
    """`push.<kind>`: 200 notifications a second, each for one of `size` streams, for each kind of filter."""
    async with _ours() as stage:
        for kind, query in KINDS.items():
            await one_of_many(results, stage, kind, query, size)


async def one_of_many(
    results: Results, stage: Stage, kind: str, query: Callable[[int], str], size: int
) -> None:
    """Open `size` streams, then measure; what opening and idling cost comes with it for `subject`."""
    crowd, chance = stage.crowd(), random.Random(3)
    try:
        memory, spent = resident_mb(stage.pid), cpu_seconds(stage.pid)
        await crowd.open([stage.ask(query(n)) for n in range(10_000, 10_000 + size)])
        opened = cpu_seconds(stage.pid) - spent
        await tell_at_rate(
            stage.client, stage.stream, crowd, lambda _: 10_000 + chance.randrange(size), 100, RATE
        )
        spent = cpu_seconds(stage.pid)
        count = int(RATE * SECONDS)
        took = await tell_at_rate(
            stage.client, stage.stream, crowd, lambda _: 10_000 + chance.randrange(size), count, RATE
        )
        spent = cpu_seconds(stage.pid) - spent
        results.add(f"push.{kind}.p50", "ms", percentile(took, 0.5), stage.system)
        results.add(f"push.{kind}.p99", "ms", percentile(took, 0.99), stage.system)
        results.add(f"push.{kind}.cpu", "ms/notification", 1000 * spent / count, stage.system)
        if kind == "subject":
            results.add("push.open.cpu", "ms/stream", 1000 * opened / size, stage.system)
            results.add(
                "push.memory", "KB/stream", 1024 * (resident_mb(stage.pid) - memory) / size, stage.system
            )
            spent = cpu_seconds(stage.pid)
            await asyncio.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(stage.pid) - spent) / IDLE_SECONDS
            results.add("push.idle.cpu", "µs/s a stream", 1e6 * idle / size, stage.system)
    finally:
        crowd.close()


async def broadcast(results: Results, size: int) -> None:
    """`push.broadcast`: deliveries a second, of notifications that all of `size` streams get."""
    async with _ours() as stage:
        await to_all(results, stage, size)


async def to_all(results: Results, stage: Stage, size: int) -> None:
    """The same on any stage."""
    crowd = stage.crowd()
    try:
        await crowd.open([stage.ask("") for _ in range(size)])
        began, spent = time.perf_counter(), cpu_seconds(stage.pid)
        for sequence in range(BROADCASTS):
            await stage.client.xadd(stage.stream, fields_of(1, sequence))

        async def all_heard() -> bool:
            return crowd.heard >= BROADCASTS * size

        await until(all_heard, 60, pause=0.005)
        took, spent = time.perf_counter() - began, cpu_seconds(stage.pid) - spent
        results.add("push.broadcast", "deliveries/s", BROADCASTS * size / took, stage.system)
        results.add("cpu.api.push.broadcast", "µs/delivery", 1e6 * spent / (BROADCASTS * size), stage.system)
    finally:
        crowd.close()


async def many(results: Results, size: int) -> None:
    """`push.many`: so many streams on one process are opened, and one of each hundred is told something."""
    size = min(size, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES)
    async with _ours() as stage:
        crowd = stage.crowd()
        try:
            memory, began = resident_mb(stage.pid), time.perf_counter()
            await crowd.open([stage.ask(f"subject=user/{n}") for n in range(size)])
            results.add("push.many.open", "streams/s", size / (time.perf_counter() - began))
            took = await tell_at_rate(
                stage.client, stage.stream, crowd, lambda n: n * 97 % size, max(50, size // 100), RATE
            )
            results.add("push.many.p99", "ms", percentile(took, 0.99))
            results.add("push.many.memory", "KB/stream", 1024 * (resident_mb(stage.pid) - memory) / size)
        finally:
            crowd.close()


async def storm(results: Results, size: int) -> None:
    """`push.storm`: `BACK` clients come back `size` notifications behind, while others publish.

    Its time, and how long a publisher waits (p50) meanwhile and before.
    """
    async with _ours() as stage:
        crowd = stage.crowd()
        pipeline = stage.client.pipeline(transaction=False)
        for sequence in range(size):
            pipeline.xadd(stage.stream, fields_of(sequence % 50, sequence))
            if len(pipeline) >= 1000:
                await pipeline.execute()
        await pipeline.execute()
        over = asyncio.Event()
        quiet = await _publish(stage, over, 3.0)
        publishing = asyncio.create_task(_publish(stage, over, 120.0))
        try:
            began = time.perf_counter()
            await crowd.open([stage.ask("after=0") for _ in range(BACK)])

            async def all_heard() -> bool:
                return crowd.heard >= BACK * size

            await until(all_heard, 120, pause=0.02)
            results.add("push.storm", "s", time.perf_counter() - began)
        finally:
            over.set()
            busy = await publishing
            crowd.close()
        results.add("push.storm.publish.quiet", "ms", percentile(quiet, 0.5))
        results.add("push.storm.publish.busy", "ms", percentile(busy, 0.5))
        results.add("push.storm.publish", "× of quiet", percentile(busy, 0.5) / percentile(quiet, 0.5))


async def _publish(stage: Stage, over: asyncio.Event, seconds: float) -> list[float]:
    host, took = stage.url.removeprefix("http://"), []
    until_then = time.perf_counter() + seconds
    async with Poster(stage.url, 1) as poster:
        while not over.is_set() and time.perf_counter() < until_then:
            body = {
                "specversion": "1.0",
                "type": "bench.noop",
                "id": names.new_id(),
                "source": "bench",
                "data": {},
            }
            began = time.perf_counter()
            await poster.send(
                post("/v1/events", host, stage.key, "application/cloudevents+json", orjson.dumps(body))
            )
            took.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.01)
    return took


async def slow(results: Results, size: int) -> None:
    """`push.slow`: the p99 of `size` streams, while `SLOW` others read nothing and all are told everything besides."""
    for name, others in (("without", 0), ("with", SLOW)):
        async with _ours(API_STALL="3s") as stage:
            crowd, stuck = stage.crowd(), stage.crowd()
            try:
                await crowd.open([stage.ask(f"subject=user/{n}") for n in range(size)])
                for listener in await stuck.open([stage.ask("") for _ in range(others)]):
                    assert listener.transport is not None
                    listener.transport.pause_reading()
                took = await tell_at_rate(stage.client, stage.stream, crowd, lambda n: n % size, 1_200, RATE)
                results.add(f"push.slow.{name}.p99", "ms", percentile(took, 0.99))
            finally:
                crowd.close()
                stuck.close()
