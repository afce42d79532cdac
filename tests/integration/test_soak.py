"""Many deliveries through one worker, and many that wait: it does not grow, and nothing is left behind.

`SOAK=200000 make test ARGS=tests/integration/test_soak.py` for a long one, which says more about growth.
"""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.keys import WORKERS
from streammesh.testing.conditions import wait_until
from streammesh.worker.app import make_app

SERVICES = ["tests.probe"]
MANY = int(os.environ.get("SOAK", "8000"))
GROWTH = 32 * 1024  # KiB; most of it comes with the first thousands, when pools and caches fill
BATCH = 1000
ENVIRONMENT = {"MESH_RESULT_TTL": "5s"}  # so that the server does not fill up


async def resident(ask, role):
    """KiB of memory that the process of a role has."""
    [name] = await ask.redis.zrange(ask.mesh.keys.alive(role), 0, -1)
    status = Path(f"/proc/{int(name.rpartition(b':')[2])}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


async def run(ask, count, event_type="probe.noop", **extensions):
    """Publish so many events, and wait until few of their tasks are queued."""
    publisher = Publisher(ask.redis, ask.mesh.keys, ask.mesh.settings, "tests")
    for _ in range(0, count, BATCH):
        events = [
            envelope.make(event_type, {"n": n}, source="tests", extensions=extensions) for n in range(BATCH)
        ]
        await publisher.publish_events(events)

        async def done():
            return await ask.redis.xlen(ask.mesh.keys.queue("probe")) < 5000

        await wait_until("few are queued", done, seconds=60)


async def left(ask):
    """What is still under way, and where."""
    keys = ask.mesh.keys
    return {
        "not handed over": sum(
            (group["lag"] or 0) + group["pending"]
            for group in await ask.redis.xinfo_groups(keys.events("probe"))
        ),
        "queued": await ask.redis.xlen(keys.queue("probe")),
        "pending": (await ask.redis.xpending(keys.queue("probe"), WORKERS))["pending"],
        "open": await ask.redis.zcard(keys.open_tasks("probe")),
        "due": await ask.redis.zcard(keys.due()),
    }


async def test_a_worker_does_not_grow_with_what_it_has_done_and_nothing_is_left(ask):
    async def nothing_left():
        return not any((await left(ask)).values())

    await run(ask, MANY // 4)
    await wait_until("the first quarter is done", nothing_left, seconds=120)
    before = [await resident(ask, role) for role in ("probe", "dispatcher")]
    await run(ask, MANY // 4 * 3)
    await wait_until("all is done", nothing_left, seconds=MANY / 200)
    after = [await resident(ask, role) for role in ("probe", "dispatcher")]
    app = make_app("tests", ask.mesh.settings)
    inspect = app.control.inspect(timeout=5, limit=1)
    asked = (inspect.active, inspect.reserved, inspect.stats)
    active, reserved, stats = [next(iter((await asyncio.to_thread(one)).values())) for one in asked]
    app.close()
    print(f"KiB: worker {before[0]} -> {after[0]}, dispatcher {before[1]} -> {after[1]}")

    assert (active, reserved) == ([], [])
    assert stats["total"]["probe.noop"] >= MANY // BATCH * BATCH
    assert max(now - then for now, then in zip(after, before, strict=True)) < GROWTH


async def test_what_waits_for_later_waits_in_redis_and_not_in_a_process(ask):
    before = [await resident(ask, role) for role in ("probe", "dispatcher")]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await run(ask, MANY // 2, deliverat=later)
    await run(ask, MANY // 2, "probe.patient")  # fails, and is tried again in some minutes
    expected = MANY // 2 // BATCH * BATCH

    async def all_wait():
        found = await left(ask)
        return (found["queued"], found["due"], found["open"]) == (0, 2 * expected, expected)

    await wait_until("all wait", all_wait, seconds=MANY / 200)
    after = [await resident(ask, role) for role in ("probe", "dispatcher")]
    print(f"KiB: worker {before[0]} -> {after[0]}, dispatcher {before[1]} -> {after[1]}")

    assert (await ask.run("probe.noop")).state == "succeeded", "others do not wait"
    assert max(now - then for now, then in zip(after, before, strict=True)) < GROWTH
