"""A service that comes late is given its past, of Redis and of the history, beside live traffic, while dispatchers die.

Counted by its own handler: each kept and each live event exactly once. `FAULTS_KEPT=1000000` asks for another size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from pathlib import Path

from redis.exceptions import RedisError
from streammesh.backfill.record import Backfill, Backfills, BackfillState
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.faults.arena import NAMESPACE, Arena
from tests.faults.records import read_runs
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn

NAME = "a late service's past, beside live events, while dispatchers are killed"
BATCH, EARLY_EVERY = (
    500,
    10,
)  # events of one publish; of every ten, one is wanted by the service that was there
QUICK = {"ARCHIVER_LINGER": "50ms", "ARCHIVER_RECLAIM_IDLE": "1s", "ARCHIVER_LOOK_EVERY": "500ms"}
MODULE = "tests.faults.workers.kept_worker"
A_SECOND = 150  # events that the slowest machine hands over, works off and archives


async def run(stage: Stage) -> Row:
    """Two dispatchers, of which one is just being killed; most of the past has left Redis for the history."""
    kills, kept, live, seconds = stage.pick(
        short=(6, 600, 150, 4), quick=(15, 5_000, 800, 14), normal=(60, 20_000, 3_000, 60)
    )
    kept = int(os.environ.get("FAULTS_KEPT") or kept)
    patience = 60 + kept / A_SECOND
    url = f"sqlite:///{stage.folder / 'history.db'}"
    async with stage.arena(MESH_HISTORY_URL=url, MESH_HOT="1s") as arena:
        dispatchers = await arena.add("dispatcher", 2, DISPATCHER_TRIM_EVERY="500ms")
        await arena.add("archiver", 1, module="services.archiver", **QUICK)
        await arena.add("fault_early", 1, module=MODULE, FAULTS_SERVICE="fault_early", FAULTS_ONLY="early")
        await arena.ready()
        settings = MeshSettings(
            _env_file=None, redis_url=arena.server.url, namespace=NAMESPACE, history_url=url
        )
        publisher = Publisher(arena.client, arena.keys, settings, "faults")
        await _publish(publisher, range(0, kept - kept // 5))
        await _have_left(arena, kept // 5, patience)
        await _publish(publisher, range(kept - kept // 5, kept))
        published = asyncio.Event()

        async def come_live() -> None:
            for first in range(kept, kept + live, 10):
                await _publish(publisher, range(first, min(first + 10, kept + live)))
                await asyncio.sleep(10 * seconds / live)
            published.set()

        async def come_late() -> Backfill:
            await arena.add("fault_late", 1, module=MODULE, FAULTS_SERVICE="fault_late")
            known = Backfills(arena.client, arena.keys)

            async def registered() -> bool:
                return bool(await arena.client.hexists(arena.keys.manifests(), "fault_late"))

            await wait_until("the late service has registered", registered, seconds=60)
            return await known.begin("fault_late", "kept.*", 1, None, None, "faults")

        _, begun, _ = await asyncio.gather(
            come_live(), come_late(), kill_in_turn(arena, dispatchers, kills, seconds, published)
        )
        began = time.monotonic()
        found = await _ended(arena, begun, kept + live, patience)
        slowest = time.monotonic() - began
        lost, doubled = _findings(arena.record, kept + live)
        if found.state is not BackfillState.DONE:
            lost.append(f"the backfill is {found.state}: {found.waits or found.reason}")
        remarks = [
            f"{found.tasks} tasks by the backfill, {found.live} of its events came live, {found.known} were known"
        ]
        return Row(
            NAME, len(arena.kills), kept + live, len(lost), len(doubled), round(slowest, 3), not lost and not doubled,
            remarks, [*lost, *doubled],
        )  # fmt: skip


async def _publish(publisher: Publisher, numbers: range) -> None:
    for first in range(numbers.start, numbers.stop, BATCH):
        some = range(first, min(first + BATCH, numbers.stop))
        made = [
            envelope.make("kept.noted", {"n": n, "early": n % EARLY_EVERY == 0}, source="faults", id=f"e{n}")
            for n in some
        ]
        await publisher.publish_events(made)


async def _have_left(arena: Arena, most: int, seconds: float) -> None:
    """Wait until most of what was published is in the history only."""

    async def have_left() -> bool:
        arena.look_for_dead()
        return bool(await arena.client.xlen(arena.keys.events("kept")) <= most)

    await wait_until("most events have left Redis", have_left, seconds=seconds)


async def _ended(arena: Arena, begun: Backfill, events: int, seconds: float) -> Backfill:
    """The backfill once it has ended, and all tasks have, or the time is over."""
    known, found, deadline = Backfills(arena.client, arena.keys), begun, time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError, OSError):
            found = await known.get(begun.id) or found
            opened = [arena.keys.open_tasks(name) for name in ("fault_late", "fault_early")]
            left = sum([await arena.client.zcard(key) for key in opened])
            if found.state is not BackfillState.RUNNING and not left:
                await asyncio.sleep(1.0)  # what would come twice has the time to come
                if len(_given(arena.record, "fault_late")) >= events:
                    break
        await asyncio.sleep(0.5)
    return found


def _given(record: Path, service: str) -> Counter[str]:
    """How often a service's handler came to its end for each event."""
    runs = (run for found in read_runs(record).values() for run in found)
    return Counter(run.event for run in runs if run.name == service and run.through is not None)


def _findings(record: Path, events: int) -> tuple[list[str], list[str]]:
    lost, doubled = [], []
    for service, wanted in (
        ("fault_late", range(events)),
        ("fault_early", range(0, events, EARLY_EVERY)),
    ):
        given = _given(record, service)
        lost += [f"{service} was not given e{n}" for n in wanted if f"e{n}" not in given]
        doubled += [f"{service} ran {event} {count} times" for event, count in given.items() if count > 1]
    return lost, doubled
