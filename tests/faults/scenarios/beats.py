"""Two Beats that overlap and are killed, sometimes both at once: each tick happens once, and none is left out."""

from __future__ import annotations

import asyncio

from tests.faults.report import Row
from tests.faults.stage import Stage, play
from tests.faults.ticking import add_beats, check_ticks, contested, stop_beats, wait_for_first_ticks

NAME = "two Beats, overlapped and killed"


async def run(stage: Stage) -> Row:
    """Five schedules, a tick a second each, among other events; each tick is a task like those of any event."""
    kills, events, length = stage.pick(quick=(12, 150, 10.0), normal=(60, 600, 45.0))
    async with stage.arena() as arena:
        await arena.add("dispatcher")
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        beats = await add_beats(arena, 2)
        await arena.ready()
        await wait_for_first_ticks(arena)
        until = 0.0

        async def trouble(published: asyncio.Event) -> None:
            nonlocal until
            for _ in range(kills):
                await asyncio.sleep(arena.rng.uniform(0.0, 2 * length / kills))
                for victim in beats if arena.rng.random() < 0.2 else [arena.rng.choice(beats)]:
                    await victim.kill()
                    await victim.start()
            until = await stop_beats(arena, beats)

        played = await play(arena, events, length, trouble, strict=True)
        slowest = check_ticks(played.findings, arena, until)
        twice = contested(beats)
        played.remarks.append(f"for {twice:,} ticks both Beats came at the same moment, and one was refused")
        row = played.row(NAME, len(arena.kills), slowest)
        if not twice:
            row.passed = False
            row.remarks.append("they never met, so this shows nothing")
        return row
