"""Dispatchers killed at random points, several a second: each event is handed over, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tests.faults import recovery
from tests.faults.report import Row
from tests.faults.stage import Played, Stage, kill_in_turn, play

NAME = "dispatchers killed at random points"
DISPATCHERS = 3
# They take from each other what is not handed over at once, so that many entries are in two hands.
GREEDY = {
    "DISPATCHER_RECLAIM_IDLE": "5ms",
    "DISPATCHER_RECLAIM_EVERY": "10ms",
    "DISPATCHER_BATCH": "20",
}


async def run(stage: Stage) -> Row:
    """Three dispatchers, one of which is just being killed."""
    kills, events, seconds = stage.pick(short=(25, 200, 4), quick=(40, 400, 8), normal=(300, 1_500, 45))
    played, done = await under_kills(stage, "services.dispatcher", kills, events, seconds)
    return played.row(NAME, done, recovery.slowest_hand_off(played.facts))


async def under_kills(
    stage: Stage,
    module: str,
    kills: int,
    events: int,
    seconds: float,
    *,
    patience: float = 60,
    env: Mapping[str, str] = GREEDY,
) -> tuple[Played, int]:
    """A mixed load over dispatchers that `module` is, killed at random; answers how it went and how many kills."""
    async with stage.arena() as arena:
        dispatchers = await arena.add("dispatcher", DISPATCHERS, module=module, **env)
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            await kill_in_turn(arena, dispatchers, kills, seconds, published)

        played = await play(arena, events, seconds, trouble, strict=True, patience=patience)
        twice = sum(
            len({taken.consumer for taken in given}) > 1 for given in played.facts.dispatched.values()
        )
        played.remarks.append(f"{twice:,} stream entries had been in the hands of more than one dispatcher")
        return played, len(arena.kills)
