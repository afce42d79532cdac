"""What limits by key come to, and what waits costs: whose turn it is, how exact a rate is, bytes of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.tasks.records import Rows

from benchmarks.arena import Arena, arena, until
from benchmarks.measuring import Results, percentile
from benchmarks.throughput import DISPATCHER, ended, handed_over
from benchmarks.workers import flow_worker

WORKER = "benchmarks.workers.flow_worker"
SAMPLES = 200
REPLICAS = 3
WARM_UP, SHORTEST, LONGEST = 3.0, 5.0, 60.0  # seconds of a throttled handler
PATIENCE = 900.0
IDLE_PART = 100  # of the keys that wait, so many times fewer are worked off


async def fair(results: Results, size: int) -> None:
    """`flow.fair.p99`: one key floods `size` events; until an event of another key starts, in durations of a task."""
    async with arena() as mesh:
        await mesh.register(flow_worker.service)
        await mesh.start(DISPATCHER)
        await mesh.start(WORKER, role="bench_flow")
        await mesh.publish("share.work", size, small=True, keys=1)
        line = mesh.keys.flow_line("bench_flow.share")

        async def in_line() -> bool:
            return await handed_over(mesh) >= size

        await until(in_line, PATIENCE)
        publisher, rows = (
            Publisher(mesh.redis, mesh.keys, mesh.settings, "bench"),
            Rows(mesh.redis, mesh.keys),
        )
        waited = []
        for number in range(SAMPLES):
            event = envelope.make("share.work", {"key": "b"}, source="bench", id=f"b{number}")
            await publisher.publish_events([event])
            waited.append(await _until_started(rows, event.id))
            if not await mesh.redis.zcard(line):
                break  # a small run, whose flood has gone
        results.add("flow.fair.p50", "durations", percentile(waited, 0.5) / flow_worker.SECONDS)
        results.add("flow.fair.p99", "durations", percentile(waited, 0.99) / flow_worker.SECONDS)


async def _until_started(rows: Rows, event_id: str) -> float:
    """Seconds from an event's place in its stream to its task's start, by the server's clock."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for row in await rows.events(event_id):
            for task in await rows.tasks(row.task_ids):
                if started := task.times_ms.get("started"):
                    return max(0, started - int(row.entry.partition("-")[0])) / 1000
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{event_id} did not start")


async def throttle(results: Results, size: int) -> None:
    """`flow.throttle.error`: percent by which the starts of a minute are off their rate, over three replicas."""
    seconds = min(LONGEST, max(SHORTEST, size / flow_worker.RATE))
    events = round((seconds + 2 * WARM_UP + 2) * flow_worker.RATE)
    async with arena() as mesh:
        await mesh.register(flow_worker.service)
        await mesh.start(DISPATCHER, count=2)
        await mesh.start(WORKER, role="bench_flow", count=REPLICAS)
        await mesh.publish("slow.work", events, small=True)

        async def done() -> bool:
            return await ended(mesh) >= (seconds + 1.5 * WARM_UP) * flow_worker.RATE

        await until(done, seconds + 60)
        started = sorted(
            int(fields[b"r"])
            for _, fields in await mesh.redis.xrange(mesh.keys.tasks_recent())
            if fields[b"r"]
        )
    begin = started[0] + WARM_UP * 1000
    counted = sum(begin <= at < begin + seconds * 1000 for at in started)
    off = 100 * (counted / (seconds * flow_worker.RATE) - 1)
    results.add("flow.throttle.rate", "starts/s", counted / seconds)
    results.add("flow.throttle.error", "%", abs(off))


async def keys(results: Results, size: int) -> None:
    """`flow.keys.waiting`: bytes of Redis for each of `size` keys of which one task waits, beside the task's own.

    `flow.keys.idle`: bytes for each key whose tasks have ended.
    """
    async with arena() as mesh:
        mesh.env |= {"MESH_MAX_HELD": str(10 * size)}
        await mesh.register(flow_worker.service)
        await mesh.redis.hset(mesh.keys.paused(), "bench_flow.line", "{}")  # nothing of it starts
        await mesh.publish("line.work", size, small=True, keys=size)
        await mesh.start(DISPATCHER)

        async def in_line() -> bool:
            return int(await mesh.redis.zcard(mesh.keys.flow_line("bench_flow.line"))) >= size

        await until(in_line, PATIENCE, pause=0.5)
        each = await _bytes(mesh, mesh.keys.of_a_flow("bench_flow.line")) / size
        results.add("flow.keys.waiting", "bytes", each)
    async with arena() as mesh:
        await mesh.register(flow_worker.service)
        few = max(1, size // IDLE_PART)
        await mesh.start(DISPATCHER)
        await mesh.start(WORKER, role="bench_flow")

        async def worked_off(events: int) -> float:
            await mesh.publish("line.work", events, small=True, keys=events)
            wanted = await ended(mesh) + events

            async def all_ended() -> bool:
                return await ended(mesh) >= wanted

            await until(all_ended, PATIENCE)
            return await _bytes(mesh, mesh.keys.of_a_flow("bench_flow.line"))

        before = await worked_off(1)
        results.add("flow.keys.idle", "bytes", max(0.0, (await worked_off(few) - before) / few))


async def sleeping(results: Results, size: int) -> None:
    """`sleeping.bytes`: bytes of Redis for each of `size` runs that sleep; `sleeping.held`: entries that a worker holds then.

    Of each run its row, its place and its entry in the due set, its place among the open tasks; `.event` adds its event.
    """
    async with arena() as mesh:
        await mesh.register(flow_worker.service)
        await mesh.publish("sleepy.work", size, small=True)
        await mesh.start(DISPATCHER)
        await mesh.start(WORKER, role="bench_flow", count=2)
        keys = mesh.keys

        async def asleep() -> bool:
            return int(await mesh.redis.zcard(keys.due())) >= size

        began = time.monotonic()
        await until(asleep, PATIENCE, pause=0.1)
        results.add("sleeping.rate", "runs/s", size / (time.monotonic() - began))
        shared = await _bytes(mesh, [keys.due(), keys.due_entries(), keys.open_tasks("bench_flow")])
        rows = await _some(mesh, keys.task(""))
        each = shared / size + await _bytes(mesh, rows) / len(rows)
        events = await _some(mesh, keys.event(""))
        its_event = await _bytes(mesh, events) / len(events)
        its_event += await _bytes(mesh, [keys.events("sleepy")]) / size
        results.add("sleeping.bytes", "bytes", each)
        results.add("sleeping.bytes.event", "bytes", each + its_event)
        pending = await mesh.redis.xpending(keys.queue("bench_flow"), "workers")
        results.add("sleeping.held", "entries", float(pending["pending"]))
        before, began = await ended(mesh), time.monotonic()
        await mesh.publish("short.work", 1, small=True)

        async def short_ended() -> bool:
            return await ended(mesh) > before

        await until(short_ended, pause=0.001)
        results.add("sleeping.beside", "ms", 1000 * (time.monotonic() - began))


async def _some(mesh: Arena, prefix: str, most: int = 2_000) -> list[bytes]:
    found: list[bytes] = []
    async for key in mesh.redis.scan_iter(match=f"{prefix}*", count=1_000):
        found.append(key)
        if len(found) >= most:
            break
    return found


async def _bytes(mesh: Arena, keys: Sequence[str | bytes]) -> float:
    """What Redis says that these take, each wholly looked at."""
    used = [await mesh.redis.memory_usage(key, samples=0) or 0 for key in keys]
    return float(sum(used))
