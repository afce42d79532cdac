"""From an event to its outcome, with a real dispatcher and a real worker with async handlers."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs

SERVICES = ["tests.probe"]


async def test_a_handler_runs_once_and_its_result_is_in_the_ledger_and_pushed(ask):
    event_id = await ask.publish("probe.recorded", {"a": 1})
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt, task.result) == ("succeeded", 1, {"attempt": 1})
    assert {"queued_at", "started_at", "ended_at"} <= set(task.times)
    assert runs(ask.mesh.record)[f"recorded {event_id}"] == 1
    assert await ask.told(event_id) == ["task.queued", "task.started", "task.succeeded", "event.completed"]


async def test_the_queue_and_the_pending_list_are_empty_afterwards(ask):
    await ask.run("probe.noop")

    assert await ask.redis.xlen(ask.mesh.keys.queue("probe")) == 0


async def test_an_attempt_that_is_the_current_one_no_more_leaves_the_entry_by_which_another_goes_on(ask):
    event_id = await ask.publish("probe.slow", {"seconds": 0.5})

    async def started() -> bytes | None:
        async for row in ask.redis.scan_iter(match=f"{ask.mesh.keys.task('')}*", count=1_000):
            if await ask.redis.hget(row, "state") == b"started":
                return row
        return None

    row = await wait_until("it runs", started)
    await ask.redis.hincrby(
        row, "attempt", 1
    )  # as if another worker had begun the next attempt by the same entry

    [task] = await ask.ended(event_id)

    # Who was that worker is dead by now, it seems, since nobody renews the lease: whoever takes the entry over goes on.
    assert (task.state, task.attempt, runs(ask.mesh.record)[f"slow {event_id}"]) == ("succeeded", 3, 2)
    assert (await ask.told(event_id)).count("task.queued") == 1


async def test_a_failed_attempt_is_tried_again_until_it_succeeds(ask):
    event_id = await ask.publish("probe.flaky", {"succeeds_at": 3})
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt, task.result) == ("succeeded", 3, 3)
    assert runs(ask.mesh.record)[f"flaky {event_id}"] == 3
    assert (await ask.told(event_id)).count("task.retrying") == 2


async def test_after_its_last_retry_a_delivery_is_a_dead_letter_with_its_reason(ask):
    task = await ask.run("probe.flaky", {"succeeds_at": 99})

    assert (task.state, task.attempt) == ("failed", 4)
    assert task.error == {"reason": "attempt 4 fails", "kind": "RuntimeError"}
    letter = await ask.letters.get(task.id)
    assert (letter.service, letter.task, letter.attempts) == ("probe", "probe.flaky", 4)
    assert "RuntimeError: attempt 4 fails" in letter.detail
    content = await ask.letters.content(letter)
    assert content["envelope"]["data"] == {"succeeds_at": 99}


async def test_a_rejection_is_a_dead_letter_at_once(ask):
    event_id = await ask.publish("probe.rejected")
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt, task.error["reason"]) == ("failed", 1, "it can never succeed")
    assert await ask.told(event_id) == ["task.queued", "task.started", "task.failed", "event.completed"]


async def test_a_retry_comes_when_the_handler_asked_for_it(ask):
    began = time.monotonic()
    task = await ask.run("probe.postponed")

    assert (task.state, task.result) == ("succeeded", 2)
    assert time.monotonic() - began >= 0.3


async def test_a_payload_that_does_not_fit_is_a_dead_letter_that_says_where(ask):
    task = await ask.run("probe.typed", {"n": "many"})

    assert task.state == "failed"
    assert "/n: " in task.error["reason"]


async def test_what_a_handler_publishes_is_an_event_of_its_own_with_its_cause(ask):
    event_id = await ask.publish("probe.followed")
    [task] = await ask.ended(event_id)
    follow_up = task.result
    [next_task] = await ask.ended(follow_up)

    [row] = await ask.rows.events(follow_up)
    event = await ask.rows.envelope(row)
    assert event.extensions["causationid"] == event_id
    assert event.extensions["correlationid"] == event_id
    assert next_task.state == "succeeded"


async def test_progress_is_pushed_while_it_runs(ask):
    event_id = await ask.publish("probe.slow", {"seconds": 0.05})
    [task] = await ask.ended(event_id)

    assert task.state == "succeeded"
    assert "task.progress" in await ask.told(event_id)


async def test_a_def_handler_among_async_ones_runs_in_a_thread_and_may_push_progress_too(ask):
    event_id = await ask.publish("probe.threaded")
    [task] = await ask.ended(event_id)

    assert (task.state, task.progress) == ("succeeded", {"progress": 0.5, "text": "half way"})
    assert task.result != "async-pool"
    assert "task.progress" in await ask.told(event_id)


async def test_many_def_handlers_among_async_ones_begin_at_once(ask):
    began = time.monotonic()
    tasks = await asyncio.gather(*(ask.run("probe.crowded") for _ in range(40)))

    assert {task.state for task in tasks} == {"succeeded"}
    assert time.monotonic() - began < 4


async def test_a_def_handler_that_lets_the_end_of_an_iteration_through_has_failed(ask):
    task = await ask.run("probe.stopped_short")

    assert (task.state, task.error["reason"]) == ("failed", "the handler raised StopIteration")


async def test_a_handler_that_overruns_is_stopped_and_its_reason_says_so(ask):
    task = await ask.run("probe.timed")

    assert task.state == "failed"
    assert task.error["reason"] == "the handler did not end within 0.3 s"


async def test_a_result_that_is_not_json_is_told_as_the_failure_it_is(ask):
    task = await ask.run("probe.not_json")

    assert task.state == "failed"
    assert "not JSON serializable" in task.error["reason"]


async def test_a_handler_that_waits_for_what_was_cancelled_has_failed(ask):
    task = await ask.run("probe.astray")

    assert (task.state, task.attempt, task.error["kind"]) == ("failed", 2, "WaitedInVain")
    assert runs(ask.mesh.record)[f"astray {task.event['id']}"] == 2


@pytest.mark.parametrize("what", ["exit", "other"])
async def test_a_handler_that_asks_for_the_end_of_the_worker_has_failed_and_the_worker_goes_on(ask, what):
    task = await ask.run("probe.quitting", {"what": what})

    assert (task.state, task.attempt) == ("failed", 2)
    assert "would end the worker" in task.error["reason"]
    assert (await ask.run("probe.noop")).state == "succeeded"


async def test_an_error_whose_words_no_json_can_hold_is_retried_and_told(ask):
    task = await ask.run("probe.odd_words")

    assert (task.state, task.attempt, task.error["kind"]) == ("failed", 2, "RuntimeError")
    assert task.error["reason"] == "no such file: b\\udce4r.txt"


async def test_a_queue_entry_whose_envelope_is_none_is_parked_and_the_others_of_its_batch_run(ask):
    queue, keys = ask.mesh.keys.queue("probe"), ask.mesh.keys
    good = {"id": "1", "source": "tests", "type": "probe.recorded", "time": ""}
    broken = [{**good, "id": None}, {**good, "source": ["tests"]}, {**good, "type": {}}, {}, None, 5, []]
    pipeline = ask.redis.pipeline()
    for n, envelope in enumerate(broken):
        head = {
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": {"correlation_id": f"forged-{n}"},
            "headers": {"id": f"forged-{n}", "task": "probe.recorded"},
        }
        pipeline.xadd(queue, {"h": orjson.dumps(head), "b": orjson.dumps([[envelope], {}, {}])})
    before = await ask.redis.hlen(keys.dead("probe"))
    await pipeline.execute()
    good_ones = await asyncio.gather(*(ask.run("probe.noop") for _ in range(5)))

    assert {task.state for task in good_ones} == {"succeeded"}

    async def parked():
        empty = await ask.redis.xlen(queue) == 0
        return empty and await ask.redis.hlen(keys.dead("probe")) - before == len(broken)

    await wait_until("all that is broken is parked", parked)


async def test_a_filter_keeps_a_handler_from_what_it_does_not_want(ask):
    wanted = await ask.run("probe.filtered", {"wanted": True})
    event_id = await ask.publish("probe.filtered", {"wanted": False})

    assert wanted.result == "wanted"
    assert await ask.ended(event_id) == []
    assert await ask.told(event_id) == ["event.unrouted"]


async def test_two_hundred_handlers_wait_side_by_side_in_one_process(ask):
    began = time.monotonic()
    ids = [await ask.publish("probe.slow", {"seconds": 1}) for _ in range(150)]
    tasks = await asyncio.gather(*(ask.ended(i) for i in ids))

    assert all(t.state == "succeeded" for [t] in tasks)
    assert time.monotonic() - began < 20  # one after the other they would take 150 s
