"""What the archiver writes a second beside a plain COPY of the same rows, and the bytes that each kind of thing takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from streammesh.identity import BUCKETS, PARTS
from streammesh.keys import ARCHIVER
from streammesh.settings import MeshSettings

from benchmarks.arena import Arena, arena, cost_until, rate_until
from benchmarks.measuring import Results
from benchmarks.throughput import DISPATCHER, ended, handed_over
from benchmarks.workers import async_worker
from tests.harness.postgres import Postgres, folder_of_programs

TABLES = ("events", "tasks")
DAY_AT = 500  # events/s, at which identities are counted
SAMPLE = 200  # keys of each kind
HISTORY = {"MESH_HISTORY": "true"}


async def archive(results: Results, size: int) -> None:
    """`archive`: events with one ended task each, from Redis into PostgreSQL by one archiver."""
    if folder_of_programs() is None:
        print("archive: there is no PostgreSQL here")
        return
    with Postgres() as database:
        async with arena() as mesh:
            await _fill(mesh, size)
            mesh.env |= {"MESH_HISTORY_URL": database.url, "ARCHIVER_LINGER": "0s"}
            [archiver] = await mesh.start("services.archiver")
            pids = {"archiver": [archiver.pid], "server": [mesh.server.pid]}
            cost = await cost_until(lambda: _archived(mesh), size, pids)
            cost.add_to(results, "archive", "event")
            archiver.kill()
        copied = await asyncio.to_thread(_copy, database.url)
        results.add("archive", "events/s", copied, "plain COPY")


async def _fill(mesh: Arena, size: int) -> None:
    """Publish events, and have the task of each end."""
    await mesh.register(async_worker.service)
    settings = mesh.settings
    mesh.settings = settings.model_copy(update={"history": True})
    await mesh.publish("bench.noop", size)
    mesh.env |= HISTORY
    started = await mesh.start(DISPATCHER)
    await rate_until(lambda: handed_over(mesh), size)
    started += await mesh.start("benchmarks.workers.async_worker")
    await rate_until(lambda: ended(mesh), size)
    for process in started:
        process.kill()
    mesh._processes = []


async def _archived(mesh: Arena) -> int:
    """Ended tasks that were acknowledged, their events with them."""
    done = []
    for stream in (mesh.keys.events("bench"), mesh.keys.tasks_recent()):
        groups = [one for one in await _groups(mesh, stream) if one["name"] == ARCHIVER.encode()]
        done.append(sum((one["entries-read"] or 0) - one["pending"] for one in groups))
    return int(min(done))


async def _groups(mesh: Arena, stream: str) -> Sequence[dict[str, Any]]:
    return list(await mesh.redis.xinfo_groups(stream))


def _copy(url: str) -> float:
    """Rows a second of the same tables, emptied, by COPY from memory."""
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        kept = {}
        for table in TABLES:
            with cursor.copy(f"COPY (SELECT * FROM {table}) TO STDOUT") as copy:
                kept[table] = b"".join(copy)
            cursor.execute(f"TRUNCATE {table}")
        began = time.perf_counter()
        for table in TABLES:
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                copy.write(kept[table])
        took = time.perf_counter() - began
        cursor.execute("SELECT count(*) FROM events")
        [number] = cursor.fetchone() or [0]
    return int(number) / took


async def sizes(results: Results, size: int) -> None:
    """`bytes.<kind>`: what one of each takes of Redis, events with 200 bytes of data and one task."""
    async with arena() as mesh:
        await _fill(mesh, max(size, SAMPLE))
        keys = mesh.keys
        for kind, stream in (
            ("event", keys.events("bench")),
            ("ended", keys.tasks_recent()),
            ("notification", keys.notifications()),
        ):
            number = await mesh.redis.xlen(stream)
            whole = await mesh.redis.memory_usage(stream, samples=0)
            results.add(f"bytes.{kind}", "B", (whole or 0) / max(1, number))
        for kind, prefix in (("event row", keys.event("")), ("task row", keys.task(""))):
            results.add(f"bytes.{kind}", "B", await _mean(mesh, prefix))
        results.add("bytes.identity", "B", await _identity(mesh))


async def _mean(mesh: Arena, prefix: str) -> float:
    found: list[int] = []
    async for key in mesh.redis.scan_iter(match=prefix.replace("{", "\\{") + "*", count=1_000):
        found.append(await mesh.redis.memory_usage(key, samples=0) or 0)
        if len(found) == SAMPLE:
            break
    return sum(found) / max(1, len(found))


async def _identity(mesh: Arena) -> float:
    """Of one identity, in sets as full as half a day at `DAY_AT` events/s makes them."""
    each = round(DAY_AT * MeshSettings(_env_file=None).dedup_window.total_seconds() / PARTS / BUCKETS)
    whole = 0
    for bucket in range(SAMPLE):
        key = mesh.keys.identity(1, bucket)
        await mesh.redis.sadd(key, *((1 << 62) + n * 7_919 for n in range(2 * each)))
        await mesh.redis.expire(key, 3_600)
        whole += await mesh.redis.memory_usage(key, samples=0) or 0
    return whole / SAMPLE / each
