"""Garbage in every key of the mesh, while it works: what cannot be read is stepped over, and the rest goes on.

Real processes: a dispatcher, an API, a scheduler, a worker of the async pool and one with pool processes; in the target
`lists` they are handed their tasks by another broker, so that forwarders run too. Each piece of garbage is written into
one key, and then events are published through the front door: they must be done, a retried one too, the next tick must
come, every list must be answered, a follower must be told, and no process may have ended. Garbage stays where it is, so
that it adds up.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import redis.asyncio
from streammesh.embedded import EmbeddedServer
from streammesh.key_types import type_of
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.fuzz import garbage
from tests.fuzz.tally import Tally, resident_mb
from tests.harness.processes import MeshProcess

NAMESPACE = "fuzz"
KEY = "fuzz-admin-key-of-thirty-letters"
DONE_SECONDS = 25.0  # a wrong type is met by a role within 2 s, a lease is 2 s, and the machine may be busy
MENDED_SECONDS = 35.0  # the dispatcher looks at every key each 30 s; a list may be answered 503 for so long
LISTS = (
    "/v1/events", "/v1/dead-letters?limit=500", "/v1/subscriptions", "/v1/status", "/v1/services", "/readyz", "/livez",
)  # fmt: skip
ROLES = {
    "dispatcher": "services.dispatcher", "probe": "tests.probe", "probe_sync": "tests.probe_sync",
    "scheduler": "services.scheduler", "api": "services.api",
}  # fmt: skip
SCHEDULE = '[schedules.fuzz]\nevery = "1s"\nmisfire = "skip"\nevent.type = "probe.ticked"\n'
PUBLISHED = (
    ("probe.recorded", "probe.recorded", {"a": 1}), ("probe.flaky", "probe.flaky", {"succeeds_at": 2}),
    ("sync.flaky", "probe_sync.flaky", {"succeeds_at": 2}),
)  # fmt: skip
WARM_UP = 20  # pieces before memory is measured


class Arena:
    """The mesh under test."""

    def __init__(
        self, client: redis.asyncio.Redis, api: httpx.AsyncClient, processes: list[MeshProcess]
    ) -> None:
        self.redis, self.api, self.processes = client, api, processes
        self.keys = Keys(NAMESPACE)
        self.told: set[str] = set()
        self.last_event = self.last_task = self.last_tick = ""

    def ended(self) -> list[str]:
        """Processes that ended by themselves."""
        return [process.name for process in self.processes if not process.running]

    async def follow(self) -> None:
        """Hear all notifications, as a client does that comes back when it is cut."""
        position = ""
        while True:
            with suppress(httpx.HTTPError):
                resumed = {"last-event-id": position} if position else {}
                async with self.api.stream(
                    "GET", "/v1/notifications", headers=resumed, timeout=None
                ) as response:
                    async for line in response.aiter_lines():
                        position = line[4:] if line.startswith("id: ") else position
                        if line.startswith("data: "):
                            with suppress(ValueError, KeyError, TypeError):
                                note = orjson.loads(line[6:])
                                if note["type"] == "event.completed":
                                    self.told.add(note["event"]["id"])
            await asyncio.sleep(0.1)


@asynccontextmanager
async def mesh(folder: Path, *, lists: bool) -> AsyncIterator[Arena]:
    """A mesh of its own, which works."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with EmbeddedServer(folder / "redis", appendonly=False) as server:
        settings = MeshSettings(_env_file=None, redis_url=server.url, namespace=NAMESPACE)
        env = {
            "MESH_REDIS_URL": server.url, "MESH_NAMESPACE": NAMESPACE, "MESH_LEASE": "2s", "MESH_LOG_FORMAT": "json",
            "MESH_CONCURRENCY": "4", "PROBE_RECORD": str(folder / "record.txt"), "API_PORT": "0",
            "API_ADMIN_KEY": KEY, "REPORT_STORE_URL": str(folder / "store"), "DISPATCHER_JANITOR_EVERY": "1s",
            "DISPATCHER_JANITOR_AFTER": "2s", "SCHEDULER_SCHEDULES_FILE": str(folder / "schedules.toml"),
            "MESH_BROKER_URL": server.url.replace("/0", "/1") if lists else "",
        }  # fmt: skip
        (folder / "schedules.toml").write_text(SCHEDULE)
        processes = [MeshProcess(name, module, env, folder).start() for name, module in ROLES.items()]
        client = open_async(settings, "fuzz")
        try:
            url = await wait_until(
                "the API listens",
                lambda: _found(r'"url":"(http://[^"]+)"', processes[-1].log),
                seconds=60,
            )
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=url or "", headers=headers, timeout=10) as api:
                arena = Arena(client, api, processes)
                follower = asyncio.create_task(arena.follow())
                await wait_until("the worker shows life", lambda: _alive(arena), seconds=60)
                yield arena
                follower.cancel()
        finally:
            await client.aclose()
            for process in processes:
                process.stop()


async def _found(pattern: str, log: Path) -> str | None:
    found = re.search(pattern, log.read_text("utf-8", "replace"))
    return found[1] if found else None


async def _alive(arena: Arena) -> bool:
    roles = ("probe", "probe_sync", "scheduler")
    return all([await arena.redis.zcard(arena.keys.alive(role)) for role in roles])


async def run_over_lists(seed: int, seconds: float, folder: Path) -> Tally:
    """As `run`, where Celery's own lists carry the tasks to the workers."""
    return await run(seed, seconds, folder, lists=True)


async def run(
    seed: int, seconds: float, folder: Path, most: int | None = None, *, lists: bool = False
) -> Tally:
    """Write garbage and look after each piece whether the rest goes on, for that long or so many pieces."""
    tally, rng = Tally("lists" if lists else "keys"), Random(seed)
    async with mesh(folder, lists=lists) as arena:
        if problem := await _works(arena, tally):
            tally.failures.append(f"before any garbage: {problem}")
            return tally
        pids = [process.pid for process in arena.processes]
        before: list[float] = []
        until = time.monotonic() + seconds
        order: list[str] = []
        while time.monotonic() < until and tally.requests != most:
            if not order:
                order = garbage.keys_of(arena.keys, await _live(arena))
                rng.shuffle(order)
            key = order.pop()
            piece = next(garbage.pieces(rng, key, await _present(arena, key)))
            with (folder / "pieces.txt").open("a") as written:
                written.write(f"{time.time():.3f} {piece.words}\n")
            with suppress(redis.ResponseError):  # it has another type already
                await piece.write(arena.redis)
            tally.requests += 1
            if problem := await _works(arena, tally):
                tally.failures.append(f"after {piece.words}: {problem}")
                if arena.ended() or len(tally.failures) > 5:
                    break
            if tally.requests == WARM_UP:
                before = [resident_mb(pid) for pid in pids]
        if before and not arena.ended():
            tally.growth_mb = max(resident_mb(pid) - was for pid, was in zip(pids, before, strict=True))
    return tally


async def _works(arena: Arena, tally: Tally) -> str | None:
    """What does not go on, in words; None when all does."""
    sent = []
    for event_type, task, data in PUBLISHED:
        accepted = await _answered(arena, tally, "POST", "/v1/events", {"type": event_type, "data": data})
        if accepted is None:
            return f"{event_type} was not accepted"
        sent.append((accepted["id"], task))
    for event_id, task in sent:
        if problem := await _done(arena, tally, event_id, task):
            return problem
    if problem := await _ticked(arena, tally):
        return problem
    for path in LISTS:
        if await _answered(arena, tally, "GET", path) is None:
            return f"GET {path} was not answered"
    deadline = time.monotonic() + DONE_SECONDS
    while arena.last_event not in arena.told:
        if time.monotonic() > deadline:
            tally.hangs += 1
            return f"a follower was not told of {arena.last_event}"
        await asyncio.sleep(0.02)
    arena.told.clear()
    if ended := arena.ended():
        return f"ended: {', '.join(ended)}"
    return None


async def _ticked(arena: Arena, tally: Tally) -> str | None:
    deadline = time.monotonic() + DONE_SECONDS
    while time.monotonic() < deadline:
        found = await _answered(arena, tally, "GET", "/v1/events?type=probe.ticked&limit=1") or {"events": []}
        newest = found["events"][0]["id"] if found["events"] else ""
        if newest != arena.last_tick:
            arena.last_tick = newest
            return None
        await asyncio.sleep(0.1)
    tally.hangs += 1
    return f"no tick came in {DONE_SECONDS:g} s"


async def _done(arena: Arena, tally: Tally, event_id: str, event_type: str) -> str | None:
    deadline, state = time.monotonic() + DONE_SECONDS, {}
    while time.monotonic() < deadline:
        state = await _answered(arena, tally, "GET", f"/v1/events/{event_id}?source=fuzz") or {}
        tasks = [one["task"] for one in state.get("deliveries", ()) if one["task"]]
        mine = [task for task in tasks if task["name"] == event_type]
        if state.get("state") == "completed" and mine:
            arena.last_event, arena.last_task = event_id, mine[0]["id"]
            return (
                None
                if mine[0]["state"] == "succeeded"
                else f"{event_type} ended {mine[0]['state']}: {mine[0]['error']}"
            )
        await asyncio.sleep(0.03)
    tally.hangs += 1
    return f"{event_type} was not done in {DONE_SECONDS:g} s; it is {state.get('state')}: {state.get('deliveries')}"[
        :400
    ]


async def _answered(
    arena: Arena, tally: Tally, method: str, path: str, json: object = None
) -> dict[str, Any] | None:
    """The answer; asked again while it is 503, for as long as it takes to set a key of the wrong type aside."""
    deadline = time.monotonic() + MENDED_SECONDS
    body = {**json, "source": "fuzz"} if isinstance(json, dict) else None
    while True:
        try:
            answer = await arena.api.request(method, path, json=body)
        except httpx.TimeoutException:
            tally.hangs += 1
            return None
        except httpx.HTTPError as error:
            tally.failures.append(f"{method} {path}: {error!r}")
            return None
        if answer.status_code == 503 and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            continue
        if answer.status_code in (401, 404) and time.monotonic() < deadline:  # its key or row was just spoilt
            await asyncio.sleep(0.1)
            continue
        if answer.status_code >= 500:
            tally.server_errors += 1
            tally.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return None
        return (
            answer.json()
            if answer.status_code < 300 and answer.content
            else {}
            if answer.status_code < 300
            else None
        )


async def _live(arena: Arena) -> list[str]:
    """Rows of what was there and has ended: their readers must step over them as well."""
    keys = arena.keys
    return [keys.event(arena.last_event), keys.task(arena.last_task)]


async def _present(arena: Arena, key: str) -> list[bytes]:
    if type_of(key) == "hash":
        with suppress(redis.ResponseError):
            return sorted(await arena.redis.hkeys(key))[:50]
    return []
