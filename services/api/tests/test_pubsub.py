"""What is told is published as well, for whoever has a plain Redis client and no wish to ask twice."""

from __future__ import annotations

import json
from typing import Any

from services.api.tests.mesh import Mesh


async def _one_task(mesh: Mesh, publisher, event_type: str = "order.placed") -> str:
    await mesh.subscribe("worker", event_type)
    sent = await publisher.post("/v1/events", json={"type": event_type})
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.succeed(task, {"ok": True})
    return sent.json()["id"]


async def _heard(listening, n: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < n and (message := await listening.get_message(timeout=2)) is not None:
        if message["type"].endswith("message"):
            found.append(json.loads(message["data"]))
    return found


async def test_a_plain_subscriber_hears_each_notification_once(api, mesh, mesh_redis, mesh_keys):
    async with mesh_redis.pubsub() as one, mesh_redis.pubsub() as all_of_them:
        await one.subscribe(mesh_keys.told("order.placed"))
        await all_of_them.psubscribe(mesh_keys.told("*"))
        event = await _one_task(mesh, api)
        heard, more = await _heard(one, 4), await _heard(all_of_them, 4)
        nothing = await one.get_message(ignore_subscribe_messages=True, timeout=0.05)

    entries = await mesh_redis.xrange(mesh_keys.notifications())
    assert [note["id"] for note in heard] == [at.decode() for at, _ in entries]
    assert [note["type"] for note in heard] == [
        "task.queued", "task.started", "task.succeeded", "event.completed",
    ]  # fmt: skip
    assert {note["event"]["id"] for note in heard} == {event} and heard[2]["data"] == {"result": {"ok": True}}
    assert (more, nothing) == (heard, None)


async def test_nothing_is_published_where_that_is_turned_off(api, mesh_redis, mesh_keys, mesh_settings):
    mesh = Mesh(mesh_redis, mesh_keys, mesh_settings.model_copy(update={"pubsub": False}))
    async with mesh_redis.pubsub() as listening:
        await listening.psubscribe(mesh_keys.told("*"))
        await _one_task(mesh, api)
        heard = [m async for m in _waiting(listening)]

    assert heard == []
    assert await mesh_redis.xlen(mesh_keys.notifications()) == 4


async def _waiting(listening):
    while (message := await listening.get_message(ignore_subscribe_messages=True, timeout=0.05)) is not None:
        yield message


async def test_a_worker_that_may_not_use_the_channels_tells_all_the_same(api, mesh, mesh_redis, mesh_keys):
    await mesh_redis.execute_command(
        "ACL", "SETUSER", "default", "resetchannels", f"&{mesh_keys.manifests_changed()}"
    )
    try:
        await _one_task(mesh, api)
    finally:
        await mesh_redis.execute_command("ACL", "SETUSER", "default", "allchannels")

    assert await mesh_redis.xlen(mesh_keys.notifications()) == 4
