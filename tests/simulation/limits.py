"""Rates and singletons of flow control: what may start when, and what ends without having run."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio
from streammesh import Context, Service
from streammesh.names import task_id as name_of_task

from tests.simulation import checkers
from tests.simulation.faults import KINDS
from tests.simulation.places import Run, at_once, took_effect
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.worker import worker
from tests.simulation.world import World

declare(
    "a task waited for the rate of its key",
    "a task was skipped, beyond the rate of its key",
    "a task was skipped for one of its key that was there",
    "a task was cancelled for the next one of its key",
    "a task was folded into a later one of its key",
)
TYPE, TENANTS = "user.registered", ("ada", "bob")
MOST_DROPPED, EACH = 2, 1.0  # tasks of a key in an hour; seconds from one start of a key to the next
LIMITS: dict[str, dict[str, Any]] = {
    "throttled": {"throttle": "1/s"},
    "dropping": {"drop": f"{MOST_DROPPED}/h"},
    "skipping": {"singleton": "skip"},
    "newest": {"singleton": "cancel_running"},
    "quiet": {"debounce": "500ms", "max_wait": "3s"},
}


@dataclass
class Life:
    """One task as the record tells it: where it was handed over and where it ended, and as what."""

    id: str
    number: int
    event: str
    begin: int
    end: int = -1
    kind: str = ""
    error: str = ""
    run: str = ""  # which it was folded into


def limits(*, events: int = 5, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two subscriptions with limits of different kinds, two dispatchers, two workers. Each task ends once;
    each limit is held against the record and the handlers' own witness, and no place is left over."""

    async def run() -> None:
        async with a_world(budget, kinds=kinds, spared=("publisher-1",)) as world:
            chosen = random.sample(sorted(LIMITS), 2)
            runs: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)  # name, key -> runs

            async def handle(name: str, data: Any, ctx: Context, host: str) -> None:
                mine = Run(ctx.task_id, data["n"], ctx.attempt, host, time.time())
                runs[name, data["tenant"]].append(mine)
                world.told.ran[ctx.task_id].append((ctx.attempt, host))
                try:
                    await asyncio.sleep(random.choice((0.01, 0.3, 0.6)))
                finally:
                    mine.end = time.time()

            def make(host: str) -> Service:
                service = Service("mail", settings=world.settings)

                def subscribe(name: str) -> None:
                    async def limited(data: Any, ctx: Context) -> None:
                        await handle(name, data, ctx, host)

                    often: dict[str, Any] = {"retries": 3, "backoff": 0.1, "breaker": False, "name": name}
                    service.on(TYPE, key="data.tenant", **often, **LIMITS[name])(limited)

                for name in chosen:
                    subscribe(name)
                return service

            await world.register(make("first"))
            for name in ("dispatcher a", "dispatcher b"):
                world.start(name, world.dispatcher)
            for name in ("mail a", "mail b"):
                world.start(name, worker(world, make))
            ids = [f"e{n}" for n in range(events)]
            tenants = {id_: TENANTS[int(id_[1:]) % 4 == 3] for id_ in ids}
            every = random.choice((0.02, 0.3))
            began = time.time()
            world.start(
                "publisher",
                world.publisher(ids, TYPE, lambda id_: {"n": int(id_[1:]), "tenant": tenants[id_]}, every),
            )
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events))

            async def check(client: redis.asyncio.Redis) -> None:
                lives = await _lives(client, world)
                for name in chosen:
                    for key in (world.keys.flow_line(f"mail.{name}"), world.keys.flow_places(f"mail.{name}")):
                        left = await client.zrange(key, 0, -1)
                        assert not left, f"{key} has {left} still; {world.striker.history}"
                    for tenant in TENANTS:
                        mine = [
                            lives[task]
                            for id_ in ids
                            if tenants[id_] == tenant
                            and (task := name_of_task("outside", id_, f"mail.{name}")) in lives
                        ]
                        assert len(mine) == sum(one == tenant for one in tenants.values()), f"{name}: {mine}"
                        _check(world, name, mine, runs[name, tenant], began)

            await world.plain(check)

    return run


async def _lives(client: redis.asyncio.Redis, world: World) -> dict[str, Life]:
    """Return each task as the record tells it; fail where one ended twice, or never."""
    found: dict[str, Life] = {}
    for place, (_, kind, fields) in enumerate(await checkers.notes(client, world)):
        task, event = fields.get(b"k", b"").decode(), fields[b"e"].decode()
        if not task:
            continue
        life = found.setdefault(task, Life(task, int(event[1:]), event, place))
        if kind in checkers.ENDS:
            assert not life.kind, f"{task} ended as {life.kind} and {kind}; {world.striker.history}"
            life.end, life.kind = place, kind
            outcome = orjson.loads(await client.hget(world.keys.task(task), "outcome") or b"{}")
            life.error = (outcome.get("error") or {}).get("reason", "")
            life.run = outcome["result"]["run"] if kind == "task.folded" else ""
    assert all(one.kind for one in found.values()), f"{found}; {world.striker.history}"
    return found


def _check(world: World, name: str, lives: list[Life], runs: list[Run], began: float) -> None:
    """Hold the tasks of one key, in stream order, against the limit that they have."""
    history = world.striker.history
    done = [one for one in lives if one.kind == "task.succeeded"]
    skipped = [one for one in lives if one.kind == "task.skipped"]
    folded = [one for one in lives if one.kind == "task.folded"]
    for one in skipped + folded:
        assert not world.told.ran.get(one.id), f"{one} never began and ran; {history}"
    succeeded = {one.id for one in done}
    effective = took_effect([one for one in runs if one.task in succeeded])
    if name == "throttled":
        assert len(done) == len(lives), f"{lives}; {history}"
        first: dict[str, float] = {}
        for run in runs:
            first.setdefault(run.task, run.begin)
        for number, at in enumerate(sorted(first.values())):
            # The second may start with the first, to make up for a pause.
            soonest = began + (number - 1) * EACH - 0.005
            assert at >= soonest, f"{sorted(first.values())}: too many began since {began}; {history}"
        sometimes("a task waited for the rate of its key", len(first) > 2)
    elif name == "dropping":
        assert len(done) == min(MOST_DROPPED, len(lives)), f"{lives}; {history}"
        assert len(done) + len(skipped) == len(lives), f"{lives}; {history}"
        sometimes("a task was skipped, beyond the rate of its key", bool(skipped))
    elif name == "skipping":
        assert len(done) + len(skipped) == len(lives), f"{lives}; {history}"
        for one in lives:
            open_then = [other.id for other in done if other.begin < one.begin < other.end]
            assert bool(open_then) == (one in skipped), f"{one} beside {open_then}; {history}"
            assert all(other in one.error for other in open_then), f"{one} beside {open_then}; {history}"
        sometimes("a task was skipped for one of its key that was there", bool(skipped))
    elif name == "quiet":
        assert len(done) + len(folded) == len(lives), f"{lives}; {history}"
        numbers = {one.id: one.number for one in done}
        for one in folded:
            assert numbers.get(one.run, -1) > one.number, f"{one} was folded into none; {lives}; {history}"
        sometimes("a task was folded into a later one of its key", bool(folded))
    else:
        assert not skipped, f"{lives}; {history}"
        last = max(lives, key=lambda one: one.begin)
        assert last.kind == "task.succeeded", f"{last} is the newest of its key; {history}"
        assert all(one.kind in {"task.succeeded", "task.cancelled"} for one in lives), f"{lives}; {history}"
        sometimes("a task was cancelled for the next one of its key", len(done) < len(lives))
    if name in {"skipping", "newest"}:
        assert at_once(effective) <= 1, f"{name}: {effective} at once; {history}"
