"""A plain task that kills its process, again and again, ends for its caller."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from billiard.exceptions import WorkerLostError
from celery import chord
from celery.exceptions import ChordError
from celery.result import allow_join_result
from streammesh.testing.conditions import wait_until_sync
from streammesh.worker.app import make_app

from tests.harness.workers import PlainWorkers

SERVICES = ["tests.probe_sync"]


@pytest.fixture
def workers(mesh_server, tmp_path):
    with PlainWorkers(mesh_server, tmp_path, f"lost-{tmp_path.name[-8:]}".replace("_", "-")) as workers:
        yield workers


def test_over_a_plain_app(workers):
    workers.start("prefork", "one")
    tasks, note = workers.tasks, workers.tasks.note
    alone = tasks.die.apply_async(("alone",), link_error=note.s(name="alone"))
    header = [tasks.add.s(1, 2), tasks.die.si("part")]
    body = chord(header)(tasks.total.s().on_error(note.s(name="chord")))

    with pytest.raises(WorkerLostError, match=r"plain\.die"):
        alone.get(timeout=20)
    with pytest.raises((ChordError, WorkerLostError), match=r"plain\.die"):
        body.get(timeout=20)
    wait_until_sync("the chord has failed", lambda: body.state == "FAILURE", seconds=10)
    wait_until_sync(
        "both errbacks ran",
        lambda: {"errback alone WorkerLostError", "errback chord ChordError"} <= set(workers.runs()),
        seconds=10,
    )

    def letters():
        return [orjson.loads(raw) for raw in workers.redis.hvals(workers.keys.dead("plain"))]

    wait_until_sync(
        "each is a dead letter",
        lambda: [letter["task"] for letter in letters()] == ["plain.die", "plain.die"],
        seconds=10,
    )
    assert any(alone.id in letter["detail"] for letter in letters())
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


def test_when_the_whole_worker_dies(workers):
    sent = workers.tasks.kill_worker.delay("all")
    for number in range(4):  # three of them die of it, the last one sees that it was too often
        workers.start("solo", f"worker-{number}", wait=False)

    with pytest.raises(WorkerLostError):
        sent.get(timeout=20)


async def test_over_a_service(ask):
    app = make_app("probe_sync", ask.mesh.settings)
    sent = app.send_task("probe_sync.die")
    with allow_join_result(), pytest.raises(WorkerLostError, match=r"probe_sync\.die"):
        await asyncio.to_thread(sent.get, timeout=20)
    app.pool.force_close_all()
    app.backend.client.connection_pool.disconnect()
    app.close()
    assert (await ask.run("sync.noop")).state == "succeeded"
