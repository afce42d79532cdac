"""Hand-off and drain: how many events a second leave the stream, how many tasks a second end."""

from __future__ import annotations

from benchmarks.arena import Arena, arena, rate_until
from benchmarks.measuring import Results
from benchmarks.workers import async_worker, sync_worker

DISPATCHER = "services.dispatcher"


async def handed_over(mesh: Arena) -> int:
    """Tasks that were handed over so far."""
    return int(await mesh.redis.hget(mesh.keys.counters(), "handed_over") or 0)


async def ended(mesh: Arena) -> int:
    """Tasks that have ended so far."""
    return int(await mesh.redis.xlen(mesh.keys.tasks_recent()))


async def handoff(results: Results, size: int) -> None:
    """`handoff.1p`: one dispatcher process, one subscribing service."""
    async with arena() as mesh:
        await mesh.register(async_worker.service)
        await mesh.publish("bench.noop", size)
        await mesh.start(DISPATCHER)
        results.add("handoff.1p", "events/s", await rate_until(lambda: handed_over(mesh), size))


async def drain(
    results: Results, name: str, size: int, *, module: str, event_type: str, processes: int, **env: str
) -> None:
    """Fill a queue, then let workers empty it: claim, handler, outcome, notification, all on."""
    worker = sync_worker if module.endswith("sync_worker") and "async" not in module else async_worker
    async with arena() as mesh:
        await mesh.register(worker.service)
        await mesh.publish(event_type, size)
        [dispatcher] = await mesh.start(DISPATCHER)
        await rate_until(lambda: handed_over(mesh), size)
        dispatcher.kill()
        await mesh.start(module, count=processes, **env)
        results.add(name, "tasks/s", await rate_until(lambda: ended(mesh), size))


async def drains(results: Results, size: int) -> None:
    """Every drain of the table."""
    asynchronous, synchronous = "benchmarks.workers.async_worker", "benchmarks.workers.sync_worker"
    await drain(
        results, "drain.noop.async.1p", size, module=asynchronous, event_type="bench.noop", processes=1
    )
    await drain(
        results, "drain.noop.async.2p", size, module=asynchronous, event_type="bench.noop", processes=2
    )
    await drain(results, "drain.io10ms.1p", size, module=asynchronous, event_type="wait.io", processes=1)
    await drain(
        results, "drain.noop.sync.2p", size // 2, module=synchronous, event_type="plain.noop", processes=1,
        MESH_CONCURRENCY="2",
    )  # fmt: skip
