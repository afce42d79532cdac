"""Publishing over HTTP, and the whole way from a publish to the pushed outcome."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import orjson
from streammesh import names
from streammesh.client import MeshClient

from benchmarks.arena import arena
from benchmarks.http_load import Load, post
from benchmarks.measuring import Results, percentile

DATA = {"n": 1, "text": "x" * 150}


def _event(n: int) -> dict[str, object]:
    return {"specversion": "1.0", "id": names.new_id(), "source": "bench", "type": "bench.noop", "data": DATA}


async def publish(results: Results, size: int) -> None:
    """`publish.http.single` at 32 connections, `publish.http.batch` with 500 events a request."""
    async with arena() as mesh:
        await mesh.start_api()
        host = mesh.api_url.removeprefix("http://")

        def single(n: int) -> bytes:
            return post(
                "/v1/events", host, mesh.api_key, "application/cloudevents+json", orjson.dumps(_event(n))
            )

        def batch(n: int) -> bytes:
            body = orjson.dumps([_event(i) for i in range(500)])
            return post("/v1/events", host, mesh.api_key, "application/cloudevents-batch+json", body)

        await Load(500, 32, single).run(mesh.api_url)
        results.add("publish.http.single", "events/s", size / await Load(size, 32, single).run(mesh.api_url))
        ready = [batch(n) for n in range(max(4, size // 250))]
        took = await Load(len(ready), 4, ready.__getitem__).run(mesh.api_url)
        results.add("publish.http.batch", "events/s", len(ready) * 500 / took)


async def latency(results: Results, size: int) -> None:
    """`latency.low`: one publish at a time; from before the POST until the success is read from the SSE stream."""
    async with arena() as mesh:
        await mesh.start_api()
        await mesh.start("benchmarks.workers.async_worker", role="bench_async")
        await mesh.start("services.dispatcher", role="dispatcher")
        async with MeshClient(mesh.api_url, api_key=mesh.api_key, source="bench") as client:
            waiting: dict[str, asyncio.Future[float]] = {}
            heard = asyncio.Event()

            async def listen() -> None:
                async with aclosing(client.notifications(type="task.succeeded")) as notes:
                    async for note in notes:
                        heard.set()
                        future = waiting.pop(note.event["id"], None)
                        if future and not future.done():
                            future.set_result(time.perf_counter())

            listener = asyncio.create_task(listen())
            while not heard.is_set():  # until the listener hears, and everything is warm
                await client.publish("bench.noop", DATA)
                await asyncio.sleep(0.05)
            took = []
            for n in range(size + 20):
                event_id = names.new_id()
                waiting[event_id] = asyncio.get_running_loop().create_future()
                answer = waiting[event_id]
                began = time.perf_counter()
                await client.publish("bench.noop", DATA, id=event_id)
                ended = await asyncio.wait_for(answer, 10)
                if n >= 20:
                    took.append((ended - began) * 1000)
                await asyncio.sleep(0.01)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        results.add("latency.low.p50", "ms", percentile(took, 0.50))
        results.add("latency.low.p99", "ms", percentile(took, 0.99))
