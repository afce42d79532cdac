"""What the whole mesh costs while nothing happens, and the memory that it takes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import redis.asyncio

from benchmarks.arena import Arena, arena
from benchmarks.machine import cpu_seconds, resident_mb
from benchmarks.measuring import Results

PROCESSES = 6
SETTLE_SECONDS = 8.0  # what happens once after a start is not idleness
SPARE = ("benchmarks.workers.async_worker", "bench_async")


async def commands(client: redis.asyncio.Redis) -> Counter[str]:
    """How often each command has run so far, inside scripts too; INFO, by which we ask, is left out."""
    stats = await client.info("commandstats")
    counted = Counter({name.removeprefix("cmdstat_"): int(s["calls"]) for name, s in stats.items()})
    del counted["info"]
    return counted


async def _start_all(mesh: Arena) -> dict[str, int]:
    """Every service, one process each, and a bench worker where they are fewer than six; their ids."""
    mesh.env |= {
        "REPORT_STORE_URL": str(mesh.folder / "store"),
        "EMAIL_SMTP_URL": "smtp://127.0.0.1:1",
        "MESH_HISTORY_URL": f"sqlite:///{mesh.folder / 'history.sqlite'}",
    }
    pids = {"api": await mesh.start_api()}
    for path in sorted(Path("services").glob("*/__main__.py")):
        name = path.parent.name
        if name != "api":
            [process] = await mesh.start(f"services.{name}", role=name)
            pids[name] = process.pid
    if len(pids) < PROCESSES:
        [process] = await mesh.start(SPARE[0], role=SPARE[1])
        pids[SPARE[1]] = process.pid
    return pids


async def idle(results: Results, size: int) -> None:
    """`idle.cpu` of all processes together, `idle.redis`, and each process's memory; over `size` ms."""
    seconds = size / 1000
    async with arena() as mesh:
        pids = await _start_all(mesh)
        await mesh.publish("bench.noop", 100)  # a mesh that never did anything has fewer streams to look at
        await asyncio.sleep(SETTLE_SECONDS)
        asked, spent = await commands(mesh.redis), {name: cpu_seconds(pid) for name, pid in pids.items()}
        server = cpu_seconds(mesh.server.pid)
        await asyncio.sleep(seconds)
        server = cpu_seconds(mesh.server.pid) - server
        spent = {name: cpu_seconds(pid) - spent[name] for name, pid in pids.items()}
        asked = await commands(mesh.redis) - asked
        results.add("idle.cpu", "% of a core", 100 * sum(spent.values()) / seconds)
        for name, cpu in spent.items():
            results.add(f"idle.cpu.{name}", "% of a core", 100 * cpu / seconds)
        results.add("idle.cpu.server", "% of a core", 100 * server / seconds)
        results.add("idle.redis", "commands/s", asked.total() / seconds)
        for command, count in asked.most_common(5):
            results.add(f"idle.redis.{command}", "commands/s", count / seconds)
        for name, pid in pids.items():
            results.add(f"memory.rss.{name}", "MB", resident_mb(pid))
