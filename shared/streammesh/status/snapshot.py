"""The mesh at one moment, as it stands in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import orjson
import redis.asyncio

from streammesh import lua
from streammesh.keys import ARCHIVER, Keys
from streammesh.lines.state import FlowStanding, read_standings
from streammesh.redisio.heartbeat import FRESH_MS
from streammesh.redisio.inspection import ServerFinding
from streammesh.redisio.inspector import inspect_server, read_config
from streammesh.refused_services import RefusedService, read_refused
from streammesh.schedules.store import BEAT
from streammesh.settings import MeshSettings
from streammesh.status.backlog import Backlog, read_backlogs
from streammesh.status.editions import SideBySide, read_side_by_side
from streammesh.status.outbox import OutboxState, read_outboxes
from streammesh.status.queues import read_queues
from streammesh.status.streams import StreamState, read_streams_call, read_totals
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import read_domains, read_known
from streammesh.tasks.pause import HeldTasks, Pause, read_paused

MOST_NAMED = 64  # workers of a service whose names are told


@dataclass(frozen=True, slots=True)
class RedisState:
    """What the server says about itself. Sizes in bytes; `memory_limit` 0 is none."""

    version: str
    ping_ms: float
    memory: int
    memory_limit: int
    persistent: bool  # an append-only file is written
    last_write_ok: bool  # of the append-only file
    clients: int


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One subscribing service: its live workers, and what waits for it where."""

    service: str
    workers: int
    queued: int  # tasks in its queue, running ones included
    lag: int  # events of its subscriptions that were not handed over yet
    dead_letters: int
    lag_exact: bool = True  # False: at least so many
    waiting: int = 0  # tasks in its queue that no worker was given yet
    held: int = 0  # tasks set aside while their subscriptions are paused
    oldest_ms: int | None = None  # when the oldest event or task came that waits
    stalled_ms: int | None = None  # when the oldest event came that was not handed over
    last_seen_ms: int | None = None  # when a worker last showed life; None where it is not known
    registered: bool = True  # False: it left, and something of it is left
    subscriptions: tuple[Subscription, ...] = ()
    processes: tuple[
        str, ...
    ] = ()  # its workers by name, `host:pid` or `host/2:pid`; MOST_NAMED of them at most


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mesh at one moment, by Redis's clock."""

    redis: RedisState
    dispatchers: int
    beats: int
    services: list[ServiceState] = field(default_factory=list)
    apis: int = 0
    now_ms: int = 0
    paused: tuple[Pause, ...] = ()
    server: tuple[ServerFinding, ...] = ()  # what is wrong with Redis itself
    streams: tuple[StreamState, ...] = ()  # by domain
    totals: Mapping[str, int] = field(default_factory=dict)  # since the mesh began
    archivers: int = 0
    unarchived: Backlog = field(
        default_factory=Backlog
    )  # events that the archiver has not written into the history
    disabled_webhooks: Mapping[str, str] = field(default_factory=dict)  # by the mesh itself: id -> why
    webhooks: int = 0
    webhook_workers: int = 0
    flows: Mapping[str, FlowStanding] = field(default_factory=dict)  # of subscriptions with limits
    side_by_side: Mapping[str, SideBySide] = field(default_factory=dict)  # of services with several editions
    outboxes: tuple[OutboxState, ...] = ()  # with several shards, by the shard that is waited for
    refusals: tuple[RefusedService, ...] = ()


async def read_snapshot(client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> Snapshot:
    """The mesh now. Raises redis-py's errors when Redis is away."""
    state, server = await read_redis(client, settings)
    known = await read_known(client, keys)
    manifests = {manifest.service: manifest for manifest in known.manifests}
    domains = await read_domains(client, keys)
    backlogs = await read_backlogs(client, keys, domains)
    unarchived = reduce(Backlog.__add__, backlogs.pop(ARCHIVER, {}).values(), Backlog())
    names = sorted({*manifests, *backlogs})
    paused = await read_paused(client, keys)
    seconds, micros = await client.time()
    now = seconds * 1000 + micros // 1000
    seen = {n.decode("utf-8", "replace"): ms for n, ms in (await client.hgetall(keys.last_seen())).items()}
    roles = ["dispatcher", BEAT, "api", "archiver", "webhook_worker"]
    alive = await _alive(client, keys, [*roles, *names], now)
    processes = await _processes(client, keys, names, now)
    held = await HeldTasks(client, keys, settings).waiting()
    flows = await read_standings(client, keys)
    streams = await lua.run(client, read_streams_call(keys, sorted(domains))) if domains else []
    queues = await read_queues(client, keys, [manifests.get(name) or Manifest(name) for name in names])
    services = []
    for name in names:
        found = backlogs.get(name, {})
        registered = manifests.get(name)
        queue = queues[name]
        reads = reduce(Backlog.__add__, found.values(), Backlog())
        services.append(
            ServiceState(
                service=name,
                workers=alive[name],
                queued=queue.length,
                waiting=queue.waiting,
                lag=reads.lag,
                lag_exact=reads.exact,
                dead_letters=queue.dead_letters,
                held=sum(n for task, n in held.items() if task.partition(".")[0] == name),
                oldest_ms=min((ms for ms in (reads.oldest_ms, queue.oldest_ms) if ms), default=None),
                stalled_ms=reads.oldest_ms,
                last_seen_ms=_whole(seen.get(name)),
                registered=registered is not None,
                subscriptions=registered.subscriptions if registered else (),
                processes=processes[name],
            )
        )
    return Snapshot(
        state,
        alive["dispatcher"],
        alive[BEAT],
        services,
        alive["api"],
        now,
        tuple(paused.values()),
        server,
        tuple(streams),
        await read_totals(client, keys),
        alive["archiver"],
        unarchived,
        await _disabled_webhooks(client, keys),
        await client.hlen(keys.webhooks()),
        alive["webhook_worker"],
        flows,
        await read_side_by_side(client, keys, list(manifests.values()), now),
        await read_outboxes(client, keys, settings),
        tuple(await read_refused(client, keys, known.broken, known.forged)),
    )


async def read_redis(
    client: redis.asyncio.Redis, settings: MeshSettings
) -> tuple[RedisState, tuple[ServerFinding, ...]]:
    """What the server says about itself, and what of it is wrong."""
    began = time.perf_counter()
    await client.ping()
    ping_ms = (time.perf_counter() - began) * 1000
    info: dict[str, Any] = await client.info()
    wrong = inspect_server(info, await read_config(client), settings)
    return RedisState(
        version=str(info.get("valkey_version") or info["redis_version"]),
        ping_ms=round(ping_ms, 3),
        memory=info["used_memory"],
        memory_limit=info.get("maxmemory", 0),
        persistent=bool(info.get("aof_enabled")),
        last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        clients=info["connected_clients"],
    ), tuple(wrong)


async def _disabled_webhooks(client: redis.asyncio.Redis, keys: Keys) -> dict[str, str]:
    """Webhooks that the mesh disabled, and why; some of them, where they are many."""
    _, found = await client.hscan(keys.webhooks_disabled(), count=MOST_NAMED)
    said = {}
    for name, raw in list(found.items())[:MOST_NAMED]:
        try:
            said[name.decode("utf-8", "replace")] = str(orjson.loads(raw)["reason"])[:200]
        except (ValueError, KeyError, TypeError):
            said[name.decode("utf-8", "replace")] = "what is noted of it cannot be read"
    return said


async def _alive(client: redis.asyncio.Redis, keys: Keys, roles: list[str], now_ms: int) -> Mapping[str, int]:
    pipeline = client.pipeline(transaction=False)
    for role in roles:
        pipeline.zcount(keys.alive(role), now_ms - FRESH_MS, "+inf")
    answers = await pipeline.execute(raise_on_error=False)
    return {role: n if isinstance(n, int) else 0 for role, n in zip(roles, answers, strict=True)}


async def _processes(
    client: redis.asyncio.Redis, keys: Keys, services: list[str], now_ms: int
) -> Mapping[str, tuple[str, ...]]:
    pipeline = client.pipeline(transaction=False)
    for name in services:
        pipeline.zrangebyscore(keys.alive(name), now_ms - FRESH_MS, "+inf", 0, MOST_NAMED)
    answers = await pipeline.execute(raise_on_error=False)
    told = [answer if isinstance(answer, list) else [] for answer in answers]
    return {
        name: tuple(sorted(one.decode("utf-8", "replace").removeprefix(f"{name}@") for one in found))
        for name, found in zip(services, told, strict=True)
    }


def _whole(raw: bytes | None) -> int | None:
    return int(raw) if raw and raw.isdigit() else None
