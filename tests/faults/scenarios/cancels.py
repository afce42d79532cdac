"""Events that cancel open tasks, while workers and dispatchers are killed: the times in the stream decide, for each task once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from streammesh.events.publisher import Publisher
from streammesh.settings import MeshSettings
from streammesh.tasks.records import TaskRow

from tests.faults.arena import NAMESPACE, Arena
from tests.faults.report import Row
from tests.faults.scenarios.durable import ended
from tests.faults.stage import Stage, kill_in_turn

NAME = "open tasks cancelled by events, while workers and dispatchers are killed"
TASK = "fault_cancel.build"
SOURCE = "faults"
KEYS = 50
LATE = 6.0  # seconds after the event that cancels it was handed over in which a task may still begin: a dispatcher died


class Position(NamedTuple):
    """Where an event lies in its stream."""

    ms: int
    number: int


async def run(stage: Stage) -> Row:
    """Three workers and two dispatchers, of which one is just being killed; every tenth event cancels what has its key."""
    kills, events, seconds = stage.pick(short=(6, 200, 6), quick=(20, 1_000, 14), normal=(120, 8_000, 90))
    async with stage.arena() as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_cancel", 3, module="tests.faults.workers.cancel_worker")
        await arena.ready()
        published = asyncio.Event()
        settings = MeshSettings(_env_file=None, redis_url=arena.server.url, namespace=NAMESPACE)
        publisher = Publisher(arena.client, arena.keys, settings, SOURCE)
        keys: dict[str, int] = {}  # event -> its key

        async def one(number: int) -> None:
            await asyncio.sleep(seconds * number / events)
            kind = "scrapped" if number % 10 == 9 else "build"
            key = arena.rng.randrange(KEYS)
            sent = await publisher.publish(
                f"fault.{kind}", {"key": key, "number": number}, id=f"{kind}-{number}"
            )
            keys[sent.id] = key

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
            for key in (arena.keys.cancellable(TASK), arena.keys.cancelling())
            if (number := await arena.client.zcard(key))
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
    for event_id in ids:
        position = await arena.client.hget(arena.keys.event(event_id), f"at:{SOURCE}")
        ms, _, number = position.decode().partition(" ")[0].partition("-")
        found[event_id] = Position(int(ms), int(number))
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
        after = [one for one in scrapped if keys[one] == keys[event_id] and places[one] > places[event_id]]
        by = (task.error or {}).get("by") or {}
        if task.state == "cancelled" and by.get("id") not in after:
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
