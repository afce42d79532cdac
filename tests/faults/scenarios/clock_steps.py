"""The wall clock of one worker steps by an hour, forth and back, while tasks run: no lease is stolen, nothing runs twice."""

from __future__ import annotations

import asyncio
import struct
import time

from streammesh.redisio.heartbeat import alive

from tests.faults import recovery
from tests.faults.arena import LEASE, ROLES
from tests.faults.mix import Kind, kind_of, seconds
from tests.faults.report import Row
from tests.faults.stage import Stage, play

NAME = "clock of one worker stepped by an hour"
HOUR = 3600.0
OVER_A_LEASE = (LEASE * 1.2, LEASE * 2.5)
MIXED = (
    Kind("fault.slow", {"fault_async.slow": "succeeded"}, 0.3, seconds(*OVER_A_LEASE)),
    Kind("fault.worked", {"fault_sync.work": "succeeded"}, 0.03, seconds(*OVER_A_LEASE)),
    *(kind_of(name, 0.15) for name in ("noted", "flaky", "followed")),
    Kind("fault.worked", {"fault_sync.work": "succeeded"}, 0.1, seconds(0.0, 0.05)),
    *(kind_of(name, 0.04) for name in ("rejected", "woven")),
    Kind("fault.noted", kind_of("noted", 0).tasks, 0.05, held=True),
)


async def run(stage: Stage) -> Row:
    """Of two workers of each kind, and of two dispatchers, one has the bad clock."""
    events, length = stage.pick(quick=(120, 8.0), normal=(900, 45.0))
    steps = 0
    hidden: set[str] = set()
    async with stage.arena() as arena:
        clock = arena.folder / "clock"
        clock.write_bytes(struct.pack("d", 0.0))
        for role in ("dispatcher", "fault_async", "fault_sync"):
            await arena.add(role, MESH_CONCURRENCY="0" if role == "fault_async" else "3")
            await arena.add(
                role, module="tests.faults.skew", argv=[ROLES[role]], FAULTS_CLOCK=str(clock),
                MESH_CONCURRENCY="0" if role == "fault_async" else "3",
            )  # fmt: skip
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            nonlocal steps
            until = time.monotonic() + length
            while time.monotonic() < until:
                step(arena.rng.choice((HOUR, -HOUR, 0.0)))
                steps += 1
                await asyncio.sleep(arena.rng.uniform(0.2, 1.5))
                for role in ROLES:
                    if len(await alive(arena.client, arena.keys, role)) < 2:
                        hidden.add(role)
            step(0.0)

        def step(offset: float) -> None:
            with clock.open("r+b") as file:
                file.write(struct.pack("d", offset))

        played = await play(arena, events, length, trouble, kinds=MIXED, strict=True)
        skewed = [part for part in arena.parts if part.module == "tests.faults.skew"]
        worked = {
            part.name: sum(run.session == part.pid for runs in arena.runs().values() for run in runs)
            for part in skewed if part.role != "dispatcher"
        }  # fmt: skip
        played.remarks.append(f"{steps} steps of the clock; runs of handlers under it: {worked}")
        ended = [part.name for part in arena.parts if not part.running]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        if hidden:
            played.findings.lost.append(f"processes of {sorted(hidden)} lived and did not count as alive")
        row = played.row(NAME, 0, recovery.slowest_end(played.facts))
        if not all(worked.values()):
            row.passed = False
            row.remarks.append("a worker with the bad clock was given nothing, so this shows nothing")
        return row
