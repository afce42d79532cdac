"""Tasks that a worker does not know: they wait for one that does, and are given up after a while."""

from __future__ import annotations

from typing import Any

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetterFilter, Replaying
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import read_manifests, register_call
from streammesh.testing.conditions import wait_until
from streammesh.transport.codec import encode
from streammesh.worker.app import make_app
from streammesh.worker.message_capture import CapturingProducer

from tests.harness.processes import MeshProcess
from tests.probe.record import runs

SERVICES = ["tests.probe"]
CONCURRENCY = "4"
NEW = Subscription("probe", "probe.future", "probe.future")


@pytest.fixture(scope="module")
def waiting():
    return {}


async def announce_the_next_version(ask):
    """As its first worker would: from then on the dispatcher hands its tasks over."""
    [now] = await read_manifests(ask.redis, ask.mesh.keys)
    call = register_call(ask.mesh.keys, Manifest("probe", "2", (*now.subscriptions, NEW)))
    await lua.run(ask.redis, call)


async def task_in(ask, event_id, state):
    async def there():
        found = await ask.rows.events(event_id)
        tasks = await ask.rows.tasks(found[0].task_ids) if found else []
        return tasks[0] if tasks and tasks[0].state == state else None

    return await wait_until(f"the task of {event_id} is {state}", there)


async def send_plainly(ask, name, **fields):
    """A plain Celery task in the service's queue."""
    app, producer = make_app("tests", ask.mesh.settings), CapturingProducer()
    app.send_task(name, producer=producer, queue="probe", ignore_result=True)
    [(_, message)] = producer.take()
    entry: dict[Any, Any] = {**encode(message), **fields}
    return await ask.redis.xadd(ask.mesh.keys.queue("probe"), entry)


async def test_a_task_that_this_version_does_not_know_is_put_back_and_says_so(ask, waiting):
    await announce_the_next_version(ask)
    event_id = await ask.publish("probe.future")
    task = await task_in(ask, event_id, "retrying")
    waiting["future"] = event_id

    assert task.attempt == 0
    assert task.error == {
        "reason": "no worker that was asked knows the task probe.future",
        "kind": "UnknownTask",
    }
    assert task.next_attempt_at
    assert (await ask.told(event_id))[:2] == ["task.queued", "task.retrying"]


async def test_a_plain_celery_task_is_put_back_too(ask, waiting):
    await send_plainly(ask, "probe.nowhere")

    async def waits():
        members = await ask.redis.zrange(ask.mesh.keys.due(), 0, -1)
        return [member for member in members if member.startswith(b"entry:")]

    await wait_until("it waits in the due set", waits)


async def test_the_next_version_runs_what_waited(ask, waiting):
    event_id = waiting["future"]
    env = {**ask.mesh.env, "PROBE_NEW": "1"}
    with MeshProcess("probe-2", "tests.probe", env, ask.mesh.folder):
        [task] = await ask.ended(event_id, seconds=60)

    assert (task.state, task.attempt, task.result) == ("succeeded", 1, "from the future")
    assert runs(ask.mesh.record)[f"future {event_id}"] == 1
    assert task.error is None


async def test_a_delivery_that_nobody_knows_for_too_long_fails_and_can_be_replayed(ask):
    await ask.redis.delete(ask.mesh.keys.editions("probe"))  # as if the next version had left a minute ago
    event_id = await ask.publish("probe.future", {"n": 1})
    task = await task_in(ask, event_id, "retrying")
    # As if it had waited since 1970.
    await ask.redis.hset(ask.mesh.keys.due_entries(), f"u task:{task.id}", "1")
    [ended] = await ask.ended(event_id)

    assert (ended.state, ended.error["kind"]) == ("failed", "UnknownTask")
    assert (await ask.told(event_id))[-2:] == ["task.failed", "event.completed"]
    letter = await ask.letters.get(task.id)
    assert (await ask.letters.content(letter))["envelope"]["data"] == {"n": 1}
    replaying = Replaying(ask.redis, ask.mesh.keys, ask.mesh.settings)
    assert (await replaying.replay([letter])).replayed == 1
    await task_in(ask, event_id, "retrying")  # with the whole time before it again


async def test_a_plain_task_that_nobody_knows_for_too_long_is_parked_and_not_dropped(ask):
    await send_plainly(ask, "probe.never", u="1")

    async def parked():
        return (await ask.letters.page(DeadLetterFilter(kind="UnknownTask", reason="probe.never"))).letters

    [letter] = await wait_until("it is parked", parked)
    assert (letter.form, letter.service) == ("entry", "probe")
    assert '"task":"probe.never"' in (await ask.letters.content(letter))["raw"]["h"]


async def test_a_delivery_that_nobody_handed_over_is_parked(ask):
    await send_plainly(ask, "probe.noop")

    async def parked():
        return (await ask.letters.page(DeadLetterFilter(kind="NotHandedOver"))).letters

    [letter] = await wait_until("it is parked", parked)
    assert letter.form == "entry"
    assert await ask.redis.xlen(ask.mesh.keys.queue("probe")) == 0
