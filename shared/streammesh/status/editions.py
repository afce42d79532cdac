"""Editions of one service side by side: which live, and what waits for another one than is newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio

from streammesh.keys import Keys
from streammesh.redisio.heartbeat import FRESH_MS
from streammesh.subscriptions.manifest import Manifest

MOST_TASKS = 100  # open tasks of a service that are looked at, the oldest first


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The editions of a service whose workers live, newest first; `since`: when the newest joined, in ms.

    `kept`: how many of its oldest tasks an edition put back, as their payload does not fit it.
    """

    living: tuple[str, ...]
    since: int
    kept: int


async def read_side_by_side(
    client: redis.asyncio.Redis, keys: Keys, manifests: Sequence[Manifest], now_ms: int
) -> dict[str, SideBySide]:
    """Return those of the services that have several editions, by service."""
    several = [one for one in manifests if len(one.editions) > 1]
    pipeline = client.pipeline(transaction=False)
    for one in several:
        pipeline.zrangebyscore(keys.editions(one.service), now_ms - FRESH_MS, "+inf")
        pipeline.zrange(keys.open_tasks(one.service), 0, MOST_TASKS - 1)
    answers = await pipeline.execute() if several else []
    found = {}
    for one, seen, tasks in zip(several, answers[::2], answers[1::2], strict=True):
        fresh = {digest.decode("utf-8", "replace") for digest in seen}
        editions = sorted(one.editions, key=lambda edition: -edition.since)
        living = tuple(edition.digest for edition in editions if edition.digest in fresh)
        found[one.service] = SideBySide(living, editions[0].since, await _kept(client, keys, tasks))
    return found


async def _kept(client: redis.asyncio.Redis, keys: Keys, tasks: Sequence[bytes]) -> int:
    pipeline = client.pipeline(transaction=False)
    for task in tasks:
        pipeline.hmget(keys.task(task.decode("utf-8", "replace")), "state", "unfit")
    rows = await pipeline.execute(raise_on_error=False) if tasks else []
    return sum(isinstance(row, list) and row[0] == b"retrying" and bool(row[1]) for row in rows)
