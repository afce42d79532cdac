"""The streams of events and the mesh's totals: what was published, by domain and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from streammesh import lua
from streammesh.clock import rfc3339_ms
from streammesh.keys import Keys
from streammesh.lua.queues import ReadStreamsScript
from streammesh.redisio.answers import only, there

TOTALS = ("published", "duplicates", "handed_over", "unrouted", "parked")
LAST_MS = 253_402_300_799_999  # the year 9999 ends; a position may lie beyond, put there by hand


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream of one domain: how many events it keeps, how many it ever had, when the last one came."""

    domain: str
    kept: int
    published: int
    last_ms: int | None

    def document(self) -> dict[str, Any]:
        """As the API tells it."""
        last = None if self.last_ms is None else rfc3339_ms(min(self.last_ms, LAST_MS))
        return {"domain": self.domain, "kept": self.kept, "published": self.published, "last_at": last}


def read_streams_call(keys: Keys, domains: Sequence[str]) -> lua.Call[list[StreamState]]:
    """`read_streams.lua`: the streams of these domains, in their order; no payload is read."""

    def parse(answer: list[Any]) -> list[StreamState]:
        return [
            StreamState(domain, int(kept), int(added), int(last.partition(b"-")[0]) or None if last else None)
            for domain, (kept, added, last) in zip(domains, answer, strict=True)
        ]

    return ReadStreamsScript(streams=[keys.events(domain) for domain in domains]).call(parse)


async def read_totals(client: redis.asyncio.Redis, keys: Keys) -> dict[str, int]:
    """What was counted since the mesh began, by name; what is no number counts as none."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(keys.counters(), TOTALS)
    values = there(await only(pipeline), [None] * len(TOTALS))
    return {
        name: int(value) if value and value.isdigit() else 0
        for name, value in zip(TOTALS, values, strict=True)
    }
