"""Workers killed in the middle of tasks: whole workers, parents whose children live on, single children of a pool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from streammesh.tasks.verdict import MAX_LOST

from tests.faults import recovery
from tests.faults.arena import LEASE, Arena
from tests.faults.mix import Kind, kind_of, seconds
from tests.faults.processes import Killed, Part
from tests.faults.records import POOL, Run
from tests.faults.report import Row
from tests.faults.stage import Stage, play

NAME = "workers and pool children killed in mid-task"
THREADS_NAME = "workers whose handlers run in threads, their parents and processes, killed in mid-task"
LEASE_NAME = "workers killed, with the lease of production"
PRODUCTION_LEASE = 15.0
GRACE = 2.0  # seconds after a lease within which a dead worker's task runs again
# Long enough that most kills find a task half done. One that met five of them would be parked by rule, as what
# kills its workers; so whoever runs one that met four is spared.
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
THREADS: dict[str, Any] = {POOL: "threads"}
WITH = "with "  # begins the name of who was killed together with its parent
LOOKS, LOOK = 40, 0.025  # for somebody in the middle of a task, before an idle one is killed instead


async def run(stage: Stage) -> Row:
    """Two async and two prefork workers, of which one is just being killed."""
    size = stage.pick(short=(10, 80, 6), quick=(16, 160, 10), normal=(90, 900, 56))
    return await _under_kills(stage, NAME, LEASE, *size)


async def in_threads(stage: Stage) -> Row:
    """The same where `def` handlers run in threads: of two workers, and of two more under one parent."""
    size = stage.pick(short=(10, 80, 6), quick=(16, 160, 10), normal=(60, 600, 40))
    return await _under_kills(stage, THREADS_NAME, LEASE, *size, in_threads=True)


async def with_the_lease_of_production(stage: Stage) -> Row:
    """Few kills, since what a killed worker had waits for so long each time."""
    size = stage.pick(quick=(3, 60, 4), normal=(10, 300, 30))
    return await _under_kills(stage, LEASE_NAME, PRODUCTION_LEASE, *size)


async def _under_kills(
    stage: Stage, name: str, lease: float, kills: int, events: int, length: float, *, in_threads: bool = False
) -> Row:
    async with stage.arena(MESH_LEASE=f"{lease}s") as arena:
        await arena.add("dispatcher")
        workers = [
            *await arena.add("fault_async", 2),
            *await arena.add("fault_sync", 2, MESH_CONCURRENCY="3", **(THREADS if in_threads else {})),
        ]
        groups = await arena.add("fault_sync", **THREADS, MESH_PROCESSES="2") if in_threads else []
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            for _ in range(kills):
                await asyncio.sleep(arena.rng.uniform(0.0, 1.5 * length / kills))  # and some looking
                await _kill_one(arena, workers, groups)

        played = await play(arena, events, length, trouble, kinds=LONGER, patience=90)
        hits, handlers = recovery.interrupted(arena.runs(), arena.kills)
        killed = [kill for kill in arena.kills if not kill.name.startswith(WITH)]
        children = sum(kill.alone for kill in arena.children_killed)
        whole = sum(not kill.alone for kill in killed)
        played.remarks.append(
            f"{whole} whole workers, {len(killed) - whole - children} parents alone, {children} pool children;"
            f" {hits} of them in the middle of {handlers} handlers"
        )
        slowest = recovery.slowest_takeover(arena.runs(), played.facts, arena.kills)
        return played.row(name, len(killed), slowest, within=lease + GRACE)


async def _kill_one(arena: Arena, workers: list[Part], groups: list[Part]) -> None:
    """Kill in one of four ways, each as often, and start again; a child's parent does that by itself.

    The children of `groups` are workers themselves, known to Redis by their own process ids.
    """
    way = arena.rng.choice(WAYS)
    if way in ("parent", "child") and groups:
        fitting = list(groups)
    else:
        role = "fault_async" if way == "async" else "fault_sync"
        fitting = [worker for worker in (*workers, *groups) if worker.role == role]
    arena.rng.shuffle(fitting)
    for _ in range(LOOKS):
        begun = {w: at_work(arena, w) for w in fitting}
        may_die = [w for w in fitting if all(run.attempt < MAX_LOST for run in begun[w])]
        busy = [w for w in may_die if begun[w]]
        if busy:
            break
        await asyncio.sleep(LOOK)
    if not may_die:
        return
    worker = (busy or may_die)[0]
    pool = pool_children(arena, worker)
    if way == "child" and pool:
        child = arena.rng.choice(sorted({run.pid for run in begun[worker]}) or pool)
        os.kill(child, signal.SIGKILL)
        arena.children_killed.append(Killed(f"a child of {worker.name}", child, time.time(), alone=True))
        return
    killed = await worker.kill(alone=way == "parent" and bool(pool))
    if worker in groups and not killed.alone:
        arena.children_killed += [Killed(f"{WITH}{worker.name}", pid, killed.at, alone=False) for pid in pool]
    await worker.start()


def at_work(arena: Arena, worker: Part) -> list[Run]:
    """The handlers that its processes are in the middle of."""
    alive = {worker.pid, *pool_children(arena, worker)}
    return [run for runs in arena.runs().values() for run in runs if run.broke_off and run.pid in alive]


def pool_children(arena: Arena, worker: Part) -> list[int]:
    """The processes of its pool, but for those that were killed and are not gone yet."""
    dying = {kill.pid for kill in arena.children_killed}
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        pid = int(stat.parent.name)
        if int(parent) == worker.pid and state not in "ZX" and pid not in dying:
            found.append(pid)
    return found
