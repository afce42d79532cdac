"""Every process told to stop and started again, one after the other, under load: nobody notices but the log."""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.arena import API_KEY
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower
from tests.faults.report import Row
from tests.faults.stage import Stage, play

NAME = "rolling restart of every process"
DRAIN = 3.0  # seconds; the longest task of the load takes a tenth of it


async def run(stage: Stage) -> Row:
    """Two of each, round by round."""
    rounds, events, length = stage.pick(quick=(1, 300, 10), normal=(3, 1_500, 45))
    async with stage.arena(MESH_DRAIN=f"{DRAIN}s", API_DRAIN=f"{DRAIN}s") as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_async", 2)
        await arena.add("fault_sync", 2, MESH_CONCURRENCY="2")
        await arena.add_api(2)
        await arena.ready()
        follower = Follower(arena.url, API_KEY, "fault.*")
        follower.start()
        codes: dict[str, set[int]] = {}
        stops = 0

        async def trouble(published: asyncio.Event) -> None:
            nonlocal stops
            for _ in range(rounds):
                for part in arena.parts:
                    codes.setdefault(part.name, set()).add(await part.stop())
                    await part.start()
                    stops += 1
                    await asyncio.sleep(arena.rng.uniform(0.1, length / rounds / len(arena.parts)))

        played = await play(arena, events, length, trouble, strict=True)
        seen = await follower.stop_after(last_position(played.facts), 20)
        check_pushed(played.findings, played.facts, [seen])
        wrong = {name: sorted(found - {0}) for name, found in codes.items() if found - {0}}
        if wrong:
            played.findings.lost.append(f"not every process ended cleanly: {wrong}")
        played.remarks.append(f"slowest push {seen.slowest:.2f} s")
        return played.row(NAME, stops, recovery.slowest_end(played.facts), within=DRAIN + 2)
