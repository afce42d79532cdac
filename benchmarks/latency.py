"""The whole way: from before the POST until the success is read from the stream of server-sent events."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import orjson
from streammesh import names
from streammesh.client import MeshClient

from benchmarks.arena import Arena, arena
from benchmarks.front_door import CONNECTIONS, DATA, SINGLE, event
from benchmarks.http_load import Poster, post
from benchmarks.measuring import Results, percentile

WARM_UP = 20
PAUSE_SECONDS = 0.01
IN_FLIGHT = 64  # events under way at a time while the maximum is looked for
SEED = 4
LONGEST = 30  # seconds that any outcome may take


class Chain:
    """API, dispatcher and worker, one process each, and a listener that knows when each event has succeeded."""

    def __init__(self, mesh: Arena, client: MeshClient) -> None:
        self.mesh, self.client = mesh, client
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._heard = asyncio.Event()

    def expect(self, event_id: str) -> asyncio.Future[float]:
        """When the success of this event is heard."""
        self._waiting[event_id] = asyncio.get_running_loop().create_future()
        return self._waiting[event_id]

    async def listen(self) -> None:
        """Follow every success."""
        async with aclosing(self.client.notifications(type="task.succeeded")) as notes:
            async for note in notes:
                self._heard.set()
                future = self._waiting.pop(note.event["id"], None)
                if future and not future.done():
                    future.set_result(time.perf_counter())

    async def warm_up(self) -> None:
        """Until the listener hears."""
        while not self._heard.is_set():
            await self.client.publish("bench.noop", DATA)
            await asyncio.sleep(0.05)

    async def one(self) -> float:
        """Publish one event by the SDK and wait for its outcome; answers the milliseconds."""
        event_id = names.new_id()
        answer = self.expect(event_id)
        began = time.perf_counter()
        await self.client.publish("bench.noop", DATA, id=event_id)
        return (await asyncio.wait_for(answer, LONGEST) - began) * 1000


@asynccontextmanager
async def _chain() -> AsyncIterator[Chain]:
    async with arena() as mesh:
        await mesh.start_api()
        await mesh.start("benchmarks.workers.async_worker", role="bench_async")
        await mesh.start("services.dispatcher", role="dispatcher")
        async with MeshClient(mesh.api_url, api_key=mesh.api_key, source="bench") as client:
            chain = Chain(mesh, client)
            listener = asyncio.create_task(chain.listen())
            await chain.warm_up()
            try:
                yield chain
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)


async def low(results: Results, size: int) -> None:
    """`latency.low`: one event at a time, by the SDK, with a pause between two."""
    took = []
    async with _chain() as chain:
        for n in range(size + WARM_UP):
            ms = await chain.one()
            if n >= WARM_UP:
                took.append(ms)
            await asyncio.sleep(PAUSE_SECONDS)
    results.add("latency.low.p50", "ms", percentile(took, 0.50))
    results.add("latency.low.p99", "ms", percentile(took, 0.99))


async def half(results: Results, size: int) -> None:
    """`latency.half`: events come by themselves, at random moments, at half of the rate that is the maximum.

    `latency.max` is that maximum: what the chain does with 64 events under way all the time. Both take
    `size` milliseconds. A latency counts from the moment at which the event was due to be sent.
    """
    async with _chain() as chain, Poster(chain.mesh.api_url, CONNECTIONS) as poster:
        host, key = chain.mesh.api_url.removeprefix("http://"), chain.mesh.api_key

        async def outcome(due: float) -> float:
            body = event()
            answer = chain.expect(str(body["id"]))
            await poster.send(post("/v1/events", host, key, SINGLE, orjson.dumps(body)))
            return (await asyncio.wait_for(answer, LONGEST) - due) * 1000

        rate = await _most(outcome, size / 1000)
        took = await _at_rate(outcome, rate / 2, size / 1000)
    results.add("latency.max", "events/s", rate)
    results.add("latency.half.p50", "ms", percentile(took, 0.50))
    results.add("latency.half.p99", "ms", percentile(took, 0.99))


async def _most(outcome, seconds: float) -> float:  # type: ignore[no-untyped-def]
    """How many outcomes a second there are with `IN_FLIGHT` events under way; the first quarter is warm-up."""
    began = time.perf_counter()
    counted_from, ends = began + seconds / 4, began + seconds
    counted = 0

    async def go_on() -> None:
        nonlocal counted
        while time.perf_counter() < ends:
            await outcome(time.perf_counter())
            counted += counted_from <= time.perf_counter() < ends

    await asyncio.gather(*(go_on() for _ in range(IN_FLIGHT)))
    return max(1.0, counted / (ends - counted_from))


async def _at_rate(outcome, rate: float, seconds: float) -> list[float]:  # type: ignore[no-untyped-def]
    """The milliseconds that outcomes took while events came at `rate` a second, at random moments."""
    chance = random.Random(SEED)
    began = due = time.perf_counter()
    under_way = []
    while due < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        under_way.append(asyncio.create_task(outcome(due)))
        due += chance.expovariate(rate)
    return list(await asyncio.gather(*under_way))
