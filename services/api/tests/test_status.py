"""What the mesh says of itself over HTTP: to keys that may read everything, also when something is wrong."""

from __future__ import annotations

import asyncio
import time

import pytest
from streammesh.status import snapshot

from services.api import status_cache
from services.api.routes import status
from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


@pytest.fixture(autouse=True)
def always_look(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)


@pytest.fixture
async def well(mesh_redis, mesh_keys):
    now = time.time() * 1000
    for role in ("dispatcher", "beat", "worker"):
        await mesh_redis.zadd(mesh_keys.alive(role), {f"{role}@test:1": now})


async def test_a_mesh_without_a_dispatcher_is_told_of_and_goes_on_taking_events(api, mesh):
    await mesh.subscribe("worker", "order.placed")
    sent = await api.post("/v1/events", json={"type": "order.placed"})

    found = (await api.get("/v1/status")).json()

    assert (sent.status_code, (await api.get("/readyz")).status_code) == (202, 200)
    assert found["status"] == "failing" and found["apis"] == 1
    codes = {one["code"] for one in found["findings"]}
    assert {"no-dispatcher", "no-worker"} <= codes
    assert "no dispatcher is alive: events wait in their streams" in found["problems"]


async def test_services_are_listed_with_what_waits_for_them(api, mesh, well):
    await mesh.subscribe("worker", "order.placed")
    for n in range(3):
        await api.post("/v1/events", json={"type": "order.placed", "data": n})
    (before,) = (await api.get("/v1/services")).json()["services"]
    await mesh.dispatch("order", "worker")
    (after,) = (await api.get("/v1/services")).json()["services"]

    assert before["subscriptions"] == [{"task": "worker.handle", "type": "order.placed"}]
    assert (before["lag"], before["queued"], before["workers"]) == (3, 0, 1)
    assert (after["lag"], after["queued"], after["waiting"]) == (0, 3, 3)
    assert 0 <= after["oldest_waiting_seconds"] < 60


async def test_push_that_stands_still_is_told(live, door, mesh, monkeypatch):
    monkeypatch.setattr(status, "STILL_SECONDS", 0.1)
    async with listening(live, "/v1/notifications"):
        hub = door.app.state.wiring.hub

        async def broken() -> None:
            raise ValueError("it cannot be read")

        hub._read_once = broken
        await mesh.tell()
        async with asyncio.timeout(10):
            while True:
                found = (await live.get("/v1/status")).json()
                said = [one for one in found["findings"] if one["code"] == "push-stands-still"]
                if said:
                    break
                await asyncio.sleep(0.05)
        assert "it cannot be read" in said[0]["text"]


async def test_many_who_ask_at_once_cost_one_look(api, monkeypatch):
    looks = 0
    read = snapshot.read_snapshot

    async def counted(*given):
        nonlocal looks
        looks += 1
        return await read(*given)

    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 5.0)
    monkeypatch.setattr(status_cache, "read_snapshot", counted)
    await asyncio.gather(*(api.get("/v1/status") for _ in range(20)))

    assert looks == 1


async def test_a_key_that_may_not_read_everything_is_refused(api, make_key):
    headers = {"authorization": f"Bearer {await make_key('narrow', subscribe=['order.*'])}"}
    wide = {"authorization": f"Bearer {await make_key('wide', subscribe=['*'])}"}

    for path in ("/v1/status", "/v1/services"):
        assert_problem(await api.get(path, headers=headers), 403, "forbidden")
        assert (await api.get(path, headers=wide)).status_code == 200
        assert_problem(await api.get(path, params={"x": "1"}), 400, "malformed-request")
