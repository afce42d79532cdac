"""What waits in a shard for other shards: events that no dispatcher has brought there yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import redis.asyncio

from streammesh import lua
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.status.queues import read_queues_call


@dataclass(frozen=True, slots=True)
class OutboxState:
    """The events that wait for one other shard, and when the first of them came."""

    shard: int
    events: int
    oldest_ms: int | None = None


async def read_outboxes(
    client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings
) -> tuple[OutboxState, ...]:
    """Each outbox of this shard, by the shard that its events belong to; no payload is read."""
    shards = settings.whole.shards
    if shards == 1:
        return ()
    others = [number for number in range(shards) if number != (settings.shard or 0)]
    told, _ = await lua.run(client, read_queues_call([keys.outbox(number) for number in others]))
    return tuple(
        OutboxState(number, one.entries, one.oldest_ms) for number, one in zip(others, told, strict=True)
    )


def added(each: Iterable[OutboxState]) -> tuple[OutboxState, ...]:
    """Return what waits for each shard in all others together."""
    found: dict[int, OutboxState] = {}
    for one in each:
        known = found.get(one.shard, OutboxState(one.shard, 0))
        ages = [ms for ms in (known.oldest_ms, one.oldest_ms) if ms]
        found[one.shard] = OutboxState(one.shard, known.events + one.events, min(ages, default=None))
    return tuple(found[number] for number in sorted(found))
