"""Limits by key while workers and dispatchers are killed: the handlers' own record is the witness, not the mesh's books."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

from redis.exceptions import RedisError
from streammesh.events.envelope import Event, build
from streammesh.events.publisher import Publisher
from streammesh.settings import MeshSettings

from tests.faults.arena import NAMESPACE, Arena
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn
from tests.faults.workers.flow_worker import LIMIT

NAME = "limits and order by key, workers and dispatchers killed"
SOURCE = "faults"
TASKS = ("fault_flow.limited", "fault_flow.ordered")
BATCH = 50
PATIENCE = 240.0


async def run(stage: Stage) -> Row:
    """Three workers and two dispatchers, of which one is just being killed."""
    kills, events, keys, seconds = stage.pick(
        short=(6, 400, 8, 6), quick=(24, 2_000, 40, 20), normal=(300, 100_000, 1_000, 300)
    )
    async with stage.arena() as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_flow", 3, module="tests.faults.workers.flow_worker")
        await arena.ready()
        settings = MeshSettings(_env_file=None, redis_url=arena.server.url, namespace=NAMESPACE)
        publisher = Publisher(arena.client, arena.keys, settings, SOURCE)
        published = asyncio.Event()

        async def load() -> None:
            began = time.monotonic()
            for first in range(0, events, BATCH):
                await publisher.publish_events(
                    [_event(n, keys) for n in range(first, min(events, first + BATCH))]
                )
                late = began + seconds * first / events - time.monotonic()
                await asyncio.sleep(max(0.0, late))
            published.set()

        await asyncio.gather(load(), kill_in_turn(arena, arena.parts, kills, seconds, published))
        began = time.monotonic()
        ended = await _ended(arena, events)
        slowest = time.monotonic() - began
        states, doubled = await _outcomes(arena)
        most, inversions = witness(arena.record.read_text("utf-8").splitlines())
        left = await _leftovers(arena)
    lost = [] if ended and states["succeeded"] == events else [f"of {events} events: {dict(states)}"]
    wrong = [f"{most} of one key at once"] if most > LIMIT else []
    wrong += [*inversions, *(f"{key} is left over" for key in left), *doubled]
    remarks = [
        f"at most {most} of one key at once, {len(inversions)} order inversions, {len(left)} places left over"
    ]
    return Row(
        NAME, len(arena.kills), events, len(lost), len(wrong), round(slowest, 3), not lost and not wrong,
        remarks, [*lost, *wrong],
    )  # fmt: skip


def _event(number: int, keys: int) -> Event:
    kind = ("fault.limited", "fault.ordered")[number % 2]
    # A few keys are wanted much more than the others.
    key = f"k{number // 2 % keys if number % 3 else number // 2 % 4}"
    return build(SOURCE, kind, {"key": key, "number": number}, id=f"e{number}")


async def _ended(arena: Arena, events: int) -> bool:
    """Whether all tasks ended within the time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError, OSError):
            count = await arena.client.xlen(arena.keys.tasks_recent())
            if count >= events and not await arena.client.zcard(arena.keys.open_tasks("fault_flow")):
                return True
        await asyncio.sleep(0.2)
    return False


async def _outcomes(arena: Arena) -> tuple[Counter[str], list[str]]:
    """How tasks ended, and those that ended twice."""
    states: Counter[str] = Counter()
    seen: Counter[bytes] = Counter()
    for _, fields in await arena.client.xrange(arena.keys.tasks_recent()):
        states[fields[b"s"].decode()] += 1
        seen[fields[b"k"]] += 1
    return states, [f"{task.decode()} ended {times} times" for task, times in seen.items() if times > 1]


async def _leftovers(arena: Arena) -> list[str]:
    return [key for task in TASKS for key in arena.keys.of_a_flow(task)[1:] if await arena.client.exists(key)]


def witness(lines: Iterable[str]) -> tuple[int, list[str]]:
    """Return the most tasks of one key that were under way at once, and where the order of a key was not kept."""
    under_way: dict[tuple[str, str], set[str]] = defaultdict(set)
    last: dict[str, int] = {}
    most, inversions = 0, []
    for line in lines:
        what, kind, key, number, task = line.split(" ")
        if what == "ended":
            under_way[kind, key].discard(task)
            continue
        under_way[kind, key].add(task)
        if kind == "ordered":
            if int(number) < last.get(key, -1):
                inversions.append(f"{number} of {key} began after {last[key]}")
            last[key] = max(int(number), last.get(key, -1))
            if len(under_way[kind, key]) > 1:
                inversions.append(f"{number} of {key} began while another one ran")
        most = max(most, len(under_way[kind, key]))
    return most, inversions
