"""Dispatchers killed at random points, one every tenth of a second: each event is handed over, and once."""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn, play

NAME = "dispatchers killed at random points"
DISPATCHERS = 3
SEEDS = 4  # of the long form


async def run(stage: Stage) -> Row:
    """Three dispatchers that take over from each other quickly, so that many entries are in two hands."""
    kills, events, seconds = stage.pick(
        quick=(40, 400, 8), normal=(300, 1_500, 45), long=(1_100, 6_000, 160)
    )
    env = {"DISPATCHER_RECLAIM_IDLE": "500ms", "DISPATCHER_RECLAIM_EVERY": "200ms", "DISPATCHER_BATCH": "20"}
    async with stage.arena() as arena:
        dispatchers = await arena.add("dispatcher", DISPATCHERS, **env)
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            await kill_in_turn(arena, dispatchers, kills, seconds, published)

        played = await play(arena, events, seconds, trouble, strict=True)
        return played.row(NAME, len(arena.kills), recovery.slowest_hand_off(played.facts))
