"""Publishes events: once per (source, id), all of a batch or nothing, in one round trip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import redis
import redis.asyncio

from streammesh import lua
from streammesh.errors import EventConflict, MeshFull, MeshUnavailable
from streammesh.events.encoded import Sealed, seal
from streammesh.events.envelope import Event, build, check_size
from streammesh.events.traced import traced
from streammesh.identity import identity_of, recent_parts
from streammesh.keys import Keys
from streammesh.lua.events import BatchedEvent, EventKind, PublishOnceScript, SoughtIdentity, StoredEvent
from streammesh.lua.signature import quick
from streammesh.names import domain_of
from streammesh.redisio.refusals import Refusal, is_unavailable, refusal_of
from streammesh.settings import MeshSettings


class Published(NamedTuple):
    """What became of one event: stored, or known already. `entry` is its place in the stream, or `held`."""

    id: str
    source: str
    type: str
    duplicate: bool
    entry: str


_batched, _sought = quick(BatchedEvent), quick(SoughtIdentity)
AGAIN = ord("=")  # before the position of an event that was known already


def ms(span: timedelta) -> int:
    """A timedelta in whole milliseconds."""
    return round(span.total_seconds() * 1000)


def most_bytes(settings: MeshSettings) -> int:
    """How large the envelope of an event in a stream may be; a lane parks what is larger.

    Well above what comes in by the door, whose limit is on the body: base64, attributes and what the API
    fills in come on top.
    """
    return 2 * settings.max_event_bytes + 131_072


def stored_form(keys: Keys, settings: MeshSettings, event: Event) -> StoredEvent:
    """What every script stores one event by; see `_event.lua`."""
    deliver_at, digest = event.deliver_at_ms, event.digest()
    sets: list[str] = []
    name = content = 0
    if settings.has_history:
        sets, name, content = sought(keys, settings, recent(settings), event.id, event.source, digest)
    return StoredEvent(
        row=keys.event(event.id),
        stream=keys.events(event.domain),
        source=event.source,
        id=event.id,
        digest=digest,
        domain=event.domain,
        deliver_at="" if deliver_at is None else deliver_at,
        name=name,
        content=content,
        json=event.to_json(),
        sets=sets,
    )


def recent(settings: MeshSettings) -> range:
    """The parts of time in which an identity is looked for."""
    return recent_parts(time.time() * 1000, settings.dedup_window)


def sought(
    keys: Keys, settings: MeshSettings, parts: range, id: str, source: str, digest: str
) -> tuple[list[str], int, int]:
    """The sets in which an identity lies whose event's row has left, and its two numbers."""
    bucket, name, content = identity_of(source, id, digest)
    return [keys.identity(part, bucket) for part in parts], name, content


def publish_call(keys: Keys, settings: MeshSettings, events: Sequence[Sealed]) -> lua.Call[list[Published]]:
    """`publish_once.lua`. Its answer raises EventConflict when an identity has another content already.

    Raises EventTooLarge at once.
    """
    most = most_bytes(settings)
    # What events have in common is sent once: most of a batch has one source and one stream.
    kinds: dict[tuple[str, str, int | None], int] = {}
    batch: list[BatchedEvent] = []
    row_prefix = keys.event("")
    identities: list[SoughtIdentity] = []
    parts = recent(settings) if settings.has_history else None
    for id, source, event_type, digest, deliver_at, json in events:
        if len(json) > most:
            check_size(len(json), most)
        kind = kinds.get((source, event_type, deliver_at))
        if kind is None:
            kind = kinds[source, event_type, deliver_at] = len(kinds) + 1
        batch.append(_batched(row=row_prefix + id, kind=kind, digest=digest, json=json))
        if parts is not None:
            sets, name, content = sought(keys, settings, parts, id, source, digest)
            identities.append(_sought(name=name, content=content, sets=sets))

    def parse(answer: list[Any]) -> list[Published]:
        if answer[0] == b"conflict":
            at = events[answer[1]]
            raise EventConflict(answer[1], at.source, at.id)
        if answer[0] == b"full":
            raise MeshFull(answer[1], answer[2], settings.memory_mark)
        return [
            Published(event.id, event.source, event.type, entry[0] == AGAIN, entry[1:].decode())
            for event, entry in zip(events, answer, strict=True)
        ]

    return PublishOnceScript(
        domains=keys.domains(),
        due=keys.due(),
        due_entries=keys.due_entries(),
        counters=keys.counters(),
        memory_row=keys.memory(),
        # An event is a duplicate for as long as its row says what became of it: if it were taken for new
        # while its tasks are known, it would be stored and never handed over.
        retention=ms(settings.remembered),
        changed=keys.manifests_changed(),
        prefix=len(row_prefix),
        mark=settings.memory_mark,
        identities=identities,
        kinds=[_kind(keys, source, event_type, at) for source, event_type, at in kinds],
        events=batch,
    ).call(parse)


def _kind(keys: Keys, source: str, event_type: str, deliver_at: int | None) -> EventKind:
    domain = domain_of(event_type)
    at = "" if deliver_at is None else deliver_at
    return EventKind(stream=keys.events(domain), source=source, domain=domain, deliver_at=at)


@contextmanager
def unavailable() -> Any:
    """Turns errors that mean "Redis is away or full" into MeshUnavailable."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            raise unavailable_for(error) from error
        raise


def unavailable_for(error: Exception) -> MeshUnavailable:
    """What a caller is told of an error of Redis that is none of the call's."""
    return MeshFull() if refusal_of(error) is Refusal.FULL else MeshUnavailable(str(error))


class Publisher:
    """Publishes straight into the streams, for services inside the mesh.

    `publish` and `publish_events` are one round trip each and return when Redis has the events. They
    raise InvalidEvent, EventTooLarge, EventConflict, and MeshUnavailable when Redis is away or full; after any of
    these nothing of the call was stored, or, when a reply was lost, all of it: the same call with
    the same ids may be made again.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings, source: str) -> None:
        self._client, self._keys, self._settings, self.source = client, keys, settings, source

    async def publish(self, event_type: str, data: Any, **attributes: Any) -> Published:
        """Publish one event; `attributes` as in `build`."""
        return (await self.publish_events([build(self.source, event_type, data, **attributes)]))[0]

    async def publish_events(self, events: Sequence[Event]) -> list[Published]:
        """Publish a batch, all or nothing, in order."""
        if not events:
            return []
        with unavailable(), traced([seal(event) for event in events]) as sealed:
            return await lua.run(self._client, publish_call(self._keys, self._settings, sealed))


class SyncPublisher:
    """As `Publisher`, blocking; for code without an event loop."""

    def __init__(self, client: redis.Redis, keys: Keys, settings: MeshSettings, source: str) -> None:
        self._client, self._keys, self._settings, self.source = client, keys, settings, source

    def publish(self, event_type: str, data: Any, **attributes: Any) -> Published:
        """Publish one event; `attributes` as in `build`."""
        return self.publish_events([build(self.source, event_type, data, **attributes)])[0]

    def publish_events(self, events: Sequence[Event]) -> list[Published]:
        """Publish a batch, all or nothing, in order."""
        if not events:
            return []
        with unavailable(), traced([seal(event) for event in events]) as sealed:
            return lua.run_sync(self._client, publish_call(self._keys, self._settings, sealed))
