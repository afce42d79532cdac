"""Which shard of a mesh an event belongs to, and a publisher that speaks to all of them.

A shard is a mesh of its own: streams, queues, records and notifications lie together in one Redis primary, so every
script and every promise is the same with shards as without. An event belongs to the shard of its `partitionkey`, or of
its identity where it has none; what comes of it stays there, unless it has a `partitionkey` of another shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from streammesh import plain_json
from streammesh.errors import EventConflict, MeshError, MeshUnavailable
from streammesh.events.encoded import Sealed
from streammesh.events.envelope import Event, build
from streammesh.events.publisher import Published, Publisher, SyncPublisher, stored_form
from streammesh.keys import Keys
from streammesh.lua.events import StoredEvent
from streammesh.redisio.client import open_async, open_sync
from streammesh.settings import MeshSettings

PARTITION_KEY = "partitionkey"  # an extension of CloudEvents
E = TypeVar("E")
_MARK = b'"partitionkey"'


def shard_of(partition_key: str | None, source: str, id: str, shards: int) -> int:
    """Return the number of the shard that an event belongs to. It is the same in every process and version."""
    if shards == 1:
        return 0
    text = f"{source}\0{id}" if partition_key is None else f"\0{partition_key}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % shards


def shard_of_sealed(event: Sealed, shards: int) -> int:
    """As `shard_of`, for an event as it is stored."""
    if shards == 1:
        return 0
    key = plain_json.loads(event.json).get(PARTITION_KEY) if _MARK in event.json else None
    return shard_of(key if isinstance(key, str) and key else None, event.source, event.id, shards)


def shard_of_event(event: Event, shards: int) -> int:
    """As `shard_of`, for an event."""
    key = event.extensions.get(PARTITION_KEY)
    return shard_of(key if isinstance(key, str) and key else None, event.source, event.id, shards)


def outboxes(keys: Keys, settings: MeshSettings) -> list[str]:
    """Return the outbox for each other shard of the mesh; none where there is one shard."""
    return [keys.outbox(number) for number in other_shards(settings)]


def other_shards(settings: MeshSettings) -> list[int]:
    """Return the numbers of the mesh's other shards; none where there is one shard."""
    return [number for number in range(settings.whole.shards) if number != (settings.shard or 0)]


def stored_or_sent(keys: Keys, settings: MeshSettings, event: Event) -> StoredEvent:
    """Return what a script stores an event by that is published in a shard: as `stored_form`, unless it has a
    `partitionkey` of another shard; then it goes into the outbox, from which a dispatcher brings it there.
    """
    shards = settings.whole.shards
    key = event.extensions.get(PARTITION_KEY) if shards > 1 else None
    if not isinstance(key, str) or not key:
        return stored_form(keys, settings, event)
    target = shard_of(key, event.source, event.id, shards)
    if target == settings.shard:
        return stored_form(keys, settings, event)
    return StoredEvent(
        row=keys.event(event.id),
        stream=keys.outbox(target),
        source=event.source,
        id=event.id,
        digest="",
        domain="",
        deliver_at="",
        name=0,
        content=0,
        json=event.to_json(),
        sets=[],
    )


async def stored_in_parts(
    events: Sequence[E],
    numbers: Sequence[int],
    store: Callable[[int, Sequence[E]], Awaitable[list[Published]]],
) -> list[Published]:
    """Store each event in the shard of its number, all shards at once; return what became of each, in order.

    Raises what `store` raised where nothing was stored, and PartlyStored where some was.
    """
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    answers = await asyncio.gather(
        *(store(number, [events[place] for place in part]) for number, part in places.items()),
        return_exceptions=True,
    )
    stored: dict[int, Published] = {}
    failed: list[tuple[list[int], BaseException]] = []
    for part, answer in zip(places.values(), answers, strict=True):
        if isinstance(answer, BaseException):
            failed.append((part, answer))
        else:
            stored.update(zip(part, answer, strict=True))
    for part, error in failed:
        if stored and isinstance(error, MeshError):
            raise PartlyStored(
                [stored[place] for place in sorted(stored)], len(events), str(error)
            ) from error
        if isinstance(error, EventConflict):
            raise EventConflict(part[error.index], error.source, error.event_id) from error
        raise error
    return [stored[place] for place in range(len(events))]


class PartlyStored(MeshUnavailable):
    """One of several shards did not store its part of a batch, and others did. The same call may be made again."""

    def __init__(self, stored: Sequence[Published], wanted: int, reason: str) -> None:
        self.stored = stored
        super().__init__(f"{len(stored)} of {wanted} events were stored; of the others: {reason}")


def each_shard(whole: MeshSettings) -> list[MeshSettings]:
    """Return the settings of each shard, in their order; of a mesh without shards its own."""
    return [whole.of_shard(number) for number in range(whole.shards)]


class ShardedPublisher:
    """As `Publisher`, for a mesh of any number of shards.

    A batch is stored all or nothing in each shard. Where one of several shards did not take its part it raises
    PartlyStored, which says what was stored; the same call with the same ids may be made again.
    """

    def __init__(self, settings: MeshSettings, source: str) -> None:
        self.source, self._shards = source, settings.shards
        each = each_shard(settings)
        self._clients = [open_async(shard, "publisher") for shard in each]
        self._publishers = [
            Publisher(client, Keys(shard.namespace), shard, source)
            for client, shard in zip(self._clients, each, strict=True)
        ]

    async def publish(self, event_type: str, data: Any, **attributes: Any) -> Published:
        """Publish one event; `attributes` as in `build`."""
        return (await self.publish_events([build(self.source, event_type, data, **attributes)]))[0]

    async def publish_events(self, events: Sequence[Event]) -> list[Published]:
        """Publish a batch, all or nothing in each shard."""
        numbers = [shard_of_event(event, self._shards) for event in events]
        return await stored_in_parts(
            events, numbers, lambda number, part: self._publishers[number].publish_events(part)
        )

    async def aclose(self) -> None:
        """Close its connections."""
        for client in self._clients:
            await client.aclose()


class SyncShardedPublisher:
    """As `ShardedPublisher`, blocking; the shards one after the other."""

    def __init__(self, settings: MeshSettings, source: str) -> None:
        self.source, each = source, each_shard(settings.whole)
        self._clients = [open_sync(shard, source) for shard in each]
        self._publishers = [
            SyncPublisher(client, Keys(shard.namespace), shard, source)
            for client, shard in zip(self._clients, each, strict=True)
        ]

    def publish_events(self, events: Sequence[Event]) -> list[Published]:
        """Publish a batch, all or nothing in each shard; raises as `SyncPublisher`, and may be repeated."""
        count = len(self._publishers)
        if count == 1:
            return self._publishers[0].publish_events(events)
        places: dict[int, list[int]] = {}
        for place, event in enumerate(events):
            places.setdefault(shard_of_event(event, count), []).append(place)
        stored: dict[int, Published] = {}
        for number, part in places.items():
            try:
                answers = self._publishers[number].publish_events([events[place] for place in part])
            except EventConflict as error:
                raise EventConflict(part[error.index], error.source, error.event_id) from error
            stored.update(zip(part, answers, strict=True))
        return [stored[place] for place in range(len(events))]

    def close(self) -> None:
        """Close its connections."""
        for client in self._clients:
            client.close()
