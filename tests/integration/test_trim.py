"""Trimming: by age, and only what everybody has had; consumers that are gone are forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError
from streammesh import event_trim as trimming
from streammesh import lua
from streammesh.event_trim import forget_consumers, groups_in, trim
from streammesh.keys import Keys
from streammesh.lua.queues import ForgetConsumersScript
from streammesh.redisio.client import open_async

HOUR = timedelta(hours=1)


@pytest.fixture
async def now_ms(mesh_redis):
    seconds, _ = await mesh_redis.time()
    return seconds * 1000


async def fill(client, keys, domain, start_ms, count, step_ms=1000):
    """Events of one domain, one each `step_ms` from `start_ms`."""
    await client.sadd(keys.domains(), domain)
    pipeline = client.pipeline(transaction=False)
    for i in range(count):
        pipeline.xadd(keys.events(domain), {"e": b"{}"}, id=f"{start_ms + i * step_ms}-0")
    await pipeline.execute()


async def read(client, keys, domain, group, count):
    answer = await client.xreadgroup(group, "someone", {keys.events(domain): ">"}, count=count)
    (entries,) = answer.values() if isinstance(answer, dict) else [pair[1] for pair in answer]
    entries = entries[0] if entries and isinstance(entries[0], list) else entries
    return [position for position, _ in entries]


async def test_without_groups_what_is_older_than_the_retention_goes(mesh_redis, mesh_keys, now_ms):
    await fill(mesh_redis, mesh_keys, "order", now_ms - 2 * 3_600_000, 7_200)

    (order,) = await trim(mesh_redis, mesh_keys, HOUR)

    left = await mesh_redis.xrange(mesh_keys.events("order"), count=1)
    assert abs(order.removed - 3_600) < 60
    assert order.left == 7_200 - order.removed == await mesh_redis.xlen(mesh_keys.events("order"))
    assert int(left[0][0].split(b"-")[0]) >= now_ms - 3_600_000
    assert order.kept_by is None


async def test_what_a_group_was_not_given_or_has_not_acknowledged_stays(mesh_redis, mesh_keys, now_ms):
    key, start = mesh_keys.events("order"), now_ms - 10 * 3_600_000
    await fill(mesh_redis, mesh_keys, "order", start, 1_000)
    await mesh_redis.xgroup_create(key, "quick", id="0")
    await mesh_redis.xgroup_create(key, "slow", id="0")
    await mesh_redis.xack(key, "quick", *await read(mesh_redis, mesh_keys, "order", "quick", 1_000))
    given_ = await read(mesh_redis, mesh_keys, "order", "slow", 500)
    await mesh_redis.xack(key, "slow", *given_[:300], *given_[301:])

    (held,) = await trim(mesh_redis, mesh_keys, HOUR)
    assert (held.removed, held.left, held.kept_by) == (300, 700, "slow"), "entry 300 is pending in one group"

    await mesh_redis.xack(key, "slow", given_[300])
    (held,) = await trim(mesh_redis, mesh_keys, HOUR)
    assert (held.removed, held.left, held.kept_by) == (200, 500, "slow"), "500 and later were not given yet"

    await mesh_redis.xack(key, "slow", *await read(mesh_redis, mesh_keys, "order", "slow", 1_000))
    (held,) = await trim(mesh_redis, mesh_keys, HOUR)
    assert (held.removed, held.left, held.kept_by) == (500, 0, None)


async def test_a_group_that_is_behind_but_within_the_retention_is_not_blamed(mesh_redis, mesh_keys, now_ms):
    await fill(mesh_redis, mesh_keys, "order", now_ms - 60_000, 50)
    await mesh_redis.xgroup_create(mesh_keys.events("order"), "slow", id="0")

    (order,) = await trim(mesh_redis, mesh_keys, HOUR)

    assert (order.removed, order.left, order.kept_by) == (0, 50, None)


async def test_more_than_one_portion_goes_in_one_run(mesh_redis, mesh_keys, now_ms, monkeypatch):
    monkeypatch.setattr(trimming, "AT_ONCE", 200)
    await fill(mesh_redis, mesh_keys, "order", now_ms - 10 * 3_600_000, 1_950)
    await fill(mesh_redis, mesh_keys, "user", now_ms - 10 * 3_600_000, 10)

    found = await trim(mesh_redis, mesh_keys, HOUR)

    assert [(t.domain, t.removed, t.left) for t in found] == [("order", 1_950, 0), ("user", 10, 0)]


@given(
    seen=st.lists(st.tuples(st.integers(0, 250), st.sets(st.integers(0, 249), max_size=5)), max_size=3),
    young=st.integers(0, 250),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_that_a_group_still_needs_ever_goes(mesh_settings, seen, young):
    client = open_async(mesh_settings, "test")
    keys = Keys(f"{mesh_settings.namespace}-{hash((str(seen), young)) % 10**9}")
    seconds, _ = await client.time()
    start = seconds * 1000 - 3_600_000 - (250 - young) * 1000
    await fill(client, keys, "order", start, 250)
    key = keys.events("order")
    an_hour_ago = seconds * 1000 - 3_600_000
    # Young for the half minute that this may take.
    needed = {start + i * 1000 for i in range(250) if start + i * 1000 > an_hour_ago + 30_000}
    for i, (given_, kept) in enumerate(seen):
        await client.xgroup_create(key, f"g{i}", id="0")
        ids = await read(client, keys, "order", f"g{i}", given_) if given_ else []
        done = [p for n, p in enumerate(ids) if n not in kept]
        if done:
            await client.xack(key, f"g{i}", *done)
        needed |= {start + n * 1000 for n in range(250) if n >= given_ or n in kept}

    await trim(client, keys, HOUR)

    left = {int(position.split(b"-")[0]) for position, _ in await client.xrange(key)}
    await client.delete(key, keys.domains())
    await client.aclose()
    assert needed <= left
    assert min(left, default=an_hour_ago) >= min([*needed, an_hour_ago])


async def test_consumers_that_hold_something_or_were_seen_lately_are_kept(mesh_redis, mesh_keys):
    key = mesh_keys.events("order")
    await mesh_redis.xgroup_create(key, "g", id="0", mkstream=True)
    await mesh_redis.xadd(key, {"e": b"{}"})
    await mesh_redis.xreadgroup("g", "busy", {key: ">"})
    await mesh_redis.xgroup_createconsumer(key, "g", "idle")

    assert await forget_consumers(mesh_redis, [key, mesh_keys.queue("nowhere")], HOUR) == 0
    assert await forget_consumers(mesh_redis, [key, mesh_keys.queue("nowhere")], timedelta(0)) == 1

    assert [c["name"] for c in await mesh_redis.xinfo_consumers(key, "g")] == [b"busy"]
    assert (await mesh_redis.xpending(key, "g"))["pending"] == 1


async def test_a_group_that_was_removed_since_it_was_seen_breaks_no_tidying(mesh_redis, mesh_keys):
    key = mesh_keys.events("order")
    await mesh_redis.xadd(key, {"e": "1"})
    await mesh_redis.xgroup_create(key, "gone", "0")
    call = ForgetConsumersScript(stream=key, group="gone", idle=0).call(int)
    await mesh_redis.xgroup_destroy(key, "gone")
    assert await lua.run(mesh_redis, call) == 0
    assert groups_in(ResponseError("no such key")) == ()
    with pytest.raises(ResponseError, match="READONLY"):
        groups_in(ResponseError("READONLY You can't write"))
