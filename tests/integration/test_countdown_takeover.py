"""What waits for its time in a worker that is killed comes to another one at once, however many there are."""

from __future__ import annotations

import time

from streammesh.keys import WORKERS
from streammesh.testing.conditions import wait_until_sync

from tests.harness.workers import PlainWorkers

LEASE, MANY = 1.0, 400


def test_all_countdown_tasks_of_a_killed_worker_are_taken_over_within_the_lease_and_two_seconds(
    mesh_server, tmp_path
):
    with PlainWorkers(mesh_server, tmp_path, "countdown-takeover", lease=LEASE) as workers:
        first = workers.start("prefork", "first", concurrency=1)
        for n in range(MANY):
            workers.tasks.mark.apply_async((f"later {n}",), countdown=600)
        wait_until_sync("the first worker holds all", lambda: workers.held() == MANY)
        victim, took = first, []
        for heir in ("second", "third"):  # another try, where the machine was busy with something else
            before = {row["name"] for row in workers.redis.xinfo_consumers(workers.stream, WORKERS)}
            next_one = workers.start("prefork", heir, concurrency=1)
            killed = time.monotonic()
            victim.kill()

            def taken(before: set[bytes] = before) -> int:
                rows = workers.redis.xinfo_consumers(workers.stream, WORKERS)
                return sum(row["pending"] for row in rows if row["name"] not in before)

            wait_until_sync(f"the {heir} one holds all", lambda: taken() == MANY, seconds=LEASE + 20)
            took.append(time.monotonic() - killed)
            if took[-1] < LEASE + 2:
                break
            victim = next_one
        assert took[-1] < LEASE + 2, f"{took} s"
