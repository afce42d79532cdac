"""Workers are away until Redis is full: publishing is refused, nothing is lost, and the mesh drains by itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from streammesh.testing.conditions import wait_until

from tests.faults.arena import API_KEY, Arena
from tests.faults.checker import check
from tests.faults.load import Load
from tests.faults.mix import KINDS, Kind, wishes
from tests.faults.report import Row
from tests.faults.stage import Played, Stage

MEGABYTE = 1 << 20
MARK = 0.85
MOST = 1.05  # of maxmemory, at any moment
LOOK_SECONDS = 0.02
KEPT = "5s"  # so that what has ended leaves soon, as in a day it would in production
PADDING = "x" * 900


@dataclass(slots=True)
class Memory:
    """What was used of the limit, looked at all the time."""

    arena: Arena
    limit: int
    used: float = 0.0  # part of the limit, now
    peak: float = 0.0

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            info = await self.arena.client.info("memory")
            self.used = (info["used_memory"] - info["mem_not_counted_for_evict"]) / self.limit
            self.peak = max(self.peak, self.used)
            await asyncio.sleep(LOOK_SECONDS)


async def run(stage: Stage) -> Row:
    """Fill it, let the workers come back, and count."""
    limit = stage.pick(quick=16, normal=32) * MEGABYTE
    count = stage.pick(quick=3_000, normal=8_000)
    env: dict[str, Any] = {
        "MESH_RETENTION": KEPT,
        "MESH_RESULT_TTL": KEPT,
        "MESH_DEDUP_WINDOW": "5m",  # what became of an event is known until all of its tasks have ended
        "MESH_NOTIFICATIONS_KEPT": "1000",
        "DISPATCHER_TRIM_EVERY": "1s",
    }
    async with stage.arena(**env) as arena:
        await arena.add("dispatcher", 2)
        workers = [
            *await arena.add("fault_async", 2),
            *await arena.add("fault_sync", 1, MESH_CONCURRENCY="2"),
        ]
        await arena.add_api(2)
        await arena.ready()
        for worker in workers:
            await worker.kill()
        await arena.client.config_set("maxmemory", str(limit))
        memory = Memory(arena, limit)
        rng = random.Random(arena.rng.getrandbits(64))
        load = Load(arena.url, API_KEY, rng, wishes(rng, count, _padded()), 1.0, gives_up=False)
        watching = asyncio.create_task(memory.watch())
        publishing = asyncio.create_task(load.run())
        try:
            await _until_full(memory, publishing)
            filled = sum(1 for sent in load.history.sent if sent.accepted)
            for worker in workers:
                await worker.start()
            back = time.time()
            await publishing
            settled = await _quiet(arena, 120)
            took = time.time() - back
        finally:
            watching.cancel()
            publishing.cancel()
            await asyncio.gather(watching, publishing, return_exceptions=True)
        arena.look_for_dead()
        facts = await asyncio.to_thread(arena.facts)
        findings = check(load.history, facts, arena.runs(), strict=True)
        remarks = [
            f"{filled:,} of {count:,} events were accepted when it was full",
            f"at most {memory.peak:.1%} of maxmemory were used",
        ]
        if memory.peak > MOST:
            findings.lost.append(f"{memory.peak:.1%} of maxmemory were used where {MOST:.0%} are allowed")
        if filled == count:
            findings.lost.append("everything was accepted: it was never full, and this shows nothing")
        played = Played(load.history, facts, findings, settled, arena.unsettled, remarks)
        return played.row("Redis full (noeviction), workers away until then", len(workers), took)


def _padded() -> Sequence[Kind]:
    """The usual kinds but those that take long, each with a kilobyte of data."""

    def padded(kind: Kind) -> Kind:
        return replace(kind, data=lambda r: {**kind.data(r), "padding": PADDING})

    return [padded(kind) for kind in KINDS if not kind.held and not kind.workflow]


async def _until_full(memory: Memory, publishing: asyncio.Task[Any]) -> None:
    """Until publishing is refused; the margin is for what the mark was asked about a moment ago."""

    async def full() -> bool:
        return memory.used > MARK - 0.01 or publishing.done()

    await wait_until("Redis is full up to the mark", full, seconds=60, every=0.05)
    await asyncio.sleep(2)  # publishers go on trying


async def _quiet(arena: Arena, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await arena.is_quiet():
            return True
        await asyncio.sleep(0.2)
    return False
