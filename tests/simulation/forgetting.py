"""A server that comes back without its last second, as one with `appendfsync everysec` may: what must hold all the same.

What publishers were answered in that second may be gone, and handlers may run again for it. Nothing else may be: what
lies in the server is of one moment, so the mesh has to go on from it to a quiet end, in which every task that the
record knows was queued once and ended once. What people did in that second they do again (`operators.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import orjson
import redis.asyncio

from tests.simulation import checkers
from tests.simulation.sometimes import declare, sometimes

if TYPE_CHECKING:
    from tests.simulation.world import World

declare(
    "an event was accepted and then forgotten",
    "a follower had got what was then forgotten",
    "a handler ran again for what was forgotten",
    "an errand was done again because it was forgotten",
)


class Forgotten(Exception):
    """The schedule has ended: the server forgot something, and what must hold all the same did hold."""


async def unrest(client: redis.asyncio.Redis, world: World) -> str:
    """Return what is still under way, or ""."""
    if world.to_publish > len(world.told.accepted):
        return "events not accepted yet"
    for service in await client.hkeys(world.keys.manifests()):
        for stream in await _event_streams(client, world):
            for group in await client.xinfo_groups(stream):
                if group["name"] == service and (group["pending"] or group["lag"]):
                    return f"{service.decode()} has not had all of {stream}"
    if missing := await checkers.quiet(client, world, sorted(world.working)):
        return missing
    record = [at for at, _, _ in await checkers.notes(client, world)]
    for name, got in world.told.followed.items():
        if record and (not got or got[-1] < record[-1]):
            return f"{name} has not had all"
    return ""


async def check(client: redis.asyncio.Redis, world: World) -> None:
    """Fail when more is gone, or done twice, than a lost second explains."""
    stored: dict[str, str] = {}
    for stream in await _event_streams(client, world):
        for entry, fields in await client.xrange(stream):
            try:
                event = orjson.loads(fields[b"e"])
            except orjson.JSONDecodeError:
                continue  # litter
            name = f"{event['source']} {event['id']}"
            assert name not in stored, f"{name} is stored twice; {world.striker.history}"
            stored[name] = entry.decode()
    for id_, entry in world.told.accepted.items():
        gone = stored.get(f"outside {id_}") != entry
        sometimes("an event was accepted and then forgotten", gone)
        assert not gone or world.may_be_forgotten(_when(entry)) or world.trims, (
            f"{id_} was accepted as {entry} and is gone; {world.striker.history}"
        )
    notes = await checkers.notes(client, world)
    queued = Counter(fields.get(b"k", b"").decode() for _, kind, fields in notes if kind == "task.queued")
    ends = await checkers.ends(client, world)
    services = await client.hkeys(world.keys.manifests())
    least = int({service.decode() for service in services} <= world.working)
    for task, count in queued.items():
        assert least <= len(ends[task]) <= (count if world.lives_again else 1), (
            f"{task} was queued {count} times and ended as {ends[task]}; {world.striker.history}"
        )
    for runs in world.told.ran.values():
        attempts = [attempt for attempt, _ in runs]
        sometimes("a handler ran again for what was forgotten", len(attempts) > len(set(attempts)))
    for follower, got in world.told.followed.items():
        _gapless_but_for_what_is_gone(world, follower, got, [at for at, _, _ in notes])


def _gapless_but_for_what_is_gone(world: World, follower: str, got: list[str], record: list[str]) -> None:
    kept = set(record)
    gone = [at for at in got if at not in kept]
    sometimes("a follower had got what was then forgotten", bool(gone))
    for at in gone:
        assert world.may_be_forgotten(_when(at)) or world.trims, (
            f"{follower} got {at}, which is nowhere; {world.striker.history}"
        )
    rest = [at for at in got if at in kept]
    assert rest == record[: len(rest)] or world.trims, (
        f"{follower} got {len(rest)} of {len(record)}: a gap or a double; {world.striker.history}"
    )


def _when(entry: str) -> float:
    """Return when an entry was written, by the server's clock."""
    return int(entry.partition("-")[0]) / 1000


async def _event_streams(client: redis.asyncio.Redis, world: World) -> list[str]:
    found: list[bytes] = await client.keys(world.keys.events("*"))
    return sorted(key.decode() for key in found)
