"""Workers on the stream transport whose neighbours die, whose connections break and whose server restarts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from streammesh.embedded import EmbeddedServer
from streammesh.keys import WORKERS
from streammesh.testing.conditions import wait_until_sync

from tests.harness.workers import PlainWorkers

# Each fault with each kind of pool takes minutes; the short form takes one of each.
LONG = pytest.mark.skipif("TRANSPORT_FAULTS" not in os.environ, reason="the long form: TRANSPORT_FAULTS=1")
POOLS = ("prefork", pytest.param("threads", marks=LONG), pytest.param("solo", marks=LONG))


@pytest.mark.parametrize("pool", POOLS)
def test_the_tasks_of_a_killed_worker_are_taken_over_as_its_lease_runs_out(
    mesh_server: EmbeddedServer, tmp_path: Path, pool: str
) -> None:
    with PlainWorkers(mesh_server, tmp_path, f"killed-{pool}", lease=1.5, prefetch=2) as workers:
        workers.start(pool, "victim")
        for n in range(4):
            workers.tasks.nap.delay(str(n), 30 if n < 1 else 0.05)
        wait_until_sync("the long one runs", lambda: workers.runs()["began 0"])
        workers.start(pool, "heir")
        workers.tasks.mark.delay("new work is not held up")
        wait_until_sync("new work runs", lambda: workers.runs()["mark new work is not held up"])

        died = time.monotonic()
        workers.processes["victim"].kill()
        wait_until_sync("the heir began it", lambda: workers.runs()["began 0"] == 2)

        assert time.monotonic() - died < workers.lease + 1
        workers.processes["heir"].kill()
        assert all(workers.runs()[f"began {n}"] >= 1 or workers.queued() for n in range(4))


@pytest.mark.parametrize(
    ("pool", "task"),
    [
        pytest.param("prefork", "nap", marks=LONG),
        pytest.param("threads", "hog", marks=LONG),
        ("solo", "nap"),
        ("solo", "hog"),
    ],
)
def test_a_long_task_is_never_taken_from_a_live_worker(
    mesh_server: EmbeddedServer, tmp_path: Path, pool: str, task: Any
) -> None:
    with PlainWorkers(mesh_server, tmp_path, f"long-{pool}-{task}", lease=1.2) as workers:
        workers.start(pool, "busy", concurrency=1)
        # The renewing thread needs the interpreter three times for one renewal, so a fifth of a lease at a time is safe.
        options = {"stretch": workers.lease / 5} if task == "hog" else {}
        getattr(workers.tasks, task).delay("long", 4 * workers.lease, **options)
        wait_until_sync("it runs", lambda: workers.runs()["began long"])
        workers.start("solo", "idle", wait=False)

        wait_until_sync("it ended", lambda: workers.runs()["ended long"])
        wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
        assert workers.runs()["began long"] == 1


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_run_once_when_all_connections_are_cut(
    mesh_server: EmbeddedServer, tmp_path: Path, pool: str
) -> None:
    with PlainWorkers(mesh_server, tmp_path, f"cut-{pool}", lease=1.5, prefetch=2) as workers:
        workers.start(pool, "one")
        workers.start(pool, "two")
        for n in range(10):
            workers.tasks.nap.delay(str(n), 1)
        wait_until_sync("some run", lambda: sum(workers.runs().values()) >= 2)

        for _ in range(3):
            workers.redis.client_kill_filter(_type="normal", skipme=True)
            workers.redis.client_kill_filter(_type="pubsub")
            time.sleep(0.7)  # cuts at different moments of the tasks' lives

        wait_until_sync("all ended", lambda: all(workers.runs()[f"ended {n}"] for n in range(10)), seconds=30)
        wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
        assert [workers.runs()[f"began {n}"] for n in range(10)] == [1] * 10


@pytest.mark.parametrize("pool", POOLS)
def test_consuming_goes_on_after_the_server_restarted(tmp_path: Path, pool: str) -> None:
    with (
        EmbeddedServer(tmp_path / "redis", fsync="always") as server,
        PlainWorkers(server, tmp_path, f"restart-{pool}", lease=1.5) as workers,
    ):
        workers.start(pool, "one")
        workers.start(pool, "two")
        for n in range(3):
            workers.tasks.nap.delay(str(n), 4)
        wait_until_sync("some run", lambda: sum(workers.runs().values()) >= 2)

        server.stop(kill=True)
        time.sleep(2 * workers.lease)  # away for longer than a lease
        server.start()
        back = time.monotonic()
        workers.tasks.mark.delay("after")

        wait_until_sync("it consumes", lambda: workers.runs()["mark after"])
        assert time.monotonic() - back < 5 or pool == "solo", "a solo worker is busy with what it runs"
        wait_until_sync("all ended", lambda: all(workers.runs()[f"ended {n}"] for n in range(3)))
        wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
        assert [workers.runs()[f"began {n}"] for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("pool", POOLS)
def test_a_stopping_worker_hands_over_at_once_what_it_has_not_begun(
    mesh_server: EmbeddedServer, tmp_path: Path, pool: str
) -> None:
    with PlainWorkers(mesh_server, tmp_path, f"warm-{pool}", lease=20, prefetch=4) as workers:
        workers.start(pool, "leaving", concurrency=1)
        workers.tasks.nap.delay("long", 6)
        wait_until_sync("it runs", lambda: workers.runs()["began long"])
        workers.tasks.mark.apply_async(("later",), countdown=4)
        for n in range(3):
            workers.tasks.mark.delay(str(n))
        if pool != "solo":
            wait_until_sync("they are held", lambda: workers.held() == 5)
        workers.start("threads", "staying", wait=True)

        stopped = time.monotonic()
        workers.processes["leaving"].signal(signal.SIGTERM)
        at_once = 2 if pool == "threads" else 3  # of threads one may wait until the running ones have ended
        wait_until_sync(
            "they ran elsewhere", lambda: sum(workers.runs()[f"mark {n}"] for n in range(3)) >= at_once
        )

        assert time.monotonic() - stopped < 1.5
        assert not workers.runs()["ended long"] or pool == "solo"
        wait_until_sync("all ran", lambda: workers.runs()["mark later"] and workers.runs()["ended long"])
        wait_until_sync("the queue is empty", lambda: workers.queued() == 0)
        assert set(workers.runs().values()) == {1}


@pytest.mark.parametrize("pool", ["solo", pytest.param("prefork", marks=LONG)])
def test_what_a_killed_worker_had_ended_is_not_run_again(
    mesh_server: EmbeddedServer, tmp_path: Path, pool: str
) -> None:
    with PlainWorkers(mesh_server, tmp_path, f"ended-{pool}", lease=1.0, prefetch=8) as workers:
        for n in range(6):
            workers.tasks.nap.delay(str(n), 0.3)
        workers.start(pool, "victim", concurrency=1)
        wait_until_sync("the fourth runs", lambda: workers.runs()["began 3"])
        wait_until_sync("three are acknowledged", lambda: workers.queued() == 3, seconds=0.25)
        workers.processes["victim"].kill()
        workers.start("threads", "heir")
        wait_until_sync("all ended", lambda: all(workers.runs()[f"ended {n}"] for n in range(6)))

        assert [workers.runs()[f"began {n}"] for n in range(6)] == [1, 1, 1, 2, 1, 1]


@LONG
def test_a_flushed_server_is_used_again(mesh_server: EmbeddedServer, tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path / "redis", appendonly=False) as server,
        PlainWorkers(server, tmp_path, "flushed") as workers,
    ):
        workers.start("prefork", "one")
        workers.tasks.nap.delay("held", 1)
        wait_until_sync("it runs", lambda: workers.runs()["began held"])
        workers.redis.flushall()
        workers.tasks.mark.delay("after")

        wait_until_sync("it consumes", lambda: workers.runs()["mark after"])
        assert workers.redis.xinfo_groups(workers.stream)[0]["name"] == WORKERS.encode()


@LONG
def test_a_worker_that_stood_still_does_not_run_what_others_took(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    with PlainWorkers(mesh_server, tmp_path, "paused", lease=1.0) as workers:
        workers.start("threads", "paused")
        process = workers.processes["paused"]
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            for n in range(6):
                workers.tasks.mark.delay(str(n))  # a read is under way: some of them go to the paused worker
            workers.start("threads", "other")
            wait_until_sync("all ran", lambda: all(workers.runs()[f"mark {n}"] for n in range(6)))
        finally:
            os.killpg(process.pid, signal.SIGCONT)
        workers.tasks.nap.delay("afterwards", 1)
        workers.tasks.nap.delay("afterwards", 1)
        workers.tasks.nap.delay("afterwards", 1)
        wait_until_sync("they ran", lambda: workers.runs()["ended afterwards"] == 3)

        assert [workers.runs()[f"mark {n}"] for n in range(6)] == [1] * 6


@LONG
def test_a_task_that_takes_its_workers_down_is_parked_in_the_end(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    with PlainWorkers(mesh_server, tmp_path, "plain-poison", lease=0.5) as workers:
        workers.tasks.kill_worker.delay("poison")
        for number in range(1, 4):
            workers.start("prefork", f"victim-{number}")
            wait_until_sync(f"it ran {number} times", lambda: workers.runs()["began poison"] == number)  # noqa: B023  asked before the next round
            workers.wait_gone(f"victim-{number}")
        workers.start("prefork", "survivor")
        wait_until_sync("it is parked", lambda: workers.redis.hlen(workers.keys.dead("plain")))

        workers.tasks.mark.delay("afterwards")
        wait_until_sync("the queue is free", lambda: workers.runs()["mark afterwards"])
        assert workers.runs()["began poison"] == 3
