"""Durable handlers whose workers and dispatchers are killed: no step that was recorded is made again, no run is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from pathlib import Path

from redis.exceptions import RedisError
from streammesh.tasks.records import Rows, TaskRow

from tests.faults.arena import Arena
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn
from tests.faults.workers.durable_worker import STEPS

NAME = "durable handlers killed between and inside their steps and waits"
TOTAL = 2 * sum(range(1, STEPS // 2 + 1))
SOURCE = "faults"
KINDS = ("fault.placed", "fault.awaited", "fault.placed", "fault.expected")  # of every four runs
PATIENCE = 120.0


async def run(stage: Stage) -> Row:
    """Three workers and two dispatchers, of which one is just being killed; payments come around the waits."""
    kills, runs, seconds = stage.pick(short=(6, 60, 6), quick=(20, 300, 14), normal=(125, 2_000, 90))
    async with stage.arena() as arena, contextlib.AsyncExitStack() as stack:
        await arena.add("dispatcher", 2)
        await arena.add("fault_durable", 3, module="tests.faults.workers.durable_worker")
        await arena.ready()
        published = asyncio.Event()
        publisher = await stack.enter_async_context(arena.publisher(SOURCE))
        ids: dict[str, str] = {}  # event -> what it is

        async def one(number: int) -> None:
            await asyncio.sleep(seconds * number / runs)
            order, kind = f"o{number}", KINDS[number % 4]
            data = {"order": order, "seconds": 0.4}
            together = {"partitionkey": order}  # what waits for an event sees those of its own shard
            ids[(await publisher.publish(kind, data, id=f"run-{number}", extensions=together)).id] = kind
            around, spread = {"fault.placed": (0.1, 0.1), "fault.expected": (0.4, 0.1)}.get(kind, (0.4, 0.02))
            await asyncio.sleep(max(0.0, around + arena.rng.uniform(-spread, spread)))
            paid = {"order": order, "cents": number}
            await publisher.publish("fault.paid", paid, id=f"paid-{number}", extensions=together)

        async def load() -> None:
            await asyncio.gather(*map(one, range(runs)))
            published.set()

        await asyncio.gather(load(), kill_in_turn(arena, arena.parts, kills, seconds, published))
        began = time.monotonic()
        tasks = await ended(arena, ids)
        slowest = time.monotonic() - began
        lost, doubled = _findings(ids, tasks, arena.record)
        met = sum(bool(task.attempt > 3) for task in tasks.values())
        remarks = [f"{met} of {len(ids)} runs took more attempts than they wait"]
        return Row(
            NAME, len(arena.kills), 2 * runs, len(lost), len(doubled), round(slowest, 3), not lost and not doubled,
            remarks, [*lost, *doubled],
        )  # fmt: skip


async def ended(arena: Arena, ids: dict[str, str], patience: float = PATIENCE) -> dict[str, TaskRow]:
    """The task of each run, once all have ended or the time is over."""
    shards = [Rows(place.client, place.keys) for place in arena.places]
    found: dict[str, TaskRow] = {}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and len(found) < len(ids):
        with contextlib.suppress(RedisError, OSError):
            for event_id in ids.keys() - found.keys():
                for rows in shards:
                    for row in await rows.events(event_id):
                        if row.completed:
                            found[event_id] = (await rows.tasks(row.task_ids))[0]
        await asyncio.sleep(0.2)
    return found


def _findings(ids: dict[str, str], tasks: dict[str, TaskRow], record: Path) -> tuple[list[str], list[str]]:
    lost = [
        f"run {event_id} ({kind}) has not ended" for event_id, kind in ids.items() if event_id not in tasks
    ]
    doubled = []
    awaited = {e: t for e, t in tasks.items() if ids[e] == "fault.awaited"}
    came = {task.id for task in awaited.values() if isinstance(task.result, dict) and "came" in task.result}
    kept: set[tuple[str, str]] = set()
    chosen: dict[str, set[str]] = defaultdict(set)
    for line in record.read_text("utf-8").splitlines():
        what, task, name = line.split(" ")[-3:]
        if what == "absent" and task in came:
            doubled.append(f"{task} came to its event, and its handler was called for want of it")
        if what == "kept":
            kept.add((task, name))
        elif what == "ran" and (task, name) in kept:
            doubled.append(f"step {name} of {task} ran after it was recorded")
        elif what in ("came", "absent"):
            chosen[task].add(what)
    doubled += [f"{task} saw its event come and not come" for task, saw in chosen.items() if len(saw) > 1]
    for event_id, run in tasks.items():
        number = int(event_id.partition("-")[2])
        if run.state != "succeeded":
            lost.append(f"run {event_id} is {run.state}: {run.error}")
        elif (
            ids[event_id] == "fault.awaited" and run.id not in came and run.result != {"missed": f"o{number}"}
        ):
            lost.append(f"run {event_id} came to neither: {run.result}")
        elif ids[event_id] == "fault.placed" and run.result != {"total": TOTAL, "paid": number}:
            lost.append(f"run {event_id} came to {run.result}")
    return lost, doubled
