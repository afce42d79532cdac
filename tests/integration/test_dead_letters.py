"""Dead letters through real processes: given up, looked at, replayed, given up again."""

from __future__ import annotations

import pytest
from streammesh.dead_letters import DeadLetterFilter, Replaying
from streammesh.testing.conditions import wait_until

from tests.probe.record import runs, switch

SERVICES = ["tests.probe", "tests.probe_sync"]
CONCURRENCY = "4"


@pytest.fixture
def replaying(ask):
    return Replaying(ask.redis, ask.mesh.keys, ask.mesh.settings)


async def test_a_replayed_task_runs_again_with_the_same_event_and_ends_well(ask, replaying):
    event_id = await ask.publish("probe.switched", {"a": 1}, subject="one")
    [before] = await ask.ended(event_id)
    switch(ask.mesh.record, "one").touch()
    done = await replaying.replay([await ask.letters.get(before.id)])
    [after] = await ask.ended(event_id)

    assert (before.state, before.error["reason"]) == ("failed", "one is off")
    assert done.replayed == 1
    assert (after.id, after.state, after.attempt, after.result) == (before.id, "succeeded", 1, "on")
    assert runs(ask.mesh.record)[f"switched {event_id}"] == 2
    [row] = await ask.rows.events(event_id)
    assert (row.done, row.failed) == (1, 0)
    assert (await ask.told(event_id))[-4:] == [
        *("task.queued", "task.started", "task.succeeded", "event.completed"),
    ]


async def test_what_fails_again_is_a_dead_letter_again(ask, replaying):
    event_id = await ask.publish("probe.switched", subject="two")
    [before] = await ask.ended(event_id)
    await replaying.replay([await ask.letters.get(before.id)])
    [after] = await ask.ended(event_id)

    assert after.state == "failed"
    letter = await ask.letters.get(after.id)
    assert (await ask.letters.content(letter))["envelope"]["id"] == event_id


async def test_a_workflow_that_gave_up_is_replayed_whole(ask, replaying):
    event_id = await ask.publish("sync.switched", {"switch": "three"})
    [before] = await ask.ended(event_id)
    letter = await ask.letters.get(before.id)
    content = await ask.letters.content(letter)
    switch(ask.mesh.record, "three").touch()
    await replaying.replay([letter])
    [after] = await ask.ended(event_id)

    assert before.state == "failed"
    assert "three is off" in before.error["reason"]
    assert content["envelope"]["data"] == {"switch": "three"}
    assert (after.state, after.result) == ("succeeded", {"total": 1})
    assert runs(ask.mesh.record)["part three"] == 2


async def test_many_are_replayed_at_a_rate_and_each_runs_once_more(ask, replaying):
    ids = [await ask.publish("probe.switched", subject="four") for _ in range(12)]
    for event_id in ids:
        await ask.ended(event_id)
    switch(ask.mesh.record, "four").touch()
    found, _ = await ask.letters.matching(DeadLetterFilter(reason="four is off"), 100)
    done = await replaying.replay(found, rate=20)
    tasks = [task for event_id in ids for task in await ask.ended(event_id)]

    assert (len(found), done.replayed) == (12, 12)
    assert {task.state for task in tasks} == {"succeeded"}
    assert {runs(ask.mesh.record)[f"switched {event_id}"] for event_id in ids} == {2}
    starts = sorted(task.times["started_at"] for task in tasks)
    assert starts[0] < starts[6] < starts[11]


async def test_a_queue_entry_that_celery_would_not_survive_can_be_looked_at_and_put_back(ask, replaying):
    queue = ask.mesh.keys.queue("probe")
    await ask.redis.xadd(queue, {"h": b'{"headers": \xff', "b": b"[]"})

    async def parked():
        return (await ask.letters.page(DeadLetterFilter(kind="Malformed"))).letters

    [letter] = await wait_until("it is parked", parked)
    content = await ask.letters.content(letter)
    assert (letter.form, letter.service, letter.reason) == ("entry", "probe", "h is not JSON")
    assert content["raw"] == {"h": '{"headers": \\xff', "b": "[]"}

    assert (await replaying.replay([letter])).replayed == 1

    async def parked_again():
        return [one for one in await parked() if one.id != letter.id]

    [again] = await wait_until("it is parked again", parked_again)
    assert (await ask.letters.content(again))["raw"] == content["raw"]
    assert await ask.redis.xlen(queue) == 0


async def test_a_stream_entry_that_is_no_event_can_be_looked_at_and_put_back(ask, replaying):
    stream = ask.mesh.keys.events("probe")
    position = await ask.redis.xadd(stream, {"e": b"\x00\xff"})

    async def parked():
        return (await ask.letters.page(DeadLetterFilter(kind="BrokenEvent"))).letters

    [letter] = await wait_until("it is parked", parked)
    assert letter.form == "event"
    assert position.decode() in letter.detail
    assert (await ask.letters.content(letter))["raw"] == {"e": "\x00\\xff"}

    assert (await replaying.replay([letter])).replayed == 1

    async def parked_again():
        return [one for one in await parked() if one.id != letter.id]

    assert await wait_until("it is parked again", parked_again)
