"""Removes what has had its time: dead letters that nobody replayed, processes that are gone."""

from __future__ import annotations

import time
from datetime import timedelta

import redis.asyncio
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.events.retention import forget_consumers
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import FORGET_MS
from streammesh.schedules.store import BEAT
from streammesh.subscriptions.registry import read_domains, read_manifests

AT_ONCE = 1_000
GONE_AFTER = timedelta(hours=1)  # a consumer that lives reads every few seconds


async def drop_dead_letters(client: redis.asyncio.Redis, keys: Keys, older: timedelta) -> int:
    """Drop the dead letters that are older, of every service; answers how many."""
    letters = DeadLetters(client, keys)
    before = round((time.time() - older.total_seconds()) * 1000)
    dropped, more = 0, True
    while more:
        found, more = await letters.matching(DeadLetterFilter(until_ms=before), AT_ONCE)
        dropped += await letters.drop(found)
    return dropped


async def expire(client: redis.asyncio.Redis, keys: Keys, dead_letters_kept: timedelta) -> dict[str, int]:
    """Drop old dead letters, and forget consumers and processes that are gone. May be repeated at will."""
    manifests = await read_manifests(client, keys)
    services = [manifest.service for manifest in manifests]
    domains = await read_domains(client, keys)
    dropped = await drop_dead_letters(client, keys, dead_letters_kept)
    streams = [keys.events(domain) for domain in sorted(domains)]
    queues = [queue for manifest in manifests for queue in manifest.queue_names]
    streams += [stream for queue in queues for stream in keys.queue_streams(queue)]
    consumers = await forget_consumers(client, streams, GONE_AFTER)
    seconds, _ = await client.time()
    pipeline = client.pipeline(transaction=False)
    for role in ("dispatcher", "api", BEAT, *services):
        pipeline.zremrangebyscore(keys.alive(role), "-inf", seconds * 1000 - FORGET_MS)
    processes = sum(await pipeline.execute())
    return {"dead_letters": dropped, "consumers": consumers, "processes": processes}
