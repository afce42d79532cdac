"""What is said of a mesh: each thing that is wrong, once, with what to do; and when all is well."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streammesh.redisio.inspection import Severity, inspect
from streammesh.settings import MeshSettings
from streammesh.status.backlog import Backlog
from streammesh.status.editions import SideBySide
from streammesh.status.findings import Finding, findings, report, span, standing
from streammesh.status.outbox import OutboxState
from streammesh.status.snapshot import RedisState, ServiceState, Snapshot
from streammesh.status.whole import joined
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.pause import Pause

SETTINGS = MeshSettings(_env_file=None, max_queued=100, max_held=50)
ARCHIVED = SETTINGS.model_copy(update={"history_url": "sqlite:///history.db"})
NOW = 1_763_790_000_000
DAY = 86_400_000
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
    apis=1,
    now_ms=NOW,
    services=[
        ServiceState(
            *("email_worker", 2, 10, 3, 1),
            subscriptions=(Subscription("email_worker", "email_worker.send", "user.registered"),),
            stalled_ms=NOW - 1_000,
            oldest_ms=NOW - 2_500,
            last_seen_ms=NOW - 1_000,
            processes=("vm/1:4711", "vm/2:4712"),
        )
    ],
)


def with_redis(**info):
    """What the server says of itself, where it differs from one that is well."""
    well = {"maxmemory": 100_000_000, "used_memory": 50_000_000, "aof_enabled": 1}
    return replace(WELL, server=tuple(inspect({**well, **info}, None, mark=SETTINGS.memory_mark)))


def with_service(**changes):
    return replace(WELL, services=[replace(WELL.services[0], **changes)])


def beside(*, kept, since):
    return replace(WELL, side_by_side={"email_worker": SideBySide(("b2", "a1"), since, kept)})


def test_a_mesh_that_is_well_has_no_problems():
    said = report(WELL, SETTINGS)

    assert (said["status"], said["problems"], said["findings"]) == ("ok", [], [])
    assert said["services"] == [
        {
            "service": "email_worker",
            "registered": True,
            "subscriptions": [{"task": "email_worker.send", "type": "user.registered"}],
            "workers": 2,
            "processes": ["vm/1:4711", "vm/2:4712"],
            "last_seen": "2025-11-22T05:39:59.000Z",
            "queued": 10,
            "waiting": 0,
            "held": 0,
            "lag": 3,
            "lag_exact": True,
            "oldest_waiting_seconds": 2.5,
            "dead_letters": 1,
        }
    ]


@pytest.mark.parametrize(
    ("found", "code", "severity", "says"),
    [
        (
            with_redis(used_memory=95_000_000),
            "redis-full",
            "error",
            "95% of its maxmemory; publishing is refused",
        ),
        (
            with_redis(used_memory=80_000_000),
            "redis-full",
            "warning",
            "publishing will be refused from 85% on",
        ),
        (with_redis(aof_enabled=0), "redis-not-persistent", "warning", "no append-only file"),
        (with_redis(aof_last_write_status="err"), "redis-cannot-write", "error", "could not write"),
        (replace(WELL, dispatchers=0), "no-dispatcher", "error", "no dispatcher is alive"),
        (replace(WELL, beats=0), "no-beat", "warning", "no Beat is alive"),
        (with_service(workers=0), "no-worker", "error", "no worker is alive for 1 s; 10 tasks wait"),
        (with_service(workers=0, queued=0, lag=0), "no-worker", "warning", "0 tasks wait"),
        (
            with_service(workers=0, last_seen_ms=NOW - 3 * DAY, lag_exact=False),
            *("no-worker", "error", "for 3 days; 10 tasks wait, and at least 3 events that are not trimmed"),
        ),
        (with_service(queued=100, stalled_ms=NOW - DAY), "queue-full", "warning", "its queue is full"),
        (with_service(held=50, stalled_ms=NOW - DAY), "held-full", "warning", "50 tasks are set aside"),
        (
            with_service(stalled_ms=NOW - 300_000),
            *("lane-stuck", "error", "3 events were not handed over, the oldest for 5 min"),
        ),
        (with_service(registered=False, workers=0), "left-behind", "warning", "never trimmed"),
        (
            replace(WELL, paused=(Pause("email_worker.send", NOW - 60_000, "no route", 20),)),
            *("paused", "warning", "paused after 20 failures in a row for 60 s: no route"),
        ),
        (
            beside(kept=3, since=NOW - 1_000),
            *("kept-for-edition", "warning", "at least 3 tasks wait for a version that reads their payload"),
        ),
        (
            beside(kept=0, since=NOW - 2 * 3_600_000),
            *("several-editions", "warning", "2 versions run side by side (b2, a1), the newest for 2 h"),
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_once_with_what_to_do(found, code, severity, says):
    (said,) = findings(found, SETTINGS)

    assert (said.code, said.severity) == (code, severity)
    assert says in said.text
    assert report(found, SETTINGS)["status"] == {"error": "failing", "warning": "degraded"}[severity]


@pytest.mark.parametrize(
    ("settings", "archivers", "since", "code", "says"),
    [
        (ARCHIVED, 0, NOW - 60_000, "no-archiver", "no archiver is alive: 40 or more events wait"),
        (ARCHIVED, 1, NOW - 900_000, "archiver-behind", "the archiver is behind: 40 or more events wait"),
        (ARCHIVED, 1, NOW - 60_000, None, ""),
        (SETTINGS, 0, None, None, ""),
    ],
)
def test_what_waits_for_the_history_is_said_with_who_should_write_it(settings, archivers, since, code, says):
    waits = Backlog(lag=40, exact=False, oldest_ms=since)
    said = findings(replace(WELL, archivers=archivers, unarchived=waits), settings)

    assert [one.code for one in said] == ([code] if code else [])
    assert not code or (says in said[0].text and said[0].do)


def test_what_waits_for_another_shard_is_said_once_it_waits_for_long():
    found = replace(WELL, outboxes=(OutboxState(1, 7, NOW - 90_000), OutboxState(2, 7, NOW - 9_000)))
    [said] = findings(found, SETTINGS)

    assert (said.code, said.about, said.severity) == ("outbox-waits", "shard 1", "warning")
    assert "7 events that belong to shard 1 wait here for it, the oldest for 90 s" in said.text


def test_what_waits_for_a_shard_is_added_up_over_the_others():
    other = replace(WELL, outboxes=(OutboxState(1, 2, NOW - 9_000), OutboxState(0, 4, NOW)))
    found = joined([replace(WELL, outboxes=(OutboxState(1, 7, None), OutboxState(2, 0, None))), other])

    assert found.outboxes == (OutboxState(0, 4, NOW), OutboxState(1, 9, NOW - 9_000), OutboxState(2, 0))


def test_two_versions_are_no_finding_while_one_is_rolled_out():
    assert findings(beside(kept=0, since=NOW - 60_000), SETTINGS) == []


def test_a_lane_is_not_blamed_for_a_dispatcher_that_is_not_there():
    found = replace(with_service(stalled_ms=NOW - DAY), dispatchers=0)

    assert [one.code for one in findings(found, SETTINGS)] == ["no-dispatcher"]


def test_errors_come_first_and_further_findings_are_among_them():
    more = [Finding("push-stands-still", "api", Severity.ERROR, "push stands still")]
    said = report(replace(WELL, beats=0), SETTINGS, more)

    assert [one["code"] for one in said["findings"]] == ["push-stands-still", "no-beat"]
    assert (said["status"], standing([])) == ("failing", "ok")


def test_a_server_without_a_memory_limit_is_never_full():
    assert findings(with_redis(maxmemory=0, used_memory=10**12), SETTINGS) == []


@pytest.mark.parametrize(
    ("ms", "said"),
    [(999, "0 s"), (119_000, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (2 * DAY, "2 days")],
)
def test_durations_are_said_as_one_would(ms, said):
    assert span(ms) == said
