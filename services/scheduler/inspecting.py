"""Reads how the mesh is."""

from __future__ import annotations

import time
from typing import Any

import redis.asyncio
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import alive
from streammesh.schedules.store import BEAT
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import lanes, read_domains, read_manifests

from services.scheduler.health import RedisState, ServiceState, Snapshot


async def inspect(client: redis.asyncio.Redis, keys: Keys) -> Snapshot:
    """The mesh now, in a few round trips. Raises redis-py's errors when Redis is away."""
    manifests = await read_manifests(client, keys)
    reading = lanes(manifests, await read_domains(client, keys))
    return Snapshot(
        redis=await _redis_state(client),
        dispatchers=len(await alive(client, keys, "dispatcher")),
        beats=len(await alive(client, keys, BEAT)),
        services=[
            await _service_state(client, keys, manifest, reading[manifest.service])
            for manifest in sorted(manifests, key=lambda one: one.service)
            if manifest.service in reading
        ],
    )


async def _redis_state(client: redis.asyncio.Redis) -> RedisState:
    began = time.perf_counter()
    await client.ping()
    ping_ms = (time.perf_counter() - began) * 1000
    info: dict[str, Any] = await client.info()
    return RedisState(
        version=str(info.get("valkey_version") or info["redis_version"]),
        ping_ms=round(ping_ms, 3),
        memory=info["used_memory"],
        memory_limit=info.get("maxmemory", 0),
        persistent=bool(info.get("aof_enabled")),
        last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        clients=info["connected_clients"],
    )


async def _service_state(
    client: redis.asyncio.Redis, keys: Keys, manifest: Manifest, domains: frozenset[str]
) -> ServiceState:
    service = manifest.service
    pipeline = client.pipeline(transaction=False)
    pipeline.zcard(keys.dead_index(service))
    streams = [stream for queue in manifest.queue_names for stream in keys.queue_streams(queue)]
    for stream in streams:
        pipeline.xlen(stream)  # entries are deleted when ended, so these are all that wait
    for domain in sorted(domains):
        pipeline.xinfo_groups(keys.events(domain))
    dead, *rest = await pipeline.execute(raise_on_error=False)
    queued, groups = rest[: len(streams)], rest[len(streams) :]
    return ServiceState(
        service=service,
        workers=len(await alive(client, keys, service)),
        queued=sum(n for n in queued if isinstance(n, int)),
        lag=sum(_lag(found, service) for found in groups if isinstance(found, list)),
        dead_letters=dead if isinstance(dead, int) else 0,
    )


def _lag(groups: list[dict[str, Any]], service: str) -> int:
    """Events of one stream that a service's group was not given, or has not acknowledged."""
    return sum((g.get("lag") or 0) + g["pending"] for g in groups if g["name"].decode() == service)
