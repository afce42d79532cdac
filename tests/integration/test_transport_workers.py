"""Real Celery workers on the stream transport, undisturbed: every pool runs what plain Celery offers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from celery import chain, chord, group
from streammesh.keys import WORKERS
from streammesh.testing.conditions import wait_until_sync

from tests.harness.workers import PlainWorkers
from tests.unit.test_queue_wire import BROKEN

POOLS = ("prefork", "threads", "solo")


@pytest.fixture(scope="module", params=POOLS)
def workers(mesh_server, tmp_path_factory, request) -> Iterator[PlainWorkers]:
    """One worker of each kind of pool, for all the tests here that leave it alive."""
    folder = tmp_path_factory.mktemp(request.param)
    with PlainWorkers(mesh_server, folder, f"plain-{request.param}", lease=0.7) as running:
        running.start(request.param, "one")
        yield running


def test_tasks_chains_groups_and_chords_run(workers):
    add, total = workers.tasks.add, workers.tasks.total
    assert add.delay(1, 2).get(timeout=10) == 3
    assert chain(add.s(1, 1), add.s(5), add.s(5))().get(timeout=10) == 12
    assert group(add.s(n, n) for n in range(10))().get(timeout=10) == [2 * n for n in range(10)]
    assert chord([add.s(n, n) for n in range(5)])(total.s()).get(timeout=10) == 20
    assert chord(group(chain(add.s(n, 1), add.s(1)) for n in range(3)), total.s())().get(timeout=10) == 9

    wait_until_sync("the queue is empty", lambda: workers.queued() == 0)


def test_a_countdown_longer_than_three_leases_runs_once_and_in_time(workers):
    started = time.time()
    workers.tasks.mark.apply_async(("later",), countdown=3.2 * workers.lease)

    wait_until_sync("it ran", lambda: workers.runs()["mark later"])
    assert 3.2 * workers.lease - 0.1 < time.time() - started < 3.2 * workers.lease + 1.5
    wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
    assert workers.runs()["mark later"] == 1


def test_the_worker_answers_remote_control(workers):
    [(name, answer)] = workers.control.inspect(timeout=2).ping().items()
    assert answer == {"ok": "pong"}

    workers.control.add_consumer("extra", destination=[name])
    workers.tasks.mark.apply_async(("extra",), queue="extra")
    wait_until_sync("the second queue is read", lambda: workers.runs()["mark extra"])
    workers.control.cancel_consumer("extra", destination=[name])
    workers.tasks.mark.delay("first queue still")
    wait_until_sync("the first queue is read on", lambda: workers.runs()["mark first queue still"])
    wait_until_sync(
        "no reply queue is left", lambda: not workers.redis.keys(f"{workers.prefix}queue:*reply*")
    )


def test_a_revoked_task_does_not_run(workers):
    task = workers.tasks.mark.apply_async(("revoked",), countdown=1.5)
    workers.control.revoke(task.id)

    wait_until_sync("it is gone", lambda: workers.queued() == 0)
    assert workers.runs()["mark revoked"] == 0


def test_broken_entries_are_parked_and_the_worker_lives(workers):
    for fields in BROKEN.values():
        workers.redis.xadd(workers.stream, fields or {b"nothing": b""})
    workers.tasks.mark.delay("after the broken ones")

    wait_until_sync("the task after them ran", lambda: workers.runs()["mark after the broken ones"])
    letters = [json.loads(raw) for raw in workers.redis.hvals(workers.keys.dead("plain"))]
    assert len(letters) == len(BROKEN) == workers.redis.zcard(workers.keys.dead_index("plain"))
    assert {letter["kind"] for letter in letters} == {"Malformed"}
    assert all(letter["reason"] and letter["id"].startswith("parked-") for letter in letters)
    wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
    workers.redis.delete(workers.keys.dead("plain"), workers.keys.dead_index("plain"))


def test_a_queue_that_was_deleted_is_made_anew(workers):
    workers.redis.delete(workers.stream)
    workers.tasks.mark.delay("after the deletion")

    wait_until_sync("it ran", lambda: workers.runs()["mark after the deletion"], seconds=10)


def test_a_worker_that_is_stopped_leaves_no_consumer(workers):  # the last test of its worker
    workers.tasks.nap.delay("short", 0.1)
    wait_until_sync("it runs", lambda: workers.runs()["began short"])

    assert workers.stop("one") == 0

    assert workers.runs()["ended short"] == 1, "what runs may end"
    assert workers.redis.xinfo_consumers(workers.stream, WORKERS) == []
