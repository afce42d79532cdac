"""Publishing, or asking after an event, and having the answer when all is done."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from streammesh import lua
from streammesh.flow.limits import Flow
from streammesh.lines.folds import folds_call
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.settlement import Ending
from streammesh.tasks.task import Holder
from streammesh.testing.conditions import wait_until

from services.api.tests.expectations import assert_problem

EVENT = {"type": "order.placed", "data": {"n": 1}}


@pytest.fixture
async def work(mesh):
    """Does what one service does with the next event, after a moment."""
    await mesh.subscribe("worker", "order.placed")

    async def work(seconds: float = 0.1) -> None:
        await asyncio.sleep(seconds)
        (task,) = await mesh.dispatch("order", "worker")
        await mesh.start(task)
        await asyncio.sleep(seconds)
        await mesh.succeed(task, {"ok": True})

    return work


async def test_who_publishes_and_waits_is_told_the_outcome(live, work):
    working = asyncio.create_task(work())
    answer = await live.post("/v1/events", params={"wait": "10s"}, json=EVENT)
    await working

    assert answer.status_code == 200
    found = answer.json()
    assert found["state"] == "completed"
    assert found["deliveries"][0]["task"]["result"] == {"ok": True}


async def test_what_takes_longer_is_answered_with_where_it_stands(live, work):
    began = monotonic()
    answer = await live.post("/v1/events", params={"wait": "300ms"}, json=EVENT)

    assert 0.3 <= monotonic() - began < 3
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    working = asyncio.create_task(work())
    again = await live.get(answer.json()["links"]["self"], params={"wait": "10s"})
    await working
    assert (again.status_code, again.json()["state"]) == (200, "completed")


async def test_what_has_ended_is_answered_at_once(live, work):
    sent = (await live.post("/v1/events", json=EVENT)).json()
    await work(0)
    began = monotonic()
    answer = await live.get(sent["links"]["self"], params={"wait": "60s"})

    assert (answer.status_code, answer.json()["state"]) == (200, "completed")
    assert monotonic() - began < 2


async def test_an_event_that_nobody_wants_has_ended(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    waiting = asyncio.create_task(
        live.post("/v1/events", params={"wait": "10s"}, json={"type": "order.lost"})
    )
    await asyncio.sleep(0.3)
    await mesh.dispatch("order", "worker")
    answer = await asyncio.wait_for(waiting, 5)

    assert (answer.status_code, answer.json()["state"]) == (200, "unrouted")


async def test_a_duplicate_waits_for_the_first(live, work):
    same = {**EVENT, "id": "order-1"}
    await live.post("/v1/events", json=same)
    working = asyncio.create_task(work())
    answer = await live.post("/v1/events", params={"wait": "10s"}, json=same)
    await working
    assert answer.json()["state"] == "completed"


async def test_who_waits_for_an_event_that_another_run_takes_is_told_which(live, mesh):
    quiet = Flow(key="data.doc", debounce=10.0)
    await mesh.subscribe("worker", "doc.changed", flow=quiet)
    body = {"type": "doc.changed", "data": {"doc": "a"}}
    waiting = asyncio.create_task(live.post("/v1/events", params={"wait": "10s"}, json=body))
    stream = mesh.keys.events("doc")
    await wait_until("the first is stored", lambda: mesh.redis.exists(stream))
    last = (await live.post("/v1/events", json=body)).json()
    first, run = await mesh.dispatch("doc", "worker")
    for key in (mesh.keys.flow_slow(run.ref.name), mesh.keys.flow_until(run.ref.name), mesh.keys.due()):
        for member in await mesh.redis.zrange(key, 0, -1):
            await mesh.redis.zincrby(key, -11_000, member)  # the quiet period is over
    due = DueSet(mesh.redis, mesh.keys)
    await due.promote(await due.now_ms())
    assert not waiting.done()
    _, [fold] = await lua.run(mesh.redis, folds_call(mesh.keys, first.ref.name))
    ending = Ending.folded(fold.run)
    await lua.run(mesh.redis, mesh.settlement.call(first.ref, first.place, Holder.IN_LINE, ending))
    answer = await waiting

    assert (answer.status_code, answer.json()["state"]) == (200, "completed")
    task = answer.json()["deliveries"][0]["task"]
    assert (task["state"], task["result"]) == ("folded", {"run": run.ref.task_id})
    still = await live.get(last["links"]["self"], params={"wait": "50ms"})
    assert still.json()["state"] == "running"  # the run itself has not ended


@pytest.mark.parametrize("text", ["soon", "-1s", "61s", "1e9", "", "nan", "10s&wait=10s"])
async def test_a_wait_that_makes_no_sense_is_refused_and_nothing_was_published(
    api, mesh_redis, mesh_keys, text
):
    assert_problem(await api.post(f"/v1/events?wait={text}", json=EVENT), 400, "malformed-request")
    assert_problem(await api.get(f"/v1/events/x?wait={text}"), 400, "malformed-request")
    assert await mesh_redis.exists(mesh_keys.events("order")) == 0


async def test_a_batch_and_a_key_that_may_not_read_cannot_wait(api, make_key, mesh_redis, mesh_keys):
    batch = [{"specversion": "1.0", "id": "1", "source": "shop", "type": "order.placed"}]
    headers = {"content-type": "application/cloudevents-batch+json"}
    refused = await api.post("/v1/events?wait=5s", json=batch, headers=headers)
    assert_problem(refused, 400, "malformed-request")
    key = await make_key("writer", publish=["*"])
    refused = await api.post("/v1/events?wait=5s", json=EVENT, headers={"authorization": f"Bearer {key}"})
    assert_problem(refused, 403, "forbidden")
    assert await mesh_redis.exists(mesh_keys.events("order")) == 0


async def test_who_waits_frees_the_place_of_a_stream(live, door, work):
    for _ in range(3):
        await live.post("/v1/events", params={"wait": "50ms"}, json=EVENT)
    assert door.app.state.wiring.hub.open_streams == 0
