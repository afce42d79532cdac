"""Reads event streams: as a member of a consumer group (new entries, own pending ones, other people's stale ones),
and from positions that the caller keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import redis.asyncio

from streammesh import lua
from streammesh.events.publisher import ms
from streammesh.keys import UNCLAIMED, Keys
from streammesh.lua.services import JoinedDomain, JoinGroupScript


class Entry(NamedTuple):
    """One stream entry as read; `envelope` is None when the entry has none (it was made by hand, or trimmed)."""

    domain: str
    position: str
    envelope: bytes | None


class GroupReader:
    """One consumer of one group over the streams of several domains.

    `blocking` is a client of its own for reading new entries, which waits and never repeats a command; `client`
    is for everything else. `patience`: how long an answer may be overdue before its connection is given up.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        blocking: redis.asyncio.Redis,
        keys: Keys,
        group: str,
        consumer: str,
        patience: timedelta = timedelta(seconds=3),
    ) -> None:
        self._client, self._blocking, self._keys = client, blocking, keys
        self._group, self._consumer, self._patience = group, consumer, patience

    async def join(self, domains: Sequence[str], *, at: str = "0") -> bool:
        """Make the group on each domain's stream where it is missing, at position `at`, or where the service joined.

        Answers False, and makes none, where the service was taken away.
        """
        keys = self._keys
        call = JoinGroupScript(
            manifests=keys.manifests(),
            version=keys.manifests_version(),
            joined=keys.joined(),
            group=self._group,
            start=at,
            is_service=self._group != UNCLAIMED,
            domains=[
                JoinedDomain(stream=keys.events(domain), routed=keys.routed(domain), domain=domain)
                for domain in domains
            ],
        ).call(bool)
        return await lua.run(self._client, call)

    async def leave(self, domain: str) -> None:
        """Remove the group from one domain's stream."""
        await self._client.xgroup_destroy(self._keys.events(domain), self._group)

    async def read(self, domains: Sequence[str], count: int, block: timedelta | None) -> list[Entry]:
        """New entries, up to `count` per domain; waits up to `block` for one. None does not wait.

        Raises TimeoutError when the connection stays silent. What its answer would have brought is among `mine`
        then, as after any error of a connection: the read must not be repeated behind the caller's back.
        """
        async with asyncio.timeout(((block or timedelta()) + self._patience).total_seconds()):
            answer = await self._blocking.xreadgroup(
                self._group,
                self._consumer,
                {self._keys.events(domain): ">" for domain in domains},
                count=count,
                block=None if block is None else ms(block),
            )
        return self._entries(domains, answer)

    async def mine(self, domains: Sequence[str], count: int) -> list[Entry]:
        """Entries that this consumer was given and has not acknowledged, oldest first."""
        answer = await self._client.xreadgroup(
            self._group, self._consumer, {self._keys.events(domain): "0" for domain in domains}, count=count
        )
        return self._entries(domains, answer)

    async def reclaim(self, domains: Sequence[str], idle: timedelta, count: int) -> list[Entry]:
        """Take over entries that another consumer was given and has not acknowledged for `idle`."""
        pipeline = self._client.pipeline(transaction=False)
        for domain in domains:
            pipeline.xautoclaim(self._keys.events(domain), self._group, self._consumer, ms(idle), count=count)
        answers = await pipeline.execute()
        return [
            Entry(domain, _text(position), (fields or {}).get(b"e"))
            for domain, answer in zip(domains, answers, strict=True)
            for position, fields in answer[1]
        ]

    def _entries(self, domains: Sequence[str], answer: Any) -> list[Entry]:
        return _entries(self._keys, domains, answer)


async def read_after(
    blocking: redis.asyncio.Redis,
    keys: Keys,
    positions: Mapping[str, str],
    count: int,
    block: timedelta | None,
    patience: timedelta,
) -> list[Entry]:
    """Entries of several domains after a position of each, up to `count` per domain; waits up to `block` for one.

    Raises TimeoutError when the connection stays silent for `patience` more.
    """
    async with asyncio.timeout(((block or timedelta()) + patience).total_seconds()):
        answer = await blocking.xread(
            {keys.events(domain): position for domain, position in positions.items()},
            count=count,
            block=None if block is None else ms(block),
        )
    return _entries(keys, list(positions), answer)


def _entries(keys: Keys, domains: Sequence[str], answer: Any) -> list[Entry]:
    if not answer:
        return []
    by_key = {keys.events(domain): domain for domain in domains}
    streams = answer.items() if isinstance(answer, dict) else answer
    found = []
    for key, entries in streams:
        if isinstance(answer, dict):  # RESP3 wraps each stream's entries once more
            entries = entries[0] if entries and isinstance(entries[0], list) else entries
        domain = by_key[_text(key)]
        found += [Entry(domain, _text(position), (fields or {}).get(b"e")) for position, fields in entries]
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
