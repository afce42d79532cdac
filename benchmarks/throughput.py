"""What one dispatcher hands over, and what workers drain from a queue that is full already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from streammesh import Service

from benchmarks.arena import Arena, arena, cost_until, rate_until
from benchmarks.machine import resident_mb
from benchmarks.measuring import Results
from benchmarks.workers import async_worker, prefork_worker, sync_worker

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
        [dispatcher] = await mesh.start(DISPATCHER)
        pids = {"dispatcher": [dispatcher.pid], "server": [mesh.server.pid]}
        cost = await cost_until(lambda: handed_over(mesh), size, pids)
        cost.add_to(results, "handoff.1p", "event")


@dataclass(frozen=True)
class Drain:
    """Fill a queue, then let workers empty it: claim, handler, outcome, notification, all on."""

    name: str
    service: Service
    event_type: str
    processes: int  # each a worker of its own
    children: int | None = None  # of one prefork worker
    together: bool = False  # under one parent, as `MESH_PROCESSES` has them
    keys: int = 0  # of its events, for a handler with limits
    steps: int = 0  # of each task; where it has any, these are counted
    settings: Mapping[str, str] = field(default_factory=dict)  # of its workers

    async def __call__(self, results: Results, size: int) -> None:
        async with arena() as mesh:
            await mesh.register(self.service)
            per_task = max(1, self.steps)
            tasks = max(1, size // per_task)
            await mesh.publish(self.event_type, tasks, keys=self.keys)
            [dispatcher] = await mesh.start(DISPATCHER)
            await rate_until(lambda: handed_over(mesh), tasks)
            dispatcher.kill()

            async def done() -> int:
                return await ended(mesh) * per_task

            env = dict(self.settings) | ({"MESH_CONCURRENCY": str(self.children)} if self.children else {})
            count = self.processes
            if self.together:
                env["MESH_PROCESSES"], count = str(count), 1
            module = f"benchmarks.workers.{self.service.name.removeprefix('bench_')}_worker"
            workers = await mesh.start(module, count=count, **env)
            pids = {"worker": [worker.pid for worker in workers], "server": [mesh.server.pid]}
            cost = await cost_until(done, tasks * per_task, pids)
            cost.add_to(results, self.name, "step" if self.steps else "task")
            if self.name.endswith("1p"):
                results.add(f"memory.rss.{self.name}", "MB", resident_mb(workers[0].pid))


DRAINS: dict[str, Callable[[Results, int], Awaitable[None]]] = {
    drain.name: drain
    for drain in (
        Drain("drain.noop.async.1p", async_worker.service, "bench.noop", 1),
        Drain("drain.noop.async.2p", async_worker.service, "bench.noop", 2),
        Drain("drain.flow.async.2p", async_worker.service, "bench.flow", 2, keys=async_worker.KEYS),
        Drain("steps.2p", async_worker.service, "bench.steps", 2, steps=async_worker.STEPS),
        Drain("drain.io10ms.1p", async_worker.service, "wait.io", 1),
        Drain("drain.noop.sync.1p", sync_worker.service, "plain.noop", 1),
        Drain("drain.noop.sync.2p", sync_worker.service, "plain.noop", 2, together=True),
        Drain("drain.noop.prefork.1p", prefork_worker.service, "forked.noop", 1, children=1),
        Drain("drain.noop.prefork.2p", prefork_worker.service, "forked.noop", 1, children=2),
    )
}
