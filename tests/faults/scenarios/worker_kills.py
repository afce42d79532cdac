"""Workers killed in the middle of tasks: whole workers, parents whose children live on, single children of a pool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.faults import recovery
from tests.faults.arena import LEASE, Arena
from tests.faults.mix import Kind, kind_of, seconds
from tests.faults.processes import Killed, Part
from tests.faults.report import Row
from tests.faults.stage import Stage, play

NAME = "workers and pool children killed in mid-task"
# Long enough that most kills find a task half done, and not so long that one task meets five of them: that one
# is parked by rule, as what kills its workers.
LONGER = (
    Kind("fault.slow", {"fault_async.slow": "succeeded"}, 0.35, seconds(0.1, 1.0)),
    Kind("fault.worked", {"fault_sync.work": "succeeded"}, 0.30, seconds(0.05, 0.5)),
    *(kind_of(name, share) for name, share in (("noted", 0.1), ("flaky", 0.06), ("followed", 0.1))),
    *(kind_of(name, share) for name, share in (("rejected", 0.02), ("woven", 0.07))),
)
WAYS = (
    "async",
    "sync",
    "parent",
    "child",
)  # a whole worker of either kind, a parent alone, one of its children


async def run(stage: Stage) -> Row:
    """Two async and two prefork workers, of which one is just being killed."""
    kills, events, length = stage.pick(short=(10, 80, 6), quick=(16, 160, 10), normal=(80, 800, 50))
    async with stage.arena() as arena:
        await arena.add("dispatcher")
        workers = [
            *await arena.add("fault_async", 2),
            *await arena.add("fault_sync", 2, MESH_CONCURRENCY="3"),
        ]
        await arena.add_api(1)
        await arena.ready()
        children: list[Killed] = []

        async def trouble(published: asyncio.Event) -> None:
            for _ in range(kills):
                await asyncio.sleep(arena.rng.uniform(0.0, 2 * length / kills))
                child = await _kill_one(arena, workers)
                children.extend(child)

        played = await play(arena, events, length, trouble, kinds=LONGER, patience=90)
        done = [*arena.kills, *children]
        hit = recovery.interrupted(arena.runs(), done)
        whole = sum(not kill.alone for kill in arena.kills)
        played.remarks.append(
            f"{whole} whole workers, {len(arena.kills) - whole} parents alone, {len(children)} pool children;"
            f" {hit} handlers were killed in the middle"
        )
        slowest = recovery.slowest_takeover(arena.runs(), played.facts, done)
        return played.row(NAME, len(done), slowest, within=LEASE + 2)


async def _kill_one(arena: Arena, workers: list[Part]) -> list[Killed]:
    """Kill in one of four ways, each as often, and start again; answers the kill of a child, which needs no start."""
    way = arena.rng.choice(WAYS)
    worker = arena.rng.choice(
        [w for w in workers if w.role == ("fault_async" if way == "async" else "fault_sync")]
    )
    pool = pool_children(worker)
    if way == "child" and pool:
        child = arena.rng.choice(pool)
        os.kill(child, signal.SIGKILL)
        return [Killed(f"a child of {worker.name}", child, time.time(), alone=True)]
    await worker.kill(alone=way == "parent" and bool(pool))
    await worker.start()
    return []


def pool_children(worker: Part) -> list[int]:
    """The processes of its pool."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == worker.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
