"""The front door under a mixed load while the only dispatcher is killed five times: the plainest promise."""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn, play

NAME = "one dispatcher, killed five times"
KILLS = 5


async def run(stage: Stage) -> Row:
    """Everything as in production but for the lease."""
    events, seconds = stage.pick(quick=(500, 8), normal=(2_000, 25))
    async with stage.arena() as arena:
        dispatchers = await arena.add("dispatcher")
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            await kill_in_turn(arena, dispatchers, KILLS, seconds * 0.9, published)

        played = await play(arena, events, seconds, trouble, strict=True)
        return played.row(NAME, len(arena.kills), recovery.slowest_hand_off(played.facts))
