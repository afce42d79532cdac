"""What a health check says, and when it says that all is well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.scheduler.health import RedisState, ServiceState, Snapshot, problems, report

WELL = Snapshot(
    redis=RedisState(
        version="9.1.2",
        ping_ms=0.2,
        memory=50_000_000,
        memory_limit=100_000_000,
        persistent=True,
        last_write_ok=True,
        clients=12,
    ),
    dispatchers=1,
    beats=2,
    services=[ServiceState("email_worker", workers=2, queued=10, lag=3, dead_letters=1)],
)


def with_redis(**changes):
    return replace(WELL, redis=replace(WELL.redis, **changes))


def with_service(**changes):
    return replace(WELL, services=[replace(WELL.services[0], **changes)])


def test_a_mesh_that_is_well_has_no_problems():
    said = report(WELL, max_queued=100)

    assert (said["status"], said["problems"]) == ("ok", [])
    assert said["services"][0]["queued"] == 10


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (with_redis(memory=95_000_000), "95% of its memory limit"),
        (with_redis(persistent=False), "no append-only file"),
        (with_redis(last_write_ok=False), "could not write"),
        (replace(WELL, dispatchers=0), "no dispatcher is alive"),
        (replace(WELL, beats=0), "no Beat is alive"),
        (with_service(workers=0), "email_worker: no worker is alive; 10 tasks wait"),
        (with_service(queued=100), "email_worker: its queue is full"),
        (with_service(lag=1_000), "email_worker: 1000 events were not handed over"),
    ],
)
def test_each_thing_that_is_wrong_is_said_once(found, says):
    (said,) = problems(found, max_queued=100)

    assert says in said
    assert report(found, max_queued=100)["status"] == "degraded"


def test_a_server_without_a_memory_limit_is_never_full():
    assert problems(with_redis(memory_limit=0, memory=10**12), max_queued=100) == []
