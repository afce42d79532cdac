"""Quiet periods and batches while workers and dispatchers are killed: when each event was handed over says what should have run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson
from redis.exceptions import RedisError
from streammesh.events.envelope import build
from streammesh.events.publisher import Publisher
from streammesh.names import task_id
from streammesh.settings import MeshSettings

from tests.faults.arena import NAMESPACE, Arena
from tests.faults.report import Row
from tests.faults.stage import Stage
from tests.faults.workers.fold_worker import BATCH, MAX_WAIT, QUIET

NAME = "debounce and batches by key, workers and dispatchers killed"
SOURCE, TASK, BATCHED = "faults", "fault_fold.saved", "fault_fold.added"
LATE_MS = 250.0  # how much later than due a run may start
PATIENCE = 120.0


@dataclass
class Told:
    """What the ledger says of one event's task, times in ms."""

    number: int
    key: str
    state: str = ""
    queued: float = 0.0  # handed over
    started: float = 0.0  # given to the workers' queue, where it was a run
    run: str = ""  # that took it


@dataclass
class Verdict:
    """What came out."""

    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    runs: int = 0
    lateness: list[float] = field(default_factory=list)  # ms after it was due, of each run


async def run(stage: Stage) -> Row:
    """Three workers and two dispatchers, of which one is just being killed; a burst, a pause, a burst of each key."""
    kills, events, keys, seconds = stage.pick(
        short=(4, 400, 16, 6), quick=(8, 4_000, 80, 25), normal=(150, 50_000, 1_000, 200)
    )
    async with stage.arena() as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_fold", 3, module="tests.faults.workers.fold_worker")
        await arena.ready()
        settings = MeshSettings(_env_file=None, redis_url=arena.server.url, namespace=NAMESPACE)
        publisher = Publisher(arena.client, arena.keys, settings, SOURCE)
        plan = sorted(_times(random.Random(stage.seed), events, keys, seconds))

        async def load() -> None:
            began = time.monotonic()
            for first in range(0, events, 20):
                batch = [
                    build(SOURCE, kind, {"key": key, "number": number}, id=f"{kind[6]}{number}")
                    for number, (_, key) in enumerate(plan[first : first + 20], first)
                    for kind in ("fault.saved", "fault.added")
                ]
                await asyncio.sleep(max(0.0, began + plan[first][0] - time.monotonic()))
                await publisher.publish_events(batch)

        stalls: list[tuple[float, float]] = []
        watch = asyncio.create_task(_stalls(arena, stalls))
        await asyncio.gather(load(), _kills(arena, kills, seconds))
        began = time.monotonic()
        await _ended(arena, 2 * events)
        watch.cancel()
        slowest = time.monotonic() - began
        told = await _told(arena, [key for _, key in plan], TASK)
        batched = await _told(arena, [key for _, key in plan], BATCHED)
        again = [f"{task} ended {times} times" for task, times in (await _ends(arena)).items() if times > 1]
        left = [
            key
            for task in (TASK, BATCHED)
            for key in arena.keys.of_a_flow(task)[1:]
            if await arena.client.exists(key)
        ]
    found = judge(told, stalls)
    lost, several, runs = judge_batches(batched)
    lost = [*found.lost, *lost]
    wrong = [*found.wrong, *several, *again, *(f"{key} is left over" for key in left)]
    late = sorted(found.lateness) or [0.0]
    remarks = [
        f"{events:,} events, {events / max(1, runs):.1f} to a batch, each in one that succeeded",
        f"{found.runs:,} runs of {events:,} events; started after they were due: {late[len(late) // 2]:.0f} ms, "
        f"99 of 100 within {late[len(late) * 99 // 100]:.0f} ms, the last {late[-1]:.0f} ms",
    ]
    return Row(
        NAME, len(arena.kills), 2 * events, len(lost), len(wrong), round(slowest, 3), not lost and not wrong,
        remarks, [*lost, *wrong],
    )  # fmt: skip


def _times(rng: random.Random, events: int, keys: int, seconds: float) -> Iterator[tuple[float, str]]:
    """When what is published of which key: bursts that end with a pause, some of them longer than may be waited."""
    each = events // keys
    for number in range(keys):
        count = each + (events % keys if number == 0 else 0)
        at, made = rng.uniform(0, QUIET), 0
        pace = (seconds - 2) / count  # of the average event
        while made < count:
            burst = min(count - made, rng.choice((1, 2, 5, 8, 20)))
            for _ in range(burst):
                yield at, f"k{number}"
                at += rng.uniform(0.02, QUIET * 0.5)
            made += burst
            at = max(at + QUIET * 1.5, made * pace * rng.uniform(0.9, 1.0))


async def _kills(arena: Arena, kills: int, seconds: float) -> None:
    """Kill one part after the other, each when all are there again: one dispatcher always lives."""
    began = time.monotonic()
    for number in range(kills):
        await asyncio.sleep(
            max(0.0, began + seconds * (number + arena.rng.random()) / kills - time.monotonic())
        )
        victim = arena.rng.choice(arena.parts)
        alive = arena.keys.alive(victim.role)
        before = {*await arena.client.zrange(alive, 0, -1)}
        await victim.kill()
        await victim.start()
        while not {*await arena.client.zrange(alive, 0, -1)} - before:
            await asyncio.sleep(0.05)


async def _stalls(arena: Arena, found: list[tuple[float, float]]) -> None:
    """Note when this process, which has little to do, or the server had no processor: (until when, for how long), in ms."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.01)
        await arena.client.ping()
        stalled = (time.monotonic() - began) * 1000 - 10
        if stalled > 10:
            found.append((time.time() * 1000, stalled))


async def _ended(arena: Arena, events: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError, OSError):
            count = await arena.client.xlen(arena.keys.tasks_recent())
            if count >= events and not await arena.client.zcard(arena.keys.open_tasks("fault_fold")):
                return
        await asyncio.sleep(0.2)


async def _ends(arena: Arena) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _, fields in await arena.client.xrange(arena.keys.tasks_recent()):
        seen[fields[b"k"].decode()] += 1
    return seen


async def _told(arena: Arena, keys: Sequence[str], task: str) -> dict[str, Told]:
    """What the ledger says of each event, by its task."""
    found = {
        task_id(SOURCE, f"{'s' if task == TASK else 'a'}{number}", task): Told(number, key)
        for number, key in enumerate(keys)
    }
    tasks = list(found)
    for first in range(0, len(tasks), 500):
        page = tasks[first : first + 500]
        pipeline = arena.client.pipeline(transaction=False)
        for task in page:
            pipeline.hmget(arena.keys.task(task), "state", "queued", "entry", "outcome")
        for task, (state, queued, entry, outcome) in zip(page, await pipeline.execute(), strict=True):
            one = found[task]
            one.state = (state or b"").decode()
            one.queued = float(queued or 0)
            one.started = float((entry or b"0").partition(b"-")[0] or 0)
            result = orjson.loads(outcome or b"{}").get("result")
            one.run = result.get("run", "") if isinstance(result, dict) else ""
    return found


def judge(told: dict[str, Told], stalls: Sequence[tuple[float, float]] = ()) -> Verdict:
    """Hold what ended how against when it was handed over. `stalls` of the machine are nobody's lateness."""
    found = Verdict()
    members: defaultdict[str, list[Told]] = defaultdict(list)  # run -> it, and what it took
    for task, one in told.items():
        run = task if one.state == "succeeded" else one.run if one.state == "folded" else ""
        if not run:
            found.lost.append(f"event {one.number} is {one.state or 'nowhere'}")
        elif run not in told or told[run].state != "succeeded" or told[run].key != one.key:
            found.wrong.append(f"event {one.number} names {run}, which is no run of its key")
        else:
            members[run].append(one)
    by_key: defaultdict[str, list[Told]] = defaultdict(list)
    for run, its in members.items():
        by_key[told[run].key].append(told[run])
        found.wrong += _period(told[run], sorted(its, key=lambda one: one.queued), found.lateness, stalls)
    for runs in by_key.values():
        found.wrong += _apart(sorted(runs, key=lambda one: one.started), members, told)
    found.runs = len(members)
    return found


def judge_batches(told: dict[str, Told]) -> tuple[list[str], list[str], int]:
    """What was lost, what is wrong, and how many batches succeeded: each event is of one, of its key, and none is too large."""
    lost, wrong = list[str](), list[str]()
    members: Counter[str] = Counter()
    for task, one in told.items():
        run = task if one.state == "succeeded" else one.run if one.state == "folded" else ""
        if not run:
            lost.append(f"event {one.number} is {one.state or 'nowhere'}")
        elif run not in told or told[run].state != "succeeded" or told[run].key != one.key:
            wrong.append(f"event {one.number} names {run}, which is no run of its key")
        members[run] += 1
    wrong += [f"the batch of {run} has {count} events" for run, count in members.items() if count > BATCH]
    return lost, wrong, len(members)


def _period(
    run: Told, its: Sequence[Told], lateness: list[float], stalls: Sequence[tuple[float, float]]
) -> Iterator[str]:
    """What is wrong with one run: it is of the last event, and started when its period was over, neither before nor late."""
    if run.number != max(one.number for one in its):
        yield f"run {run.number} has not the last event of what it took"
    due = its[0].queued + QUIET * 1000
    for one in its:
        if one.queued > due + LATE_MS + _stalled(stalls, due, one.queued):
            yield f"run {run.number} took event {one.number}, which came when its period was over"
        due = max(due, min(one.queued + QUIET * 1000, its[0].queued + MAX_WAIT * 1000))
    late = run.started - due
    lateness.append(late)
    if late < -2:  # two clocks' roundings
        yield f"run {run.number} started {-late:.0f} ms too early"
    elif late > LATE_MS + _stalled(stalls, due, run.started):
        yield f"run {run.number} started {late:.0f} ms late"


def _stalled(stalls: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    return sum(took for until, took in stalls if until > begin and until - took < end)


def _apart(runs: Iterable[Told], members: dict[str, list[Told]], told: dict[str, Told]) -> Iterator[str]:
    """What is wrong between the runs of one key: none began with what the one before should have taken."""
    by_number = {told[run].number: its for run, its in members.items()}
    before: Told | None = None
    for run in runs:
        first = min(one.queued for one in by_number[run.number])
        if before is not None and first < before.started - 1:
            yield f"run {run.number} took what came before run {before.number} had started"
        before = run
