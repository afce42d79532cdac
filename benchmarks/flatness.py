"""What Redis holds while the same number of events comes every second for minutes, and the archiver takes what has ended."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from streammesh.events import envelope
from streammesh.events.publisher import Publisher

from benchmarks.arena import Arena, arena
from benchmarks.measuring import Results
from benchmarks.throughput import DISPATCHER
from benchmarks.workers import async_worker

EVENTS_PER_SECOND = 500
HOT_SECONDS = 60.0
LOOK_EVERY = 5.0
# Identities are kept for a day and would grow for a day: here they are as hot as the rest.
ENV = {
    "MESH_HISTORY": "true",
    "MESH_HOT": f"{HOT_SECONDS:g}s",
    "MESH_NOTIFICATIONS_AGE": "1m",
    "MESH_DEDUP_WINDOW": "1m",
}


async def flat(results: Results, size: int) -> None:
    """`memory.flat`: `size` events at 500 a second with one task each, history in SQLite, `MESH_HOT=1m`.

    `memory.flat.ratio` is the mean of the last quarter divided by that of the second.
    """
    seconds = size / EVENTS_PER_SECOND
    async with arena() as mesh:
        mesh.settings = mesh.settings.model_copy(
            update={"history": True, "dedup_window": timedelta(minutes=1)}
        )
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
            held.append(told["used_memory_dataset"] / 2**20)
        await publishing
        took = time.monotonic() - began
    quarter = max(1, len(held) // 4)
    before, after = held[quarter : 2 * quarter] or held, held[-quarter:]
    results.add("memory.flat.rate", "events/s", size / took)
    results.add("memory.flat.most", "MB", max(held))
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
