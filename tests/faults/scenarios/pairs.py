"""Pairs of what is waited for and its wait, at a random distance in time: each meets once, or did not come, never both."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from pathlib import Path

from streammesh.events import envelope
from streammesh.tasks.records import Rows, TaskRow

from tests.faults.arena import Arena
from tests.faults.report import Row
from tests.faults.scenarios import durable
from tests.faults.stage import Stage, kill_in_turn

NAME = "pairs of a wait and its event, and of a deadline and its event"
SOURCE = "faults"
WITHIN = 0.4  # seconds, of the expectation
REACHED = 0.02  # seconds until a run has come to its wait, about: an event before the run's own does not count for it
AROUND = {
    "fault.met": (REACHED, 0.05),
    "fault.expected": (0.4, 0.02),
    "fault.awaited": (0.4, 0.02),
}  # seconds, spread
PATIENCE = 300.0


async def run(stage: Stage) -> Row:
    """Half of the runs wait for an event that comes up to 50 ms before or after they begin to; half have a deadline, ± 20 ms.

    A worker is killed now and then: what wakes runs is then late by a lease.
    """
    kills, each, seconds = stage.pick(short=(2, 40, 4), quick=(6, 400, 14), normal=(20, 10_000, 240))
    kinds = ["fault.met"] * each + ["fault.expected"] * (each // 2) + ["fault.awaited"] * (each - each // 2)
    async with stage.arena() as arena, arena.publisher(SOURCE) as publisher:
        await arena.add("dispatcher", 2)
        workers = await arena.add("fault_durable", 3, module="tests.faults.workers.durable_worker")
        await arena.ready()
        arena.rng.shuffle(kinds)
        published = asyncio.Event()
        ids: dict[str, str] = {}

        async def one(number: int, kind: str) -> None:
            await asyncio.sleep(seconds * number / len(kinds))
            around, spread = AROUND[kind]
            apart = around + arena.rng.uniform(-spread, spread)
            order = {"order": f"o{number}", "seconds": WITHIN, "cents": number}
            first = [(f"run-{number}", kind), (f"paid-{number}", "fault.paid")]
            for event_id, event_type in first:
                event = envelope.make(event_type, order, source=SOURCE, id=event_id)
                await publisher.publish_events([event])
                if event_type != "fault.paid":
                    ids[event_id] = kind
                    await asyncio.sleep(max(0.0, apart))

        async def load() -> None:
            await asyncio.gather(*(one(number, kind) for number, kind in enumerate(kinds)))
            published.set()

        await asyncio.gather(load(), kill_in_turn(arena, workers, kills, seconds, published))
        began = time.monotonic()
        tasks = await durable.ended(arena, ids, PATIENCE)
        slowest = time.monotonic() - began
        missed, doubled, chosen = _findings(arena, ids, tasks)
        missed += await _untrue(arena, ids, tasks)
    remarks = [
        f"{each:,} waits met; of {each:,} deadlines {chosen['came']:,} saw it come and {chosen['absent']:,} did not"
    ]
    return Row(
        NAME, len(arena.kills), 2 * len(kinds), len(missed), len(doubled), round(slowest, 3),
        not missed and not doubled, remarks, [*missed, *doubled],
    )  # fmt: skip


def _findings(
    arena: Arena, ids: dict[str, str], tasks: dict[str, TaskRow]
) -> tuple[list[str], list[str], Counter[str]]:
    missed = [f"{event_id} ({kind}) has not ended" for event_id, kind in ids.items() if event_id not in tasks]
    doubled, chosen = [], Counter[str]()
    said = _said(arena.record)
    for event_id, task in tasks.items():
        kind, saw = ids[event_id], said[task.id]
        number = int(event_id.partition("-")[2])
        if kind == "fault.met":
            if task.result != {"paid": number}:
                missed.append(f"{event_id} is {task.state} and came to {task.result}: {task.error}")
            continue
        came = isinstance(task.result, dict) and bool(task.result.get("came"))
        absent = not came and task.state == "succeeded"
        chosen["came" if came else "absent"] += 1
        if task.state != "succeeded":
            missed.append(f"{event_id} ({kind}) is {task.state}: {task.error}")
        if len(saw) > 1 or (came and "absent" in saw) or (absent and "came" in saw):
            doubled.append(f"{event_id} ({kind}) saw it {sorted(saw)} and came to {task.result}")
    return missed, doubled, chosen


async def _untrue(arena: Arena, ids: dict[str, str], tasks: dict[str, TaskRow]) -> list[str]:
    """Expectations that were decided otherwise than by the times in the stream; over two shards those are no exact ones."""
    shards, found = [Rows(place.client, place.keys) for place in arena.places], []
    for event_id, task in tasks.items():
        if ids[event_id] != "fault.awaited":
            continue
        for rows in shards:
            own = await rows.events(event_id)
            paid = await rows.events(event_id.replace("run", "paid"))
            if own:
                break
        if not paid:
            continue
        apart = _ms(paid[0].entry) - _ms(own[0].entry)
        came = isinstance(task.result, dict) and bool(task.result.get("came"))
        if came != (apart <= 1000 * WITHIN):
            found.append(f"{event_id}: its event came after {apart} ms, and it came to {task.result}")
    return found


def _ms(entry: str) -> int:
    return int(entry.partition("-")[0])


def _said(record: Path) -> dict[str, set[str]]:
    said: dict[str, set[str]] = defaultdict(set)
    for line in record.read_text("utf-8").splitlines() if record.exists() else []:
        what, task, _ = line.split(" ")[-3:]
        if what in ("came", "absent"):
            said[task].add(what)
    return said
