"""Durable handlers: what a step came to is recorded once, and a handler that waits holds no worker."""

from __future__ import annotations

import asyncio
import time

import pytest
from streammesh import lua
from streammesh.durable.calls import DurableCalls
from streammesh.tasks.settlement import cancel_call
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe_durable"]
CONCURRENCY = "4"


async def state(ask, event_id, wanted):
    async def there():
        found = await ask.rows.events(event_id)
        tasks = await ask.rows.tasks(found[0].task_ids) if found else []
        return [task for task in tasks if task.state == wanted]

    [task] = await wait_until(f"a task is {wanted}", there, seconds=20)
    return task


async def test_a_step_that_was_made_is_not_made_again_when_the_attempt_fails(ask):
    task = await ask.run("durable.ordered", {"fails": True})

    assert task.state == "succeeded", task.error
    assert task.result == {"charge": 250, "id": f"c-{task.id[:8]}", "packed": True, "attempt": 2}
    assert runs(ask.mesh.record)[f"charge {task.id}"] == runs(ask.mesh.record)[f"pack {task.id}"] == 1


async def test_a_step_is_tried_again_where_it_stands(ask):
    task = await ask.run("durable.flaky")
    assert (task.state, task.result, task.attempt) == ("succeeded", 3, 1), task.error
    assert runs(ask.mesh.record)[f"flaky {task.id}"] == 3


@pytest.mark.parametrize("event_type", ["durable.sleepy", "durable.plain"])
async def test_a_sleeping_handler_holds_no_worker_and_goes_on_where_it_was(ask, event_type):
    began = time.monotonic()
    sleeping = [await ask.publish(event_type, {"seconds": 1.5}) for _ in range(12)]  # of 4 places
    await state(ask, sleeping[-1], "waiting")
    quick = await ask.run("durable.ordered", {})
    assert time.monotonic() - began < 1.5
    assert quick.state == "succeeded"

    for event_id in sleeping:
        [task] = await ask.ended(event_id)
        assert (task.state, task.result["attempt"]) == ("succeeded", 2), task.error
        assert runs(ask.mesh.record)[f"pack {task.id}"] == 1
    assert 1.5 <= time.monotonic() - began < 15


async def test_an_event_ends_the_wait_for_it_and_no_other(ask):
    other = await ask.publish("durable.placed", {"order": 1})
    waiting = await ask.publish("durable.placed", {"order": 2})
    await state(ask, other, "waiting")
    task = await state(ask, waiting, "waiting")
    paid = await ask.publish("durable.paid", {"order": 2, "cents": 5})

    [done] = await ask.ended(waiting)
    assert done.result["paid"] == {"order": 2, "cents": 5}
    [waker] = await ask.ended(paid)
    assert waker.result == {"woke": 1, "tasks": [task.id]}
    assert (await state(ask, other, "waiting")).attempt == 1


async def test_an_event_that_came_before_the_wait_began_is_found_and_one_before_the_run_is_not(ask):
    await ask.run("durable.paid", {"order": 3, "cents": 1})
    waiting = await ask.publish("durable.placed", {"order": 3, "timeout": 0.5, "twice": 30})
    await asyncio.sleep(1.5)  # the first wait has run out, the second goes on
    await ask.run("durable.paid", {"order": 3, "cents": 2})

    [done] = await ask.ended(waiting)
    assert (done.result["paid"], done.result["again"]) == (None, {"order": 3, "cents": 2})


async def test_pairs_at_any_distance_meet_once(ask):
    """The event comes before, while and after its run begins to wait."""

    async def pair(n):
        order = f"pair-{n}"
        run = await ask.publish("durable.placed", {"order": order, "twice": 1.0})
        await asyncio.sleep(n % 10 / 100)
        await ask.publish("durable.paid", {"order": order, "cents": n})
        [task] = await ask.ended(run, 30)
        return task.result

    results = await asyncio.gather(*(pair(n) for n in range(60)))
    assert [(one["paid"] or {}).get("cents") for one in results] == list(range(60))
    assert {one["again"] for one in results} == {None}


async def test_a_wait_runs_out_once(ask):
    task = await ask.run("durable.placed", {"order": "nobody", "timeout": 0.3})
    assert (task.state, task.result["paid"]) == ("succeeded", None)
    members = [
        member
        async for key in ask.redis.scan_iter(match="*waiters:*")
        for member in await ask.redis.zrange(key, 0, -1)
    ]
    assert not [member for member in members if task.id.encode() in member]


async def test_a_signal_answers_the_handler_and_the_first_one_counts(ask):
    event_id = await ask.publish("durable.asking")
    task = await state(ask, event_id, "waiting")
    calls = DurableCalls(ask.mesh.keys, ask.mesh.settings)
    answers = [
        await lua.run(ask.redis, calls.signal(task, "approval", value))
        for value in (b'{"by":"ann"}', b"false")
    ]
    [done] = await ask.ended(event_id)
    assert (done.state, done.result) == ("succeeded", {"by": "ann"})
    assert [*answers, await lua.run(ask.redis, calls.signal(task, "later", b"1"))] == [
        "done",
        "known",
        "ended",
    ]
    assert "task.waiting" in await ask.told(event_id)


async def test_a_waiting_task_can_be_cancelled(ask):
    event_id = await ask.publish("durable.asking")
    task = await state(ask, event_id, "waiting")
    settled = await lua.run(ask.redis, cancel_call(ask.mesh.keys, ask.mesh.settings, task))
    assert (settled.answer, settled.state) == ("done", "cancelled")
    assert await ask.redis.zscore(ask.mesh.keys.due(), f"task:{task.id}") is None


async def streamed(ask, task, name="tokens"):
    entries = await ask.redis.xrange(ask.mesh.keys.chunks(task.id, name))
    return [(position.decode(), fields[b"k"] + fields[b"d"]) for position, fields in entries]


async def test_what_a_handler_streams_is_written_before_its_task_ends_and_begun_anew_by_each_attempt(ask):
    first = await ask.run("durable.told", {"chunks": 3})
    assert await streamed(ask, first) == [
        ("1-1", b"t1.0"),
        ("1-2", b"t1.1"),
        ("1-3", b"t1.2"),
        ("1-4", b"braw"),
        ("1-5", b'j{"n":1}'),
    ]
    many = await ask.run("durable.told", {"chunks": 3_000, "fails": True})
    assert (many.state, many.attempt) == ("succeeded", 2), many.error
    chunks = await streamed(ask, many)
    assert [chunk for _, chunk in chunks[:-2]] == [b"t2.%d" % n for n in range(3_000)]
    assert chunks[-1][0] == "2-3002"


async def test_a_def_handler_streams_without_await_and_is_told_of_the_bounds(ask):
    task = await ask.run("durable.told_plainly")
    assert [chunk for _, chunk in await streamed(ask, task)] == [b"ta", b"tb", b"tx"]
    large = await ask.run("durable.told_plainly", {"large": 70_000})
    assert (large.state, large.attempt) == ("failed", 1)
    assert "send it in parts" in large.error["reason"]


@pytest.mark.parametrize(
    "event_type, data, says",
    [
        ("durable.twice", {}, "two steps are named 'charge'"),
        ("durable.huge", {"large": True}, "65,536 can be recorded in Redis; set MESH_STORE_URL"),
        ("durable.huge", {}, "cannot be recorded as JSON"),
        ("durable.undeclared", {}, "does not say so"),
    ],
)
async def test_what_cannot_be_is_given_up_with_what_to_do(ask, event_type, data, says):
    task = await ask.run(event_type, data)
    assert (task.state, task.attempt) == ("failed", 1)
    assert says in task.error["reason"]
