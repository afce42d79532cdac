"""What Redis holds while the same number of events comes every second for minutes, and the archiver takes what has ended."""

from __future__ import annotations

import asyncio
import time

from streammesh.events import envelope
from streammesh.events.publisher import Publisher

from benchmarks.arena import Arena, arena
from benchmarks.measuring import Results
from benchmarks.throughput import DISPATCHER
from benchmarks.workers import async_worker

EVENTS_PER_SECOND = 500
HOT_SECONDS = 60.0
LOOK_EVERY = 5.0
ENV = {"MESH_HISTORY": "true", "MESH_HOT": f"{HOT_SECONDS:g}s", "MESH_NOTIFICATIONS_AGE": "1m"}


async def flat(results: Results, size: int) -> None:
    """`memory.flat`: `size` events at 500 a second with one task each, history in SQLite, `MESH_HOT=1m`.

    `memory.flat.ratio` is the mean of the last quarter divided by that of the second, the identities left out: they are
    kept for `MESH_DEDUP_WINDOW` and grow until then; `memory.flat.identities` tells what they have come to.
    """
    seconds = size / EVENTS_PER_SECOND
    async with arena() as mesh:
        mesh.settings = mesh.settings.model_copy(update={"history": True})
        mesh.env |= ENV | {"MESH_HISTORY_URL": f"sqlite:///{mesh.folder / 'history.sqlite'}"}
        await mesh.register(async_worker.service)
        await mesh.start(DISPATCHER, DISPATCHER_TRIM_EVERY="5s")
        await mesh.start("services.archiver")
        await mesh.start("benchmarks.workers.async_worker")
        publishing = asyncio.create_task(_publish(mesh, size))
        held: list[float] = []
        began = time.monotonic()
        while not publishing.done():
            await asyncio.sleep(LOOK_EVERY)
            # What a closed connection or a rewrite of the file leaves behind is Redis's own and no event's.
            told = await mesh.redis.info("memory")
            held.append((told["used_memory_dataset"] - await _identities(mesh)) / 2**20)
        await publishing
        took = time.monotonic() - began
        identities = await _identities(mesh) / 2**20
    quarter = max(1, len(held) // 4)
    before, after = held[quarter : 2 * quarter] or held, held[-quarter:]
    results.add("memory.flat.rate", "events/s", size / took)
    results.add("memory.flat.most", "MB", max(held))
    results.add("memory.flat.identities", "MB", identities)
    if seconds >= 4 * HOT_SECONDS:  # in a shorter run the second quarter has not yet seen anything leave
        results.add("memory.flat.ratio", "×", (sum(after) / len(after)) / (sum(before) / len(before)))


async def _publish(mesh: Arena, size: int) -> None:
    publisher = Publisher(mesh.redis, mesh.keys, mesh.settings, "bench")
    each = EVENTS_PER_SECOND // 10
    began = time.monotonic()
    for n, first in enumerate(range(0, size, each)):
        batch = [
            envelope.make("bench.noop", {"n": first + i, "text": "x" * 150}, source="bench")
            for i in range(each)
        ]
        await publisher.publish_events(batch)
        await asyncio.sleep(max(0.0, began + (n + 1) / 10 - time.monotonic()))


async def _identities(mesh: Arena) -> float:
    """Bytes of all identities, from a sample of their sets."""
    keys = [key async for key in mesh.redis.scan_iter(match=_pattern(mesh), count=10_000)]
    sample = keys[:: max(1, len(keys) // 100)]
    sizes = [await mesh.redis.memory_usage(key, samples=0) or 0 for key in sample]
    return sum(sizes) / max(1, len(sizes)) * len(keys)


def _pattern(mesh: Arena) -> str:
    name = mesh.keys.identity(1, 0)
    return name.replace("1:0", "*").replace("{", "\\{")
