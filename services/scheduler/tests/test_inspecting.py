"""What an inspection of a real server finds."""

from __future__ import annotations

import time

import pytest
from streammesh import lua
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.scheduler.inspecting import inspect


@pytest.fixture
async def joined(mesh_redis, mesh_keys):
    """A service that subscribes to orders, with three events that its lane has not handed over."""
    wants = Subscription(service="billing", task="billing.bill", type="order.placed")
    await lua.run(mesh_redis, register_call(mesh_keys, Manifest("billing", subscriptions=(wants,))))
    await mesh_redis.sadd(mesh_keys.domains(), "order")
    for _ in range(3):
        await mesh_redis.xadd(mesh_keys.events("order"), {"e": b"{}"})


async def test_an_inspection_finds_who_is_alive_and_what_waits_where(mesh_redis, mesh_keys, joined):
    now = round(time.time() * 1000)
    await mesh_redis.zadd(mesh_keys.alive("billing"), {"billing@a:1": now, "billing@b:1": now - 50_000})
    await mesh_redis.zadd(mesh_keys.alive("dispatcher"), {"dispatcher@a:2": now})
    await mesh_redis.xadd(mesh_keys.queue("billing"), {"h": b"", "b": b""})
    await mesh_redis.xadd(mesh_keys.queue("billing", 3), {"h": b"", "b": b""})
    await mesh_redis.xreadgroup("billing", "d", {mesh_keys.events("order"): ">"}, count=1)
    await mesh_redis.zadd(mesh_keys.dead_index("billing"), {"x": now})

    found = await inspect(mesh_redis, mesh_keys)

    (billing,) = found.services
    assert (billing.service, billing.workers, billing.queued, billing.lag) == ("billing", 1, 2, 3)
    assert (billing.dead_letters, found.dispatchers, found.beats) == (1, 1, 0)
    assert found.redis.memory > 0
    assert 0 < found.redis.ping_ms < 1000


async def test_an_empty_mesh_can_be_inspected(mesh_redis, mesh_keys):
    assert (await inspect(mesh_redis, mesh_keys)).services == []
