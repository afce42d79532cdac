"""What waits in queues, and since when; no payload is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from streammesh import lua
from streammesh.keys import WORKERS, Keys
from streammesh.lua.queues import ReadQueuesScript
from streammesh.subscriptions.manifest import Manifest

QUEUES_AT_ONCE = 50  # services


@dataclass(frozen=True, slots=True)
class StreamBacklog:
    """A stream that workers read: its entries, those that they hold, and when the first of the others came."""

    entries: int
    held: int
    oldest_ms: int | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queues of one service together."""

    length: int
    waiting: int
    oldest_ms: int | None
    dead_letters: int


def read_queues_call(
    streams: Sequence[str], indexes: Sequence[str] = ()
) -> lua.Call[tuple[list[StreamBacklog], list[int]]]:
    """`read_queues.lua`: these streams, and how many dead letters each index has, in their order."""

    def parse(answer: list[Any]) -> tuple[list[StreamBacklog], list[int]]:
        told, dead = answer
        return [
            StreamBacklog(length, held, int(at.partition(b"-")[0]) or None if at else None)
            for length, held, at in told
        ], dead

    return ReadQueuesScript(group=WORKERS, streams=list(streams), indexes=list(indexes)).call(parse)


async def read_queues(
    client: redis.asyncio.Redis, keys: Keys, manifests: Sequence[Manifest]
) -> dict[str, QueueState]:
    """The queues of each service, some services in one round trip: a few milliseconds of the server."""
    found: dict[str, QueueState] = {}
    for first in range(0, len(manifests), QUEUES_AT_ONCE):
        some = manifests[first : first + QUEUES_AT_ONCE]
        streams = [[s for queue in one.queue_names for s in keys.queue_streams(queue)] for one in some]
        indexes = [keys.dead_index(one.service) for one in some]
        told, dead = await lua.run(
            client, read_queues_call([stream for mine in streams for stream in mine], indexes)
        )
        rest = iter(told)
        for one, mine, letters in zip(some, streams, dead, strict=True):
            states = [next(rest) for _ in mine]
            found[one.service] = QueueState(
                length=sum(state.entries for state in states),
                waiting=sum(max(0, state.entries - state.held) for state in states),
                oldest_ms=min((state.oldest_ms for state in states if state.oldest_ms), default=None),
                dead_letters=letters,
            )
    return found
