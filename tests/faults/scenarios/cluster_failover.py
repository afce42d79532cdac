"""The owner of the mesh's slot in a Redis Cluster is killed, and hands over, under load: everybody follows."""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.cluster_arena import ClusterArena
from tests.faults.load import Forgotten
from tests.faults.report import Row
from tests.faults.stage import Stage, play

SERVICES = ("fault_async", "fault_sync")
WITHIN = 15.0  # seconds from the kill until everything has worked again
RATE = 25  # events a second
PAUSE = 12.0  # seconds for a failover, and some work after it


async def run(stage: Stage) -> Row:
    """A kill and a planned hand-over, in turn."""
    rounds = stage.pick(quick=1, normal=2)
    length = rounds * 2 * PAUSE + 4
    async with ClusterArena(stage.forks, stage.folder, stage.seed, **stage.env) as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_async", 2)
        await arena.add("fault_sync", 2, MESH_CONCURRENCY="2")
        await arena.add_api(2)
        await arena.ready()
        began: list[float] = []
        killed: list[Forgotten] = []

        async def trouble(published: asyncio.Event) -> None:
            await asyncio.sleep(3)
            for _ in range(rounds):
                owner, at = await arena.owner_down()
                began.append(at)
                killed.append(Forgotten(at, at))
                await asyncio.sleep(PAUSE * 2 / 3)
                await arena.owner_back(owner)
                await asyncio.sleep(PAUSE / 3)
                began.append(await arena.hand_over())
                await asyncio.sleep(PAUSE)

        # Replication does not wait: what a master had answered for in its last moment may die with it.
        played = await play(arena, round(RATE * length), length, trouble, patience=90, forgetful=killed)
        ended = [part.name for part in arena.parts if not part.running]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        accepted = [sent.accepted for sent in played.history.sent if sent.accepted]
        slowest = recovery.slowest_return(played.facts, began, accepted, SERVICES)
        name = "cluster: owner of the slot killed, or handing over"
        return played.row(name, len(began), slowest, within=WITHIN)
