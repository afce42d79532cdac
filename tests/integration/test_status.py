"""What is read of a mesh, on a real server: who lives, what waits where, and for how long."""

from __future__ import annotations

import time

import pytest
from streammesh import lua
from streammesh.edition import Edition
from streammesh.status import backlog
from streammesh.status.backlog import count, read_backlogs
from streammesh.status.editions import SideBySide
from streammesh.status.findings import findings
from streammesh.status.snapshot import read_snapshot
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

DOMAINS = frozenset({"order"})


@pytest.fixture
async def join(mesh_redis, mesh_keys):
    async def join(service: str = "billing") -> None:
        wants = Subscription(service=service, task=f"{service}.bill", type="order.placed")
        await lua.run(mesh_redis, register_call(mesh_keys, Manifest(service, subscriptions=(wants,))))

    await mesh_redis.sadd(mesh_keys.domains(), "order")
    return join


@pytest.fixture
async def publish(mesh_redis, mesh_keys):
    async def publish(n: int, size: int = 2) -> list[str]:
        pipeline = mesh_redis.pipeline(transaction=False)
        for _ in range(n):
            pipeline.xadd(mesh_keys.events("order"), {"e": b"x" * size})
        return [position.decode() for position in await pipeline.execute()]

    return publish


async def test_a_snapshot_says_who_is_alive_and_what_waits_where(
    mesh_redis, mesh_keys, mesh_settings, join, publish
):
    await join()
    await publish(3)
    now = round(time.time() * 1000)
    await mesh_redis.zadd(mesh_keys.alive("billing"), {"billing@a:1": now, "billing@b:1": now - 50_000})
    await mesh_redis.zadd(mesh_keys.alive("dispatcher"), {"dispatcher@a:2": now})
    await mesh_redis.hset(mesh_keys.last_seen(), "billing", now)
    await mesh_redis.xadd(mesh_keys.queue("billing"), {"h": b"", "b": b""})
    await mesh_redis.xadd(mesh_keys.queue("billing", 3), {"h": b"", "b": b""})
    await mesh_redis.xgroup_create(mesh_keys.queue("billing"), "workers", "0")
    await mesh_redis.xreadgroup("workers", "w", {mesh_keys.queue("billing"): ">"})
    await mesh_redis.xreadgroup("billing", "d", {mesh_keys.events("order"): ">"}, count=1)
    await mesh_redis.zadd(mesh_keys.dead_index("billing"), {"x": now})

    found = await read_snapshot(mesh_redis, mesh_keys, mesh_settings)

    (billing,) = found.services
    assert (billing.service, billing.workers, billing.queued, billing.waiting, billing.lag) == (
        *("billing", 1, 2, 1, 3),
    )
    assert (billing.dead_letters, found.dispatchers, found.beats) == (1, 1, 0)
    assert billing.lag_exact and billing.registered and billing.last_seen_ms == now
    assert 0 <= found.now_ms - billing.oldest_ms < 60_000 and billing.stalled_ms >= billing.oldest_ms - 60_000
    assert found.redis.memory > 0
    assert 0 < found.redis.ping_ms < 1000


async def test_an_empty_mesh_has_a_snapshot(mesh_redis, mesh_keys, mesh_settings):
    assert (await read_snapshot(mesh_redis, mesh_keys, mesh_settings)).services == []


async def test_the_lag_of_a_service_that_joined_later_is_known_by_redis(mesh_redis, mesh_keys, join, publish):
    await publish(10)
    await join()
    await publish(5_000)

    (group,) = await mesh_redis.xinfo_groups(mesh_keys.events("order"))
    found = await read_backlogs(mesh_redis, mesh_keys, DOMAINS)

    assert group["lag"] == 5_000
    assert (found["billing"]["order"].lag, found["billing"]["order"].exact) == (5_000, True)


async def test_the_lag_is_counted_where_redis_says_null(mesh_redis, mesh_keys, publish):
    told = await publish(5_010)
    await mesh_redis.xgroup_create(mesh_keys.events("order"), "old", told[9])
    (group,) = await mesh_redis.xinfo_groups(mesh_keys.events("order"))

    found = (await read_backlogs(mesh_redis, mesh_keys, DOMAINS))["old"]["order"]

    assert group["lag"] is None
    assert (found.lag, found.exact, found.oldest_ms) == (5_000, True, int(told[10].partition("-")[0]))


async def test_a_lag_beyond_the_bound_is_at_least_that(mesh_redis, mesh_keys, publish, monkeypatch):
    monkeypatch.setattr(backlog, "AT_ONCE", 100)
    told = await publish(1_000)

    found = await count(mesh_redis, mesh_keys.events("order"), told[0], most=350)
    assert (found.number, found.exact, found.first) == (350, False, told[1])
    found = await count(mesh_redis, mesh_keys.events("order"), told[0], f"({told[500]}", most=1_000)
    assert (found.number, found.exact, found.last) == (499, True, told[499])


async def test_large_entries_are_counted_a_few_at_a_time(mesh_redis, mesh_keys, publish, monkeypatch):
    monkeypatch.setattr(backlog, "BYTES_AT_ONCE", 100_000)
    await publish(120, size=10_000)

    page = await lua.run(mesh_redis, backlog.count_call(mesh_keys.events("order"), "0-0", "+", 1_000))
    whole = await count(mesh_redis, mesh_keys.events("order"), "0-0")

    assert page.number < 120 and not page.exact
    assert (whole.number, whole.exact) == (120, True)


async def test_what_is_pending_counts_as_waiting_since_it_came(mesh_redis, mesh_keys, join, publish):
    await join()
    told = await publish(2)
    await mesh_redis.xreadgroup("billing", "d", {mesh_keys.events("order"): ">"})

    found = (await read_backlogs(mesh_redis, mesh_keys, DOMAINS))["billing"]["order"]

    assert (found.lag, found.oldest_ms) == (2, int(told[0].partition("-")[0]))


async def test_a_group_that_no_manifest_stands_for_is_found(
    mesh_redis, mesh_keys, mesh_settings, join, publish
):
    await join()
    await publish(4)
    await mesh_redis.delete(mesh_keys.manifests())

    found = await read_snapshot(mesh_redis, mesh_keys, mesh_settings)

    assert [(one.service, one.registered, one.lag) for one in found.services] == [("billing", False, 4)]
    assert "left-behind" in {one.code for one in findings(found, mesh_settings)}


async def test_keys_of_another_type_do_not_hide_the_rest(mesh_redis, mesh_keys, mesh_settings, join, publish):
    await join()
    await publish(1)
    await mesh_redis.sadd(mesh_keys.domains(), "odd")
    await mesh_redis.set(mesh_keys.events("odd"), "no stream")
    await mesh_redis.set(mesh_keys.queue("billing"), "no stream")
    await mesh_redis.set(mesh_keys.alive("billing"), "no set")

    (billing,) = (await read_snapshot(mesh_redis, mesh_keys, mesh_settings)).services

    assert (billing.lag, billing.queued, billing.workers) == (1, 0, 0)


async def test_what_waits_for_another_version_is_counted_and_said(mesh_redis, mesh_keys, mesh_settings):
    now = round(time.time() * 1000)
    wants = Subscription(service="billing", task="billing.bill", type="order.placed")
    editions = tuple(
        Edition(one * 12, now - age, {"billing.bill": one * 12}) for one, age in (("a", 5_000), ("b", 1_000))
    )
    manifest = Manifest("billing", subscriptions=(wants,), editions=editions)
    await lua.run(mesh_redis, register_call(mesh_keys, manifest))
    await mesh_redis.zadd(mesh_keys.editions("billing"), {"a" * 12: now, "b" * 12: now, "c" * 12: now})
    rows = {"t1": "retrying", "t2": "started", "t3": "retrying"}
    await mesh_redis.zadd(mesh_keys.open_tasks("billing"), dict.fromkeys([*rows, "gone"], now))
    for task, state in rows.items():
        await mesh_redis.hset(mesh_keys.task(task), "state", state)
    await mesh_redis.hset(mesh_keys.task("t1"), "unfit", "b" * 12)

    found = await read_snapshot(mesh_redis, mesh_keys, mesh_settings)

    assert found.side_by_side == {"billing": SideBySide(("b" * 12, "a" * 12), now - 1_000, 1)}
    [said] = [one for one in findings(found, mesh_settings) if one.code == "kept-for-edition"]
    assert (
        "billing: at least 1 tasks wait" in said.text and f"editions {'b' * 12}, {'a' * 12} live" in said.text
    )
