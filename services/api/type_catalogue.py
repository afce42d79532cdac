"""Which event types there are: what services declare, and what was published lately, from a bounded look at the streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgspec
import redis.asyncio
from streammesh import names
from streammesh.events.envelope import LARGEST
from streammesh.keys import Keys
from streammesh.notifications import position_key
from streammesh.redisio.turns import Turns
from streammesh.subscriptions.filters import Where
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import Registered, read_registered

from services.api.read_limit import ReadLimit

FRESH_SECONDS = 10.0  # how long one look serves all who ask
LOOKED_AT = 200  # events of each domain, the newest
AT_ONCE = 10  # domains in one round trip
MOST_DOMAINS = 500
MOST_BYTES = 16_000_000  # of one look
MOST_TYPES = 5_000  # that are remembered
MOST_SOURCES = 50  # of one type


class _Head(msgspec.Struct):
    """What is read of an event."""

    type: str
    source: str


_HEAD = msgspec.json.Decoder(_Head)


@dataclass(slots=True)
class KnownPublisher:
    """Who publishes a type: `schema` where a service declares it; when it was last seen, in ms."""

    source: str
    declared: bool = False
    schema: Mapping[str, Any] | None = None
    last_ms: int | None = None


@dataclass(slots=True)
class KnownReader:
    """A subscription that covers a type."""

    service: str
    task: str
    pattern: str
    where: Where
    schema: Mapping[str, Any] | None


@dataclass(slots=True)
class KnownType:
    """One event type."""

    name: str
    publishers: dict[str, KnownPublisher] = field(default_factory=dict)
    readers: list[KnownReader] = field(default_factory=list)

    @property
    def last_ms(self) -> int | None:
        """When it was last seen; None where it was not."""
        return max((one.last_ms for one in self.publishers.values() if one.last_ms), default=None)


class TypeCatalogue:
    """One instance per process; it remembers the types that it saw, so that a busy one hides no other."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, reading: ReadLimit) -> None:
        self._client, self._keys, self._reading = client, keys, reading
        self._lock = asyncio.Lock()
        self._seen: dict[str, dict[str, int]] = {}  # type -> source -> ms
        self._looked: tuple[float, Registered] | None = None

    async def all(self) -> dict[str, KnownType]:
        """Return every type that is known, by name. Raises MeshUnavailable."""
        async with self._reading(), self._lock:
            if self._looked is None or monotonic() - self._looked[0] > FRESH_SECONDS:
                registered = await read_registered(self._client, self._keys)
                await self._look(sorted(registered.domains)[:MOST_DOMAINS])
                self._looked = monotonic(), registered
            return catalogue(self._looked[1].manifests, self._seen)

    async def _look(self, domains: list[str]) -> None:
        size, turns = 0, Turns()
        for first in range(0, len(domains), AT_ONCE):
            pipeline = self._client.pipeline(transaction=False)
            for domain in domains[first : first + AT_ONCE]:
                pipeline.xrevrange(self._keys.events(domain), count=LOOKED_AT)
            for entries in await pipeline.execute(raise_on_error=False):
                for position, fields in entries if isinstance(entries, list) else ():
                    raw = (fields or {}).get(b"e", b"")
                    size += len(raw)
                    self._see(position, raw)
                    await turns.give()
            if size > MOST_BYTES:
                return

    def _see(self, position: bytes, raw: bytes) -> None:
        try:
            head = _HEAD.decode(raw) if len(raw) <= LARGEST else None
        except (msgspec.DecodeError, RecursionError):
            return  # whoever wrote it
        if head is None or not names.is_type(head.type):
            return
        sources = self._seen.setdefault(head.type, {})
        if head.source in sources or len(sources) < MOST_SOURCES:
            sources[head.source] = max(sources.get(head.source, 0), position_key(position.decode())[0])
        if len(self._seen) > MOST_TYPES:
            del self._seen[min(self._seen, key=lambda name: max(self._seen[name].values(), default=0))]


def catalogue(manifests: Iterable[Manifest], seen: Mapping[str, Mapping[str, int]]) -> dict[str, KnownType]:
    """Return the types that are declared or were seen, with who publishes and who reads them. Pure."""
    found: dict[str, KnownType] = {}
    manifests = list(manifests)
    for name, sources in seen.items():
        known = found.setdefault(name, KnownType(name))
        for source, last_ms in sources.items():
            known.publishers[source] = KnownPublisher(source, last_ms=last_ms)
    for manifest in manifests:
        for name, schema in manifest.publishes.items():
            publishers = found.setdefault(name, KnownType(name)).publishers
            publisher = publishers.setdefault(manifest.service, KnownPublisher(manifest.service))
            publisher.declared, publisher.schema = True, schema
        for subscription in manifest.subscriptions:
            if not names.is_glob(subscription.type):
                found.setdefault(subscription.type, KnownType(subscription.type))
    for manifest in manifests:
        for one in manifest.subscriptions:
            reader = KnownReader(
                manifest.service, one.task, one.type, one.where, manifest.schemas.get(one.task)
            )
            covered = (
                (name for name in found if names.matches(one.type, name))
                if names.is_glob(one.type)
                else (one.type,)
            )
            for name in covered:
                found[name].readers.append(reader)
    return found
