"""What was promised, held against what took effect. Nothing here asks the code under test."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import orjson
import redis.asyncio

from tests.simulation.world import World

ENDS = {"task.succeeded", "task.failed", "task.cancelled", "task.expired", "task.skipped", "task.folded"}


async def notes(client: redis.asyncio.Redis, world: World) -> list[tuple[str, str, dict[Any, Any]]]:
    """Return every notification that is kept: position, type, body."""
    found = await client.xrange(world.keys.notifications())
    return [(at.decode(), fields[b"t"].decode(), fields) for at, fields in found]


async def ends(client: redis.asyncio.Redis, world: World) -> dict[str, list[str]]:
    """Return how each task that was ever queued or set aside ended, in order: once, if all is well."""
    found: dict[str, list[str]] = {}
    for _, kind, fields in await notes(client, world):
        if task := fields.get(b"k", b"").decode():
            found.setdefault(task, []).extend([kind] if kind in ENDS else [])
    return found


async def quiet(client: redis.asyncio.Redis, world: World, services: list[str]) -> str:
    """Return what is not at rest yet: nothing pending, queued, open or due may be left."""
    keys = world.keys
    for service in services:
        if left := await client.xlen(keys.queue(service)):
            return f"{left} entries in the queue of {service}"
        if left := await client.zcard(keys.open_tasks(service)):
            return f"{left} tasks of {service} are open"
    if left := await client.zcard(keys.due()):
        return f"{left} due"
    return ""


async def all_told(
    client: redis.asyncio.Redis, world: World, services: list[str], published: int, total: int
) -> str:
    """Return what is missing until `published` events and their follow-ups, `total` in all, have ended."""
    if missing := published - len(world.told.accepted):
        return f"{missing} events not accepted yet"
    ended = Counter(kind for _, kind, _ in await notes(client, world) if kind == "event.completed")
    if sum(ended.values()) < total:
        return f"{sum(ended.values())} of {total} events completed"
    return await quiet(client, world, services)


async def exactly_once(
    client: redis.asyncio.Redis, world: World, wanted: dict[str, int], *, requeued: bool = False
) -> None:
    """Each event was stored once, each delivery queued and ended once. `wanted`: event id -> deliveries.

    `requeued`: what is set aside in between may be queued more than once.
    """
    queued: Counter[str] = Counter()
    ended: defaultdict[str, list[str]] = defaultdict(list)
    completed: Counter[str] = Counter()
    deliveries: defaultdict[str, set[str]] = defaultdict(set)
    for _, kind, fields in await notes(client, world):
        event, task = fields[b"e"].decode(), fields.get(b"k", b"").decode()
        if kind == "task.queued":
            queued[task] += 1
            deliveries[event].add(task)
        elif kind in ENDS:
            ended[task].append(kind)
        elif kind == "event.completed":
            completed[event] += 1
    for event, count in wanted.items():
        assert len(deliveries[event]) == count, f"{event}: {len(deliveries[event])} deliveries, not {count}"
        assert completed[event] == 1, f"{event} was completed {completed[event]} times"
    again = {task: count for task, count in queued.items() if count != 1}
    assert requeued or not again, f"queued more than once: {again}; {world.striker.history}"
    wrong = {task: kinds for task in queued if len(kinds := ended[task]) != 1}
    assert not wrong, f"not ended exactly once: {wrong}"
    for task in queued:
        assert world.told.ran.get(task), f"{task} ended and no handler ran"


async def stored_once(client: redis.asyncio.Redis, world: World, domain: str) -> None:
    """Every accepted event lies in the stream once, where its publisher was told; nothing lies there unasked."""
    found = await client.xrange(world.keys.events(domain))
    at = {entry.decode(): orjson.loads(fields[b"e"])["id"] for entry, fields in found}
    count = Counter(at.values())
    assert all(n == 1 for n in count.values()), f"stored more than once: {count}"
    for id_, entry in world.told.accepted.items():
        assert at.get(entry) == id_, f"{id_} was accepted as {entry}, where {at.get(entry)} lies"
    assert set(count) <= world.told.tried | set(world.told.accepted)


async def followed_up_once(
    client: redis.asyncio.Redis, world: World, event_type: str, causes: list[str]
) -> None:
    """Each cause led to one follow-up event: it left together with the one result, and never twice."""
    found = await client.xrange(world.keys.events(event_type.partition(".")[0]))
    of = Counter(orjson.loads(fields[b"e"])["data"]["of"] for _, fields in found)
    assert of == Counter(causes), f"follow-up events: {of}"


async def gapless(client: redis.asyncio.Redis, world: World) -> None:
    """What each follower got is the record from its beginning on, in order, without a gap, nothing twice."""
    record = [at for at, _, _ in await notes(client, world)]
    for follower, got in world.told.followed.items():
        assert got == record[: len(got)], (
            f"{follower} got {len(got)}: a gap or a double at {_first(got, record)}"
        )


def _first(got: list[str], record: list[str]) -> Any:
    return next(((i, a, b) for i, (a, b) in enumerate(zip(got, record, strict=False)) if a != b), None)
