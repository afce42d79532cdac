"""Two Beats that overlap and are killed, sometimes both at once: each tick happens once, and none is left out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

from streammesh.keys import Keys
from streammesh.testing.waiting import wait_until

from tests.faults.report import Row
from tests.faults.stage import Stage
from tests.faults.witness import stored_in

NAME = "two Beats, overlapped and killed"
SCHEDULES = 5
DOMAIN = "tick"
ENTRY = '[schedules.second-{n}]\nevery = "1s"\nmisfire = "all"\nevent.type = "tick.due"\n'


async def run(stage: Stage) -> Row:
    """Five schedules, a tick a second each."""
    kills, length = stage.pick(quick=(12, 10.0), normal=(60, 45.0))
    async with stage.arena() as arena:
        file = arena.folder / "schedules.toml"
        file.write_text("\n".join(ENTRY.format(n=n) for n in range(SCHEDULES)))
        beats = await arena.add(
            "beat", 2, module="services.scheduler", argv=["--beat-only"], SCHEDULER_SCHEDULES_FILE=str(file)
        )
        await arena.ready()
        stream = arena.keys.events(DOMAIN)

        async def ticking() -> bool:
            return bool(await arena.client.xlen(stream) >= SCHEDULES)

        await wait_until("ticks come", ticking)
        for _ in range(kills):
            await asyncio.sleep(arena.rng.uniform(0.0, 2 * length / kills))
            for victim in beats if arena.rng.random() < 0.2 else [arena.rng.choice(beats)]:
                await victim.kill()
                await victim.start()
        quiet = time.time()

        async def caught_up() -> bool:
            newest = await arena.client.xrevrange(stream, count=1)
            return int(newest[0][0].partition(b"-")[0]) > (quiet + 3) * 1000

        await wait_until("ticks come after the last kill", caught_up)
        done = len(arena.kills)
        for beat in beats:
            await beat.stop()
        return _check(arena.server.folder, arena.keys, done, quiet)


def _check(folder: Path, keys: Keys, kills: int, until: float) -> Row:
    times: dict[str, list[int]] = defaultdict(list)
    latest, events = 0.0, 0
    for at, event in stored_in(folder, keys, DOMAIN):
        due = datetime.fromisoformat(event["data"]["due_at"].replace("Z", "+00:00")).timestamp()
        times[event["data"]["schedule"]].append(round(due))
        latest, events = max(latest, at / 1000 - due), events + 1
    lost, doubled = [], []
    for n in range(SCHEDULES):
        due = times.get(f"second-{n}", [])
        counted = Counter(due)
        doubled += [f"second-{n} ticked {c} times for {at}" for at, c in counted.items() if c > 1]
        expected = range(min(due), round(until)) if due else range(1)
        lost += [f"second-{n} did not tick for {at}" for at in expected if at not in counted]
    return Row(
        NAME, kills, events, len(lost), len(doubled), round(latest, 3), not lost and not doubled,
        findings=[*lost, *doubled],
    )  # fmt: skip
