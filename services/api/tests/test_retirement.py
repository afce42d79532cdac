"""A service is taken away: not while it works, whole, and nobody waits for it any more."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.dead_letters.replay import Replaying
from streammesh.keys import WORKERS
from streammesh.retirement import Retirement
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.api.routes import status
from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening

OLD = "/v1/services/old"
DROP = {"backlog": "drop"}


@pytest.fixture
def publish(api):
    async def publish(n: int = 1, event_type: str = "order.placed") -> list[dict[str, Any]]:
        return [(await api.post("/v1/events", json={"type": event_type, "data": i})).json() for i in range(n)]

    return publish


@pytest.fixture
def letters(mesh_redis, mesh_keys):
    async def letters() -> list[Any]:
        found, _ = await DeadLetters(mesh_redis, mesh_keys).matching(DeadLetterFilter(), 1_000)
        return found

    return letters


async def state(api, sent) -> str:
    return (await api.get(sent["links"]["self"])).json()["state"]


async def left(mesh_redis, mesh_keys) -> list[str]:
    """What names the service anywhere."""
    found = [key.decode() async for key in mesh_redis.scan_iter(f"{mesh_keys.prefix}*")]
    left = [key for key in found if "old" in key and ":dead" not in key]
    for key in (mesh_keys.manifests(), mesh_keys.joined(), mesh_keys.last_seen(), mesh_keys.retiring()):
        left += [f"{key} {name.decode()}" for name in await mesh_redis.hkeys(key) if b"old" in name]
    for group in await mesh_redis.xinfo_groups(mesh_keys.events("order")):
        left += [group["name"].decode()] if group["name"] == b"old" else []
    return left


async def test_it_is_refused_while_a_worker_lives_and_changes_nothing(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("old", "order.placed")
    await mesh_redis.zadd(mesh_keys.alive("old"), {"old@test:1": time.time() * 1000})

    document = assert_problem(await api.delete(OLD), 409, "service-alive")

    assert "1 of its workers live" in document["detail"]
    assert await mesh_redis.hexists(mesh_keys.manifests(), "old")


async def test_it_needs_an_admin_and_a_service_that_is_there(api, make_key):
    headers = {"authorization": f"Bearer {await make_key('reader', subscribe=['*'])}"}

    assert_problem(await api.delete(OLD, headers=headers), 403, "forbidden")
    assert_problem(await api.delete(OLD), 404, "not-found")
    assert_problem(await api.delete(OLD, params={"backlog": "keep"}), 422, "invalid-request")


@pytest.mark.parametrize("backlog", ["drop", "dead-letter"])
async def test_nothing_of_it_is_left_and_what_waited_met_the_fate_that_was_asked(
    api, mesh, publish, letters, mesh_redis, mesh_keys, backlog
):
    await mesh.subscribe("old", "order.placed")
    await publish(3)
    running, _, _ = await mesh.dispatch("order", "old")
    await mesh.start(running)  # and its worker died
    await publish(2)
    await publish(1, "order.lost")  # none of its business
    await mesh_redis.xadd(mesh_keys.queue("old"), {"h": b"{}", "b": b"[]"})  # a plain call

    answer = (await api.delete(OLD, params={"backlog": backlog})).json()

    kept = backlog == "dead-letter"
    assert answer == {
        **{"service": "old", "removed": True, "backlog": backlog, "events": 3, "tasks": 3},
        "calls": 1 if kept else 0,
    }
    assert await left(mesh_redis, mesh_keys) == []
    found = await letters()
    assert sorted(letter.form for letter in found) == (
        ["entry", "event", "event", *["task"] * 3] if kept else []
    )
    assert {letter.kind for letter in found} <= {"ServiceRemoved"}
    assert (await api.get("/v1/services")).json()["services"] == []
    assert_problem(await api.delete(OLD), 404, "not-found")


async def test_whoever_follows_an_event_that_waited_for_it_is_told_the_end(live, mesh):
    """Three events: handed over to both, to the other one only, to none."""
    await mesh.subscribe("old", "order.placed")
    await mesh.subscribe("other", "order.placed")
    publish = {"type": "order.placed"}
    sent = [(await live.post("/v1/events", json=publish)).json()]
    await mesh.dispatch("order", "old")
    sent.append((await live.post("/v1/events", json=publish)).json())
    for task in await mesh.dispatch("order", "other"):
        await mesh.start(task)
        await mesh.succeed(task)
    sent.append((await live.post("/v1/events", json=publish)).json())
    async with listening(live, sent[1]["links"]["notifications"]) as stream:
        answer = await live.delete(OLD, params=DROP)
        told = [one.type for one in await stream.rest()]

    assert answer.json()["events"] == 2 and answer.json()["tasks"] == 1
    assert told[-1] == "event.completed"
    assert [await state(live, one) for one in sent] == ["completed", "completed", "waiting"]
    (task,) = await mesh.dispatch("order", "other")
    await mesh.start(task)
    assert await state(live, sent[2]) == "running"
    await mesh.succeed(task)
    assert await state(live, sent[2]) == "completed"


async def test_an_event_that_only_it_wanted_ends_as_unrouted(live, mesh):
    await mesh.subscribe("old", "order.placed")
    await mesh.subscribe("other", "order.placed", where={"subject": "nobody"})
    sent = (await live.post("/v1/events", json={"type": "order.placed"})).json()
    await mesh.dispatch("order", "other")  # which says that one delivery is wanted
    async with listening(live, sent["links"]["notifications"]) as stream:
        await live.delete(OLD, params=DROP)
        told = await stream.rest()

    assert [one.type for one in told] == ["event.unrouted"]


async def test_tasks_that_are_held_or_retried_are_ended_with_what_a_replay_needs(
    api, mesh, publish, letters, mesh_redis, mesh_keys, mesh_settings
):
    await mesh.subscribe("old", "order.placed")
    sent = await publish(2)
    held, retried = await mesh.dispatch("order", "old")
    place = await mesh_redis.xadd(mesh_keys.held("old.handle"), {"k": held.ref.task_id, "h": b"1", "b": b"2"})
    await mesh_redis.xdel(mesh_keys.queue("old"), held.place.entry)
    await mesh_redis.sadd(mesh_keys.holding(), "old.handle")
    row = {"state": "held", "held": place, "entry": ""}
    await mesh_redis.hset(mesh_keys.task(held.ref.task_id), mapping=row)
    await mesh.start(retried)
    await mesh.retry(retried)

    await api.delete(OLD)

    assert [await state(api, one) for one in sent] == ["completed", "completed"]
    assert (
        await mesh_redis.zcard(mesh_keys.due()) == 0 and await mesh_redis.hlen(mesh_keys.due_entries()) == 0
    )
    assert await mesh_redis.smembers(mesh_keys.holding()) == set()
    found = await letters()
    assert len(found) == 2
    await mesh.subscribe("old", "order.placed")  # it comes back, and its letters with it
    replayed = await Replaying(mesh_redis, mesh_keys, mesh_settings).replay(found)
    assert (replayed.replayed, await mesh_redis.xlen(mesh_keys.queue("old"))) == (2, 2)
    fields = [entry for _, entry in await mesh_redis.xrange(mesh_keys.queue("old"))]
    assert {b"h": b"1", b"b": b"2"} in fields


async def test_what_is_much_is_done_in_several_requests(
    api, mesh, publish, monkeypatch, mesh_redis, mesh_keys
):
    monkeypatch.setattr(status, "REMOVING_SECONDS", 0.0)
    await mesh.subscribe("old", "order.placed")
    await publish(2)

    first = await api.delete(OLD, params=DROP)
    monkeypatch.setattr(status, "REMOVING_SECONDS", 5.0)
    (listed,) = (await api.get("/v1/services")).json()["services"]
    second = await api.delete(OLD, params=DROP)

    assert (first.status_code, first.json()["removed"]) == (202, False)
    assert not listed["registered"]
    assert (second.status_code, second.json()["events"]) == (200, 2)
    assert await left(mesh_redis, mesh_keys) == []


async def test_a_service_that_comes_back_meanwhile_stays(
    api, mesh, publish, mesh_redis, mesh_keys, mesh_settings, monkeypatch
):
    await mesh.subscribe("old", "order.placed")
    await publish(1)
    begin = Retirement._begin

    async def and_comes_back(self):
        await begin(self)
        wants = Subscription("old", "old.handle", "order.placed")
        await lua.run(mesh_redis, register_call(mesh_keys, Manifest("old", subscriptions=(wants,))))

    monkeypatch.setattr(Retirement, "_begin", and_comes_back)
    assert_problem(await api.delete(OLD), 409, "service-alive")

    assert await mesh_redis.hexists(mesh_keys.manifests(), "old")
    pending = await mesh_redis.xpending(mesh_keys.events("order"), "old")
    assert pending["pending"] == 1  # for its lane to take over


async def test_events_are_trimmed_again_once_it_is_gone(api, mesh, publish, mesh_redis, mesh_keys):
    from datetime import timedelta

    from streammesh.event_trim import trim

    await mesh.subscribe("old", "order.placed")
    await mesh.subscribe("other", "order.placed")
    await publish(3)
    await mesh.dispatch("order", "other")
    stream = mesh_keys.events("order")
    ids = [position for position, _ in await mesh_redis.xrange(stream)]
    await mesh_redis.xack(stream, "other", *ids)
    await asyncio.sleep(0.01)

    (before,) = await trim(mesh_redis, mesh_keys, timedelta(milliseconds=1))
    await api.delete(OLD, params=DROP)
    (after,) = await trim(mesh_redis, mesh_keys, timedelta(milliseconds=1))

    assert (before.left, before.kept_by) == (3, "old")
    assert (after.removed, after.left) == (3, 0)


async def test_a_queue_of_something_else_is_stepped_over(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("old", "order.placed")
    await mesh_redis.xgroup_create(mesh_keys.queue("old", 3), WORKERS, "0", mkstream=True)

    assert (await api.delete(OLD)).json()["removed"]
