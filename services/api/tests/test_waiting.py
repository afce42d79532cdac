"""Of each subscription that wants an event and has not run, the event's page says what it waits for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from streammesh import lua
from streammesh.status.not_run import Why
from streammesh.tasks.pause import pause_call


@pytest.fixture
async def lives(mesh_redis, mesh_keys):
    async def lives(*roles: str) -> None:
        for role in roles:
            await mesh_redis.zadd(mesh_keys.alive(role), {f"{role}@test:1": time.time() * 1000})

    return lives


@pytest.fixture
def waits(api):
    async def waits(sent) -> list[tuple[str, str, int | None]]:
        found = (await api.get(sent["links"]["self"])).json()
        assert all(one["detail"] for one in found["not_run"])
        return [(one["subscription"], one["why"], one["ahead"]) for one in found["not_run"]]

    return waits


@pytest.fixture
def publish(api):
    async def publish(n: int = 1) -> list[dict[str, Any]]:
        return [(await api.post("/v1/events", json={"type": "order.placed"})).json() for _ in range(n)]

    return publish


async def test_without_a_dispatcher_it_waits_for_one(mesh, publish, waits):
    await mesh.subscribe("worker", "order.placed")
    (sent,) = await publish()

    assert await waits(sent) == [("worker.handle", Why.NO_DISPATCHER, None)]


async def test_each_subscription_is_named_with_its_own_reason(mesh, publish, waits, lives):
    for service in ("one", "two", "three"):
        await mesh.subscribe(service, "order.placed")
    sent = await publish(3)
    await lives("dispatcher", "one")
    await mesh.dispatch("order", "one")
    await mesh.dispatch("order", "two")

    assert await waits(sent[2]) == [
        ("one.handle", Why.IN_LINE, 2),
        ("three.handle", Why.IN_LINE, 2),
        ("two.handle", Why.NO_WORKER, None),
    ]


async def test_what_has_begun_or_ended_is_not_among_them(mesh, publish, waits, lives):
    await mesh.subscribe("worker", "order.placed")
    sent = await publish(2)
    await lives("dispatcher", "worker")
    first, second = await mesh.dispatch("order", "worker")
    await mesh.start(first)
    await mesh.succeed(first)
    await mesh.start(second)

    assert [await waits(one) for one in sent] == [[], []]


async def test_a_lane_that_waits_for_a_full_queue_says_so(
    mesh, publish, waits, lives, mesh_settings, door, monkeypatch
):
    await mesh.subscribe("worker", "order.placed")
    await publish(3)
    await lives("dispatcher", "worker")
    await mesh.dispatch("order", "worker")
    sent = await publish(2)
    monkeypatch.setattr(door.app.state.wiring, "mesh", mesh_settings.model_copy(update={"max_queued": 3}))

    assert await waits(sent[1]) == [("worker.handle", Why.QUEUE_FULL, 1)]


async def test_a_paused_subscription_says_since_when_and_why(
    api, mesh, publish, waits, lives, mesh_redis, mesh_keys, mesh_settings
):
    await mesh.subscribe("worker", "order.placed")
    await lives("dispatcher", "worker")
    pause = pause_call(mesh_keys, mesh_settings, "worker.handle", "order.placed", "the house moves")
    await lua.run(mesh_redis, pause)
    (sent,) = await publish()
    (task,) = await mesh.dispatch("order", "worker")
    await mesh_redis.hset(mesh_keys.task(task.ref.task_id), mapping={"state": "held", "held": "1-0"})

    assert await waits(sent) == [("worker.handle", Why.PAUSED, None)]
    (said,) = (await api.get(sent["links"]["self"])).json()["not_run"]
    assert "the house moves" in said["detail"] and said["task_id"] == task.ref.task_id


async def test_a_service_that_subscribed_later_is_told_so(mesh, publish, waits, lives):
    await mesh.subscribe("worker", "order.placed")
    (sent,) = await publish()
    await mesh.subscribe("late", "order.placed")
    await lives("dispatcher", "worker", "late")

    assert await waits(sent) == [
        ("late.handle", Why.CAME_LATER, None),
        ("worker.handle", Why.IN_LINE, 0),
    ]


async def test_what_a_dispatcher_has_in_hand_is_in_line(mesh, publish, waits, lives, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed")
    (sent,) = await publish()
    await lives("dispatcher", "worker")
    await mesh_redis.xreadgroup("worker", "d", {mesh_keys.events("order"): ">"})

    assert await waits(sent) == [("worker.handle", Why.IN_LINE, 0)]


async def test_an_event_for_later_waits_for_nothing_else(api, mesh, waits):
    await mesh.subscribe("worker", "order.placed")
    later = {"type": "order.placed", "deliverat": "2099-01-01T00:00:00Z"}
    sent = (await api.post("/v1/events", json=later)).json()

    assert await waits(sent) == []
