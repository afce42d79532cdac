"""Beats for scenarios: schedules that tick every second, and a look at whether each second ticked once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from streammesh.testing.conditions import wait_until

from tests.faults.arena import Arena
from tests.faults.checker import Findings
from tests.faults.mix import TICK
from tests.faults.processes import Part

SCHEDULES = 5
DOMAIN = TICK.type.partition(".")[0]
ENTRY = f'[schedules.second-{{n}}]\nevery = "1s"\nmisfire = "all"\nevent.type = "{TICK.type}"\n'
AFTERWARDS = 3  # seconds that have to tick after all is in order again


async def add_beats(arena: Arena, count: int, **env: str) -> list[Part]:
    """Start Beats, all with the same schedules; does not wait for them."""
    file = arena.folder / "schedules.toml"
    file.write_text("\n".join(ENTRY.format(n=n) for n in range(SCHEDULES)))
    return await arena.add(
        "beat", count, module="services.scheduler", argv=["--beat-only"],
        SCHEDULER_SCHEDULES_FILE=str(file), MESH_LOG_LEVEL="debug", **env,
    )  # fmt: skip


def contested(beats: list[Part]) -> int:
    """How often a Beat came to a tick that another one was publishing at the same moment."""
    return sum(beat.log.read_text("utf-8", "replace").count("schedule.moved") for beat in beats)


async def wait_for_first_ticks(arena: Arena) -> None:
    """Until Beats tick."""

    async def ticking() -> bool:
        return len(_ticks(arena)) == SCHEDULES

    await wait_until("every schedule ticks", ticking, every=0.5)


async def stop_beats(arena: Arena, beats: list[Part]) -> float:
    """Stop them once they have ticked for the time since now, too; answers until when every second has to be there."""
    quiet = time.time()

    async def caught_up() -> bool:
        found = _ticks(arena)
        return len(found) == SCHEDULES and all(max(due) > quiet + AFTERWARDS for due in found.values())

    await wait_until("ticks come after the trouble", caught_up, seconds=30, every=0.5)
    for beat in beats:
        await beat.stop()
    return quiet + AFTERWARDS


def check_ticks(found: Findings, arena: Arena, until: float) -> float:
    """Every schedule ticked once for each second from its first tick on; answers the latest tick's delay in seconds."""
    latest = 0.0
    for at, event in arena.stored(DOMAIN):
        if event.get("type") == TICK.type:
            latest = max(latest, at / 1000 - _due(event))
    times = _ticks(arena)
    for n in range(SCHEDULES):
        name = f"second-{n}"
        counted = Counter(times.get(name, []))
        found.doubled += [
            f"{name} ticked {count} times for {at}" for at, count in counted.items() if count > 1
        ]
        seconds = range(min(counted), round(until)) if counted else range(1)
        found.lost += [f"{name} did not tick for {at}" for at in seconds if at not in counted]
    return latest


def _due(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["data"]["due_at"].replace("Z", "+00:00")).timestamp()


def _ticks(arena: Arena) -> dict[str, list[int]]:
    """By schedule, the seconds for which it ticked."""
    times: dict[str, list[int]] = defaultdict(list)
    for _, event in arena.stored(DOMAIN):
        if event.get("type") == TICK.type:
            times[event["data"]["schedule"]].append(round(_due(event)))
    return times
