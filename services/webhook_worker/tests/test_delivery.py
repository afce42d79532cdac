"""What happens reaches the URLs that asked for it: signed, at least once, again when it failed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier
from streammesh.api_keys import ApiKeys
from streammesh.status.findings import findings
from streammesh.status.snapshot import read_snapshot
from streammesh.webhooks.definition import Secret
from streammesh.webhooks.signature import new_secret

from services.webhook_worker.tests.conftest import until

QUICK = {"retry_first": timedelta(milliseconds=20)}


async def test_a_notification_arrives_signed_as_standard_webhooks_say(crew, add, tell, receiver):
    old, new = new_secret(), new_secret()
    in_an_hour = time.time_ns() // 1_000_000 + 3_600_000
    webhook = await add(secrets=(Secret(new), Secret(old, in_an_hour)))
    async with crew():
        (position,) = await tell()
        await until(lambda: receiver.requests)
    _, headers, body = receiver.requests[0]
    assert headers["webhook-id"] == f"{webhook.id}_{position}"
    for secret in (old, new):  # either verifies it while one takes the other's place
        told = Verifier(secret).verify(body, headers)
        assert told["id"] == position and told["type"] == "task.started"
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(new_secret()).verify(body, headers)


async def test_each_is_told_what_it_asked_for_and_its_owner_may_be_told(
    crew, add, tell, receiver, mesh_redis, mesh_keys
):
    await ApiKeys(mesh_redis, mesh_keys).create("narrow", subscribe=["order.*"])
    await add("all")
    await add("types", types=("order.*", "event.completed"))
    await add("subject", subject="order/7")
    await add("narrow", owner="narrow")
    await add("nobody", owner="revoked-long-ago")
    await add("where", where="event.type.startsWith('user.') && data.n == 0")
    async with crew():
        await tell(event_type="order.placed")
        await tell(event_type="user.registered", kind="event.completed")
        await tell(event_type="order.paid", subject="order/7")
        await tell(event_type="user.gone")
        await until(lambda: len(receiver.requests) == 4 + 3 + 1 + 2 + 2)
    told = {
        path: [body["event"]["type"] for body in receiver.bodies(path)]
        for path in ("/types", "/narrow", "/where")
    }
    assert sorted(told["/types"]) == ["order.paid", "order.placed", "user.registered"]
    assert sorted(told["/narrow"]) == ["order.paid", "order.placed"]
    assert sorted(told["/where"]) == ["user.gone", "user.registered"]


async def test_one_that_begins_is_told_all_from_then_on_and_nothing_before(crew, add, tell, receiver):
    (before,) = await tell()
    await add(start=before)
    expected = await tell(3)
    async with crew():
        expected += await tell(700)  # more than a page, while it catches up
        await until(lambda: len(receiver.requests) == 703)
    assert sorted(receiver.ids()) == sorted(f"wh1_{position}" for position in expected)


async def test_what_fails_is_tried_again_with_the_same_id_until_it_arrives(crew, add, tell, receiver, store):
    answers = iter((500, 302, 404))
    receiver.answer = lambda _: web.Response(status=next(answers, 200), headers={"location": "/elsewhere"})
    await add()
    async with crew(**QUICK):
        await tell()
        await until(lambda: len(receiver.requests) == 4)
        await until(lambda: _delivered(store, 1))
    assert len(set(receiver.ids())) == 1 and {path for path, _, _ in receiver.requests} == {"/wh1"}
    attempts = (await store.attempts("wh1", None, 10)).attempts
    assert [one["status"] for one in attempts] == [200, 404, 302, 500]
    assert [one["attempt"] for one in attempts] == [4, 3, 2, 1]
    assert (await store.standings(["wh1"]))[0].failures == 0


async def _delivered(store, count, name="wh1"):
    (standing,) = await store.standings([name])
    return standing.delivered == count and standing.waiting == 0


async def test_retry_after_keeps_the_whole_url_quiet_for_that_long(crew, add, tell, receiver):
    receiver.answer = lambda _: web.Response(status=429, headers={"retry-after": "1"})
    await add()
    async with crew(retry_first=timedelta(milliseconds=20)):
        await tell()
        await until(lambda: receiver.requests)
        began = time.monotonic()
        receiver.answer = lambda _: web.Response()
        await tell(5)
        await until(lambda: len(set(receiver.ids())) == 6)
    assert time.monotonic() - began > 0.9


async def test_in_order_each_waits_for_the_one_before_it(crew, add, tell, receiver):
    failures = {3: 2, 7: 1}

    def answer(_):
        n = receiver.bodies()[-1]["data"]["n"]
        failures[n] = failures.get(n, 0) - 1
        return web.Response(status=500 if failures[n] >= 0 else 200)

    receiver.answer = answer
    await add(ordered=True)
    async with crew(**QUICK):
        await tell(30)
        await until(lambda: len(receiver.requests) == 33)
    told = [body["data"]["n"] for body in receiver.bodies()]
    assert told == [0, 1, 2, 3, 3, 3, *range(4, 8), 7, *range(8, 30)]


async def test_what_failed_for_too_long_is_given_up_and_counted(crew, add, tell, receiver, store):
    receiver.answer = lambda _: web.Response(status=500)
    await add()
    async with crew(retry_first=timedelta(milliseconds=10), retry_for=timedelta(milliseconds=60)):
        await tell(3)
        await until(lambda: _given_up(store, 3))
    attempts = (await store.attempts("wh1", None, 100)).attempts
    assert {one["outcome"] for one in attempts} == {"failed", "given_up"}


async def _given_up(store, count):
    (standing,) = await store.standings(["wh1"])
    return standing.given_up == count and standing.waiting == 0


@pytest.mark.parametrize("status", [410, 500])
async def test_one_that_does_not_work_for_long_is_disabled_and_goes_on_where_it_stopped(
    crew, add, tell, receiver, store, mesh_redis, mesh_keys, mesh_settings, status
):
    receiver.answer = lambda _: web.Response(status=status)
    await add()
    async with crew(retry_first=timedelta(milliseconds=10), disable_after=timedelta(milliseconds=30)):
        first = await tell(2)
        await until(lambda: mesh_redis.hexists(mesh_keys.webhooks_disabled(), "wh1"))
        meanwhile = await tell(2)
        stored = await store.one("wh1")
        assert not stored.webhook.enabled and stored.webhook.disabled_why
        said = findings(await read_snapshot(mesh_redis, mesh_keys, mesh_settings), mesh_settings)
        assert {"webhook-disabled", "no-webhook-worker"} <= {
            one.code for one in said
        }  # nobody shows life here
        before = len(receiver.requests)
        receiver.answer = lambda _: web.Response()
        assert (
            await store.put(replace(stored.webhook, enabled=True, disabled_why=None), stored.raw) == "stored"
        )
        await until(lambda: {f"wh1_{p}" for p in (*first, *meanwhile)} <= set(receiver.ids()[before:]))
    assert not await mesh_redis.hexists(mesh_keys.webhooks_disabled(), "wh1")


async def test_what_there_is_no_room_for_stays_in_the_stream_and_follows(
    crew, add, tell, receiver, store, monkeypatch
):
    monkeypatch.setattr("streammesh.webhooks.deliveries.MOST_QUEUED", 10)
    monkeypatch.setattr("services.webhook_worker.laggards.MOST_QUEUED", 10)
    monkeypatch.setattr("services.webhook_worker.laggards.ROOM", 5)
    gate = asyncio.Event()

    async def wait(_):
        await gate.wait()
        return web.Response()

    receiver.answer = wait
    await add()
    async with crew(concurrency=2):
        positions = await tell(40)
        await until(lambda: receiver.requests)
        (standing,) = await store.standings(["wh1"])
        assert standing.waiting == 10 and standing.behind
        gate.set()
        await until(lambda: len(set(receiver.ids())) == 40)
    assert sorted(receiver.ids()) == sorted(f"wh1_{position}" for position in positions)


async def test_a_replay_tells_all_since_a_position_again_with_the_same_ids(crew, add, tell, receiver, store):
    await add()
    async with crew():
        positions = await tell(6)
        await until(lambda: len(receiver.requests) == 6)
        await store.seek("wh1", positions[2])
        await until(lambda: len(receiver.requests) == 9)
        positions += await tell(1)
        await until(lambda: len(receiver.requests) == 10)
    assert sorted(receiver.ids()[6:]) == [f"wh1_{position}" for position in positions[3:]]


async def test_two_workers_share_and_each_delivery_is_made_once(crew, add, tell, receiver):
    for i in range(5):
        await add(f"wh{i}")
    async with crew(), crew():
        await tell(100)
        await until(lambda: len(receiver.requests) >= 500)
        await asyncio.sleep(0.05)
    assert len(receiver.ids()) == len(set(receiver.ids())) == 500


async def test_the_dead_do_not_slow_the_living(crew, add, tell, receiver):
    """150 URLs never answer, more than there are places for them; one works and is told within its time."""
    never = asyncio.Event()

    async def hang(request):
        if request.path != "/living":
            await never.wait()
        return web.Response()

    receiver.answer = hang
    await add("living")
    for i in range(150):
        await add(f"dead{i}")
    async with crew(timeout=timedelta(seconds=20)) as made:
        await tell()
        await until(lambda: receiver.ids("/living"))
        began = time.monotonic()
        await tell(20)
        await until(lambda: len(receiver.ids("/living")) == 21)
        assert time.monotonic() - began < 2
        never.set()
        assert made.courier.counts.failed == 0


async def test_a_webhook_that_cannot_be_read_concerns_nobody_else(
    crew, add, tell, receiver, mesh_redis, mesh_keys
):
    await add()
    await mesh_redis.hset(mesh_keys.webhooks(), mapping={"x": b"{}", b"\xff": b"\xff", "y": "[]"})
    await mesh_redis.sadd(mesh_keys.webhooks_behind(), "x", b"\xff")
    await mesh_redis.zadd(mesh_keys.webhooks_due(), {"x": 1, b"\xfe": 1})
    await mesh_redis.hset(mesh_keys.webhook("wh1"), mapping={"bytes": "many", "last": "", "hold": "x"})
    async with crew():
        await tell()
        await until(lambda: receiver.requests)


async def test_when_it_is_removed_nothing_of_it_is_left(
    crew, add, tell, receiver, store, mesh_redis, mesh_keys
):
    receiver.answer = lambda _: web.Response(status=500)
    await add()
    async with crew():
        await tell(3)
        await until(lambda: len(receiver.requests) >= 3)
        assert await store.remove("wh1")
        assert not await store.remove("wh1")
        await tell(1)
    left = [key async for key in mesh_redis.scan_iter(f"{mesh_keys.prefix}webhook*")]
    assert set(left) <= {mesh_keys.webhooks_version().encode(), mesh_keys.webhooks_place().encode()}
