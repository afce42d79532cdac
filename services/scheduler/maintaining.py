"""Removes what has had its time: dead letters that nobody replayed, processes that are gone."""

from __future__ import annotations

import time
from datetime import timedelta

import redis.asyncio
from streammesh.alive import FORGET_MS
from streammesh.keys import Keys
from streammesh.manifests import read_domains, read_manifests
from streammesh.schedule_store import BEAT
from streammesh.streams.trim import forget_consumers

from services.scheduler.inspecting import STEPS

AT_ONCE = 1_000
GONE_AFTER = timedelta(hours=1)  # a consumer that lives reads every few seconds


async def drop_dead_letters(client: redis.asyncio.Redis, keys: Keys, service: str, older: timedelta) -> int:
    """Drop one service's dead letters that are older; answers how many."""
    before = round((time.time() - older.total_seconds()) * 1000)
    dropped = 0
    while True:
        ids = await client.zrange(
            keys.dead_index(service), "-inf", str(before), byscore=True, offset=0, num=AT_ONCE
        )
        if not ids:
            return dropped
        pipeline = client.pipeline(transaction=True)
        pipeline.hdel(keys.dead(service), *ids)
        pipeline.zrem(keys.dead_index(service), *ids)
        dropped += (await pipeline.execute())[0]


async def expire(client: redis.asyncio.Redis, keys: Keys, dead_letters_kept: timedelta) -> dict[str, int]:
    """Drop old dead letters, and forget consumers and processes that are gone. May be repeated at will."""
    services = [manifest.service for manifest in await read_manifests(client, keys)]
    domains = await read_domains(client, keys)
    dropped = 0
    for service in services:
        dropped += await drop_dead_letters(client, keys, service, dead_letters_kept)
    streams = [keys.events(domain) for domain in sorted(domains)]
    streams += [keys.queue(service, step) for service in services for step in STEPS]
    consumers = await forget_consumers(client, streams, GONE_AFTER)
    seconds, _ = await client.time()
    pipeline = client.pipeline(transaction=False)
    for role in ("dispatcher", "api", BEAT, *services):
        pipeline.zremrangebyscore(keys.alive(role), "-inf", seconds * 1000 - FORGET_MS)
    processes = sum(await pipeline.execute())
    return {"dead_letters": dropped, "consumers": consumers, "processes": processes}
