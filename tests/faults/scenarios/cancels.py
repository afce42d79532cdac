"""Events that cancel open tasks, while workers and dispatchers are killed: the times in the stream decide, for each task once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from streammesh.events.envelope import build
from streammesh.tasks.records import TaskRow

from tests.faults.arena import Arena
from tests.faults.report import Row
from tests.faults.scenarios.durable import ended
from tests.faults.stage import Stage, kill_in_turn

NAME = "open tasks cancelled by events, while workers and dispatchers are killed"
TASK = "fault_cancel.build"
SOURCE = "faults"
KEYS = 50
ROUND_TRIP_MS = 250  # between shards, on a busy machine: within that an event may count as the later one
LATE = 6.0  # seconds after the event that cancels it was handed over in which a task may still begin: a dispatcher died


class Position(NamedTuple):
    """Where an event lies in the stream of its shard."""

    ms: int
    number: int
    shard: int

    def is_after(self, other: Position, by_ms: int = 0) -> bool:
        """Whether it was published later: in another shard, by so many milliseconds at least."""
        if self.shard == other.shard:
            return self > other
        return self.ms > other.ms + by_ms


async def run(stage: Stage) -> Row:
    """Three workers and two dispatchers, of which one is just being killed; every tenth event cancels what has its key."""
    kills, events, seconds = stage.pick(short=(6, 200, 6), quick=(20, 1_000, 14), normal=(120, 8_000, 90))
    async with stage.arena() as arena, arena.publisher(SOURCE) as publisher:
        await arena.add("dispatcher", 2)
        await arena.add("fault_cancel", 3, module="tests.faults.workers.cancel_worker")
        await arena.ready()
        published = asyncio.Event()
        keys: dict[str, int] = {}  # event -> its key

        async def one(number: int) -> None:
            await asyncio.sleep(seconds * number / events)
            kind = "scrapped" if number % 10 == 9 else "build"
            key = arena.rng.randrange(KEYS)
            event = build(SOURCE, f"fault.{kind}", {"key": key, "number": number}, id=f"{kind}-{number}")
            await publisher.publish_events([event])
            keys[event.id] = key

        async def load() -> None:
            await asyncio.gather(*map(one, range(events)))
            published.set()

        await asyncio.gather(load(), kill_in_turn(arena, arena.parts, kills, seconds, published))
        began = time.monotonic()
        tasks = await ended(arena, dict.fromkeys(keys, "fault"))
        slowest = time.monotonic() - began
        places = await _places(arena, list(keys))
        lost, wrong, latest = _findings(keys, tasks, places, arena.record)
        lost += [
            f"{number} left in {key}"
            for place in arena.places
            for key in (place.keys.cancellable(TASK), place.keys.cancelling())
            if (number := await place.client.zcard(key))
        ]
        cancelled = sum(task.state == "cancelled" for task in tasks.values())
        remarks = [
            f"{cancelled} of {len(keys)} tasks were cancelled; of those that succeeded all the same, the last began {latest:.2f} s after the event was handed over"
        ]
        return Row(
            NAME, len(arena.kills), events, len(lost), len(wrong), round(slowest, 3), not lost and not wrong,
            remarks, [*lost, *wrong],
        )  # fmt: skip


async def _places(arena: Arena, ids: list[str]) -> dict[str, Position]:
    found = {}
    for shard, place in enumerate(arena.places):
        pipeline = place.client.pipeline(transaction=False)
        for event_id in ids:
            pipeline.hget(place.keys.event(event_id), f"at:{SOURCE}")
        for event_id, at in zip(ids, await pipeline.execute(), strict=True):
            if at is not None:
                ms, _, number = at.decode().partition(" ")[0].partition("-")
                found[event_id] = Position(int(ms), int(number), shard)
    return found


def _findings(
    keys: dict[str, int], tasks: dict[str, TaskRow], places: dict[str, Position], record: Path
) -> tuple[list[str], list[str], float]:
    begun: dict[str, float] = defaultdict(float)  # when it began last
    for line in record.read_text("utf-8").splitlines():
        _, task_id, at = line.split(" ")[-3:]
        begun[task_id] = max(begun[task_id], float(at))
    scrapped = [event for event in keys if event.startswith("scrapped")]
    lost = [f"{event_id} has not ended" for event_id in keys if event_id not in tasks]
    wrong, latest = [], 0.0
    for event_id, task in tasks.items():
        if event_id in scrapped:
            if task.state != "succeeded":
                lost.append(f"{event_id} is {task.state}")
            continue
        place, same = places[event_id], [one for one in scrapped if keys[one] == keys[event_id]]
        may = [one for one in same if places[one].is_after(place, -ROUND_TRIP_MS)]
        after = [one for one in same if places[one].is_after(place, ROUND_TRIP_MS)]
        by = (task.error or {}).get("by") or {}
        if task.state == "cancelled" and by.get("id") not in may:
            wrong.append(f"{event_id} was cancelled by {by}, which is not after it or of another key")
        elif task.state not in ("cancelled", "succeeded"):
            lost.append(f"{event_id} is {task.state}: {task.error}")
        elif after:
            handed = min(tasks[one].times_ms["queued"] for one in after if one in tasks) / 1000
            late = begun[task.id] - handed
            latest = max(latest, late)
            if late > LATE:
                wrong.append(f"{event_id} began {late:.1f} s after an event had cancelled it")
    return lost, wrong, latest
