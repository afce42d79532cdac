"""Over RabbitMQ and over Celery's lists: each way in which a delivery can end, and the plain tasks beside it.

`make test-brokers` runs all tests of real workers there.
"""

from __future__ import annotations

import asyncio

import pytest
from streammesh.dead_letters import DeadLetterFilter
from streammesh.testing.conditions import wait_until
from streammesh.transport.codec import encode
from streammesh.worker.app import make_app
from streammesh.worker.message_capture import CapturingProducer

from tests.harness import brokers
from tests.probe.record import runs


async def letter_of(ask, **wanted):
    async def parked():
        return (await ask.letters.page(DeadLetterFilter(**wanted))).letters

    [letter] = await wait_until(f"a dead letter with {wanted}", parked)
    return letter


async def queue_plainly(ask, name, **options):
    """A plain Celery task in the mesh's own queue, as a workflow's first part is."""
    app, producer = make_app("tests", ask.mesh.settings), CapturingProducer()
    app.send_task(name, producer=producer, queue="probe", ignore_result=True, **options)
    [(_, message)] = producer.take()
    await ask.redis.xadd(ask.mesh.keys.queue("probe"), encode(message))


async def test_deliveries_end_there_as_they_do_on_the_meshs_own_streams(stage):
    ask = stage.ask
    for module in ("services.dispatcher", "tests.probe", "tests.probe_sync"):
        await stage.start(module)
    ids = [await ask.publish("probe.recorded", {"n": n}) for n in range(30)]
    for event_id in ids:
        [task] = await ask.ended(event_id)
        assert (task.state, task.attempt) == ("succeeded", 1)
        assert await ask.told(event_id) == [
            "task.queued",
            "task.started",
            "task.succeeded",
            "event.completed",
        ]
    counted = runs(stage.mesh.record)
    assert {counted[f"recorded {event_id}"] for event_id in ids} == {1}

    flaky, rejected = await asyncio.gather(
        ask.run("probe.flaky", {"succeeds_at": 3}), ask.run("probe.rejected")
    )
    assert (flaky.state, flaky.attempt) == ("succeeded", 3)
    assert (rejected.state, rejected.error["reason"]) == ("failed", "it can never succeed")
    killer, workflow = await asyncio.gather(
        ask.run("sync.killer"), ask.run("sync.workflow", {"numbers": [1, 2, 3]})
    )
    assert (killer.state, runs(stage.mesh.record)[f"killer {killer.event['id']}"]) == ("failed", 2)
    assert (workflow.state, workflow.result) == ("succeeded", {"total": 14})

    queues = [ask.mesh.keys.queue(name) for name in ("probe", "probe_sync")]
    assert [await ask.redis.xlen(queue) for queue in queues] == [0, 0]
    logs = [process.log.read_text() for process in stage.processes if process.name.startswith("probe")]
    assert all(f":{stage.broker.port}" in log for log in logs), "they were connected to that broker"


async def test_what_a_worker_cannot_take_is_a_dead_letter_and_the_rest_goes_on(stage):
    ask = stage.ask
    await stage.start("services.dispatcher")
    await stage.start("tests.probe", MESH_UNKNOWN_TASK_TIMEOUT="1s")
    app = make_app("tests", ask.mesh.settings)
    with app.connection_for_write() as connection:  # what somebody sends past the mesh
        app.send_task("probe.nowhere", connection=connection, queue="probe")
        app.send_task("probe.noop", connection=connection, queue="probe")
        connection.Producer().publish({"no": "task"}, routing_key="probe", serializer="json")
    app.close()

    unknown = await letter_of(ask, kind="UnknownTask")
    assert '"task":"probe.nowhere"' in (await ask.letters.content(unknown))["raw"]["h"]
    assert (await letter_of(ask, kind="NotHandedOver")).service == "probe"
    assert (await letter_of(ask, kind="Malformed")).reason == "it is no task"

    await queue_plainly(ask, "probe.noop", headers={"beyond": 2**63 + 1})
    if stage.kind == "rabbitmq":  # which has no number as large; lists hold anything
        assert "cannot take it" in (await letter_of(ask, kind="Unsendable")).reason
    assert (await ask.run("probe.noop")).state == "succeeded"


@pytest.mark.skipif(not brokers.chosen(), reason="runs with `make test-brokers`")
async def test_what_is_too_large_for_the_broker_is_a_dead_letter(stage):
    ask = stage.ask
    await stage.start("services.dispatcher")
    await stage.start("tests.probe")
    for _ in range(3):
        await queue_plainly(ask, "probe.noop", headers={"long": "x" * 200_000})  # frames have 128 KiB there
    others = [await ask.publish("probe.recorded") for _ in range(20)]

    for event_id in others:
        assert [task.state for task in await ask.ended(event_id)] == ["succeeded"]
    if stage.kind == "rabbitmq":

        async def parked():
            letters = (await ask.letters.page(DeadLetterFilter(kind="Unsendable"))).letters
            return len(letters) == 3

        await wait_until("all three are parked", parked)
