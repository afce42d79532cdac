"""One event's stream: what happened first, then what happens, and an end after the last task's."""

from __future__ import annotations

import asyncio

import pytest

from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


@pytest.fixture
async def sent(live, mesh):
    """An event that one service subscribes to, published and not yet handed over."""
    await mesh.subscribe("worker", "order.placed")
    return (await live.post("/v1/events", json={"type": "order.placed", "data": {"n": 1}})).json()


def types(heard):
    return [one.type for one in heard]


async def test_the_past_comes_first_and_the_stream_ends_with_the_event(live, mesh, sent):
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)

    async with listening(live, sent["links"]["notifications"]) as stream:
        past = await stream.take(2)
        await mesh.progress(task, 0.5, "half way")
        await mesh.succeed(task, {"ok": True})
        live_ = await stream.rest()

    assert types(past) == ["task.queued", "task.started"]
    assert types(live_) == ["task.progress", "task.succeeded", "event.completed"]
    assert live_[1].data["data"] == {"result": {"ok": True}}
    assert live_[2].data["data"] == {"tasks": 1, "failed": 0}
    assert {one.data["event"]["id"] for one in past + live_} == {sent["id"]}


async def test_who_listens_before_anything_happened_is_told_everything(live, mesh, sent):
    async with listening(live, sent["links"]["notifications"]) as stream:
        (task,) = await mesh.dispatch("order", "worker")
        await mesh.start(task)
        await mesh.fail(task, "no")
        heard = await stream.rest()

    assert types(heard) == ["task.queued", "task.started", "task.failed", "event.completed"]
    assert heard[2].data["data"]["error"] == {"reason": "no", "kind": "Reject"}


async def test_an_event_that_ended_is_told_from_its_history_and_again_not_at_all(live, mesh, sent):
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.succeed(task)

    async with listening(live, sent["links"]["notifications"]) as stream:
        heard = await stream.rest()
    again = await live.get(sent["links"]["notifications"], headers={"last-event-id": heard[-1].last_event_id})
    async with listening(
        live, sent["links"]["notifications"], params={"after": heard[1].last_event_id}
    ) as stream:
        rest = await stream.rest()

    assert types(heard) == ["task.queued", "task.started", "task.succeeded", "event.completed"]
    assert (again.status_code, again.content) == (204, b"")
    assert types(rest) == ["task.succeeded", "event.completed"]


async def test_an_event_that_nobody_wants_ends_as_unrouted(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    sent = (await live.post("/v1/events", json={"type": "order.lost"})).json()

    async with listening(live, sent["links"]["notifications"]) as stream:
        await mesh.dispatch("order", "worker")
        heard = await stream.rest()

    assert types(heard) == ["event.unrouted"]


async def test_several_services_end_it_together(live, mesh):
    await mesh.subscribe("one", "order.placed")
    await mesh.subscribe("two", "order.*")
    sent = (await live.post("/v1/events", json={"type": "order.placed"})).json()

    async with listening(live, sent["links"]["notifications"]) as stream:
        for service in ("one", "two"):
            (task,) = await mesh.dispatch("order", service)
            await mesh.start(task)
            await mesh.succeed(task, service)
        heard = await stream.rest()

    assert types(heard).count("task.succeeded") == 2
    assert types(heard)[-1] == "event.completed" and types(heard).count("event.completed") == 1


async def test_it_has_no_gap_and_no_double_whenever_it_is_opened(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    expected = ["task.queued", "task.started", *["task.progress"] * 20, "task.succeeded", "event.completed"]

    async def work(task):
        await mesh.start(task)
        for i in range(20):
            await mesh.progress(task, i / 20, str(i))
            await asyncio.sleep(0)
        await mesh.succeed(task)

    async def hear(sent, pause):
        await asyncio.sleep(pause)
        async with listening(live, sent["links"]["notifications"]) as stream:
            return await stream.rest()

    for round_ in range(5):
        sent = (await live.post("/v1/events", json={"type": "order.placed", "data": round_})).json()
        (task,) = await mesh.dispatch("order", "worker")
        hearing = [asyncio.create_task(hear(sent, pause / 500)) for pause in range(8)]
        await work(task)
        for told in await asyncio.gather(*hearing):
            assert types(told) == expected
            assert len({one.last_event_id for one in told}) == len(told)


async def test_the_same_id_from_several_sources_is_told_apart(live, mesh):
    await mesh.subscribe("worker", "order.placed")
    for source in ("here", "there"):
        await live.post("/v1/events", json={"type": "order.placed", "id": "same", "source": source})

    ambiguous = await live.get("/v1/events/same/notifications")
    async with listening(live, "/v1/events/same/notifications", params={"source": "there"}) as stream:
        for task in await mesh.dispatch("order", "worker"):
            await mesh.start(task)
            await mesh.succeed(task, task.ref.event.source)
        heard = await stream.rest()

    assert_problem(ambiguous, 409, "ambiguous-event")
    assert {one.data["event"]["source"] for one in heard} == {"there"}
    assert types(heard)[-1] == "event.completed"


async def test_of_an_ended_event_without_its_history_the_outcome_is_told_and_the_stream_ends(
    live, mesh, sent, mesh_redis, mesh_keys
):
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.fail(task, "no")
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=0, approximate=False)

    async with listening(live, sent["links"]["notifications"]) as stream:
        heard = await stream.rest()
    again = await live.get(sent["links"]["notifications"], headers={"last-event-id": stream.position})

    assert types(heard) == ["resync", "task.failed", "event.completed"]
    assert heard[1].data["task"]["id"] == task.ref.task_id and heard[1].data["task"]["attempt"] == 1
    assert heard[1].data["data"]["error"] == {"reason": "no", "kind": "Reject"}
    assert heard[1].data["event"] == {
        "id": sent["id"], "type": "order.placed", "source": sent["source"], "subject": None
    }  # fmt: skip
    assert heard[2].data["data"] == {"tasks": 1, "failed": 1} and heard[2].data["time"].endswith("Z")
    assert (stream.position, again.status_code) == (heard[2].data["id"], 204)


async def test_what_is_left_of_an_ended_event_is_told_with_the_endings_that_are_missing(
    live, mesh, sent, mesh_redis, mesh_keys
):
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    await mesh.succeed(task, {"ok": True})
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=1, approximate=False)

    async with listening(live, sent["links"]["notifications"]) as stream:
        heard = await stream.rest()

    assert types(heard) == ["resync", "task.succeeded", "event.completed"]
    assert heard[1].data["data"] == {"result": {"ok": True}}
    assert heard[2].last_event_id == heard[2].data["id"]


async def test_an_unrouted_event_without_its_history_ends_as_unrouted(live, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("worker", "order.placed")
    sent = (await live.post("/v1/events", json={"type": "order.lost"})).json()
    await mesh.dispatch("order", "worker")
    await mesh_redis.delete(mesh_keys.notifications())

    async with listening(live, sent["links"]["notifications"]) as stream:
        heard = await stream.rest()

    assert types(heard) == ["resync", "event.unrouted"]


async def test_an_event_whose_end_was_trimmed_before_it_was_read_ends_all_the_same(
    live, door, mesh, sent, mesh_redis, mesh_keys
):
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    async with listening(live, sent["links"]["notifications"]) as stream:
        await stream.take(2)
        hub = door.app.state.wiring.hub
        async with asyncio.timeout(5):
            while not [
                c
                for c in await mesh_redis.client_list()
                if c["name"] == "streammesh-api-notifications" and "b" in c["flags"]
            ]:
                await asyncio.sleep(0.01)  # a reader that is not there yet would read what is told below
        read, gate = hub._read_once, asyncio.Event()

        async def held() -> None:
            await gate.wait()
            hub._read_once = read
            raise TimeoutError

        hub._read_once = held
        await mesh.tell()  # wakes the reader, which then waits at the gate
        await mesh.succeed(task, {"ok": True})
        await mesh.tell(n=5)
        await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=1, approximate=False)
        gate.set()
        heard = await stream.rest()

    assert types(heard) == ["resync", "task.succeeded", "event.completed"]


async def test_an_unknown_event_has_no_notifications(api):
    assert_problem(await api.get("/v1/events/nothing/notifications"), 404, "not-found")


async def test_a_key_without_the_scope_does_not_learn_that_there_is_an_event(live, sent, make_key):
    headers = {"authorization": f"Bearer {await make_key('narrow', subscribe=['user.*'])}"}

    assert_problem(await live.get(sent["links"]["notifications"], headers=headers), 404, "not-found")
    assert_problem(await live.get(sent["links"]["self"], headers=headers), 404, "not-found")
