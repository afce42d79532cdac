"""Publishing over HTTP: one event a request, and batches."""

from __future__ import annotations

import orjson
from streammesh import names

from benchmarks.arena import arena
from benchmarks.http_load import Load, post
from benchmarks.measuring import Results

DATA = {"n": 1, "text": "x" * 150}
CONNECTIONS, BATCH = 32, 500
SINGLE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"


def event(event_type: str = "bench.noop") -> dict[str, object]:
    """A new event of about 290 bytes."""
    return {"specversion": "1.0", "id": names.new_id(), "source": "bench", "type": event_type, "data": DATA}


async def publish(results: Results, size: int) -> None:
    """`publish.http.single` at 32 connections, `publish.http.batch` with 500 events a request at 4."""
    async with arena() as mesh:
        await mesh.start_api()
        host, key = mesh.api_url.removeprefix("http://"), mesh.api_key

        def single(n: int) -> bytes:
            return post("/v1/events", host, key, SINGLE, orjson.dumps(event()))

        def batch(n: int) -> bytes:
            return post("/v1/events", host, key, MANY, orjson.dumps([event() for _ in range(BATCH)]))

        await Load(500, CONNECTIONS, single).run(mesh.api_url)
        took = await Load(size, CONNECTIONS, single).run(mesh.api_url)
        results.add("publish.http.single", "events/s", size / took)
        ready = [batch(n) for n in range(max(4, size // 250))]
        took = await Load(len(ready), 4, ready.__getitem__).run(mesh.api_url)
        results.add("publish.http.batch", "events/s", len(ready) * BATCH / took)
