"""Trimming on a real server: what is removed, what stays, also where Redis is full."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.trimmer import Trimmer

DAY = timedelta(days=1)


@pytest.fixture
async def joined(mesh_redis, mesh_keys):
    """A service that subscribes to orders, with three events that its lane has not handed over."""
    wants = Subscription(service="billing", task="billing.bill", type="order.placed")
    await lua.run(mesh_redis, register_call(mesh_keys, Manifest("billing", subscriptions=(wants,))))
    await mesh_redis.sadd(mesh_keys.domains(), "order")
    for _ in range(3):
        await mesh_redis.xadd(mesh_keys.events("order"), {"e": b"{}"})


def trimmer(client, keys, settings, **own) -> Trimmer:
    return Trimmer(client, keys, settings, DispatcherSettings(_env_file=None, **own), SystemClock())


async def test_an_empty_mesh_can_be_trimmed_and_tidied(mesh_redis, mesh_keys, mesh_settings):
    trims = trimmer(mesh_redis, mesh_keys, mesh_settings)
    assert await trims.run_once() == []
    assert await trims.tidy() == {"dead_letters": 0, "consumers": 0, "processes": 0}


async def test_a_full_redis_is_trimmed(mesh_redis, mesh_keys, mesh_settings, joined):
    await mesh_redis.xreadgroup("billing", "d", {mesh_keys.events("order"): ">"})
    entries = await mesh_redis.xrange(mesh_keys.events("order"))
    await mesh_redis.xack(mesh_keys.events("order"), "billing", *(position for position, _ in entries))
    settings = mesh_settings.model_copy(update={"retention": timedelta(0)})
    await mesh_redis.config_set("maxmemory", "1mb")
    try:
        [found] = await trimmer(mesh_redis, mesh_keys, settings).run_once()
    finally:
        await mesh_redis.config_set("maxmemory", "0")

    assert (found.removed, found.left, found.kept_by) == (3, 0, None)


async def test_old_dead_letters_and_gone_processes_are_dropped_and_young_ones_stay(
    mesh_redis, mesh_keys, mesh_settings, joined
):
    now = round(time.time() * 1000)
    ages = {"old": now - 2 * 86_400_000, "young": now - 3_600_000}
    await mesh_redis.zadd(mesh_keys.dead_index("billing"), ages)
    await mesh_redis.hset(mesh_keys.dead("billing"), mapping={"old": "{}", "young": "{}"})
    await mesh_redis.hset(mesh_keys.dead_entries("billing"), mapping={"h:old": "{}", "h:young": "{}"})
    await mesh_redis.sadd(mesh_keys.dead_services(), "billing")
    await mesh_redis.zadd(mesh_keys.alive("billing"), {"billing@a:1": now, "billing@gone:1": now - 61_000})
    await mesh_redis.xgroup_createconsumer(mesh_keys.events("order"), "billing", "seen just now")

    done = await trimmer(mesh_redis, mesh_keys, mesh_settings, dead_letters_kept=DAY).tidy()

    assert done == {"dead_letters": 1, "consumers": 0, "processes": 1}
    assert await mesh_redis.hkeys(mesh_keys.dead("billing")) == [b"young"]
    assert await mesh_redis.hkeys(mesh_keys.dead_entries("billing")) == [b"h:young"]
    assert await mesh_redis.zrange(mesh_keys.dead_index("billing"), 0, -1) == [b"young"]
    assert await mesh_redis.zrange(mesh_keys.alive("billing"), 0, -1) == [b"billing@a:1"]


async def test_notifications_are_kept_for_a_time_as_well_as_by_number(mesh_redis, mesh_keys, mesh_settings):
    stream, now = mesh_keys.notifications(), int(time.time() * 1000)
    pipeline = mesh_redis.pipeline(transaction=False)
    for age in (2 * DAY, DAY / 2):
        for number in range(600):
            pipeline.xadd(
                stream, {"t": "task.started"}, id=f"{now - int(age.total_seconds() * 1000)}-{number}"
            )
    await pipeline.execute()

    await trimmer(
        mesh_redis, mesh_keys, mesh_settings.model_copy(update={"notifications_age": DAY})
    ).run_once()

    assert 600 <= await mesh_redis.xlen(stream) < 750  # the node on the border goes when all of it is old
    await trimmer(mesh_redis, mesh_keys, mesh_settings).run_once()
    assert await mesh_redis.xlen(stream) >= 600
