"""What the ledger wrote is what the report reads: on a real server, through the kit's own calls."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from streammesh import SyncPublisher, lua
from streammesh.clock import to_ms
from streammesh.events import envelope
from streammesh.history.rows import EventRecord, TaskRecord, day_of
from streammesh.history.store import HistoryBatch, HistoryStore
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.settlement import Cause, Ending, Settlement
from streammesh.tasks.task import Failure, LedgerAnswer, QueuePlace, TaskRef

from services.report_worker import operations_source
from services.report_worker.operations import Period, summarise_operations
from services.report_worker.operations_source import read_operations

NOWHERE = QueuePlace("email_worker")


@pytest.fixture
def period() -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(hours=1), now + timedelta(hours=1)


@pytest.fixture
def ledger(mesh_keys: Keys, mesh_settings: MeshSettings) -> Ledger:
    return Ledger(mesh_keys, mesh_settings)


def end_task(client: redis.Redis, ledger: Ledger, number: int, reason: str = "") -> None:
    """A task that was queued, claimed and ended, by the scripts that do so in the mesh."""
    event = envelope.make("user.registered", {}, source="tests", id=f"event-{number}")
    ref = TaskRef(f"task-{number}", "email_worker.send", "email_worker", event)
    client.hset(ledger.keys.task(ref.task_id), mapping={"state": "queued", "attempt": 0, "queued": 1})
    claim = lua.run_sync(client, ledger.claim(ref, NOWHERE, "w"))
    failed = Ending.failed(Failure(reason, "Reject"), Cause.GAVE_UP)
    ending = failed if reason else Ending.success(None, ())
    call = Settlement(ledger.keys, ledger.settings).call(ref, NOWHERE, claim.attempt, ending)
    assert lua.run_sync(client, call).answer is LedgerAnswer.DONE


def test_ended_tasks_and_events_of_the_period_are_read(
    mesh_redis_sync: redis.Redis, mesh_keys: Keys, mesh_settings: MeshSettings, ledger: Ledger, period
) -> None:
    publisher = SyncPublisher(mesh_redis_sync, mesh_keys, mesh_settings, source="tests")
    for number in range(3):
        publisher.publish("user.registered", {"n": number})
    publisher.publish("order.placed", {})
    end_task(mesh_redis_sync, ledger, 1)
    end_task(mesh_redis_sync, ledger, 2, reason="550 no such user")

    tasks, events, cut_short = read_operations(mesh_redis_sync, mesh_keys, period, most=100)

    operations = summarise_operations(tasks, events, period)
    assert not cut_short
    assert operations.event_types == [("user.registered", 3), ("order.placed", 1)]
    assert [(s.service, s.states) for s in operations.services] == [
        ("email_worker", {"succeeded": 1, "failed": 1})
    ]
    assert [(f.name, f.reason, f.count) for f in operations.failures] == [
        ("email_worker.send", "550 no such user", 1)
    ]
    assert operations.services[0].ran is not None and operations.services[0].ran.count == 2


def test_what_lies_outside_the_period_is_not_read(
    mesh_redis_sync: redis.Redis, mesh_keys: Keys, mesh_settings: MeshSettings, ledger: Ledger, period
) -> None:
    SyncPublisher(mesh_redis_sync, mesh_keys, mesh_settings, source="tests").publish("order.placed", {})
    end_task(mesh_redis_sync, ledger, 1)
    start, _ = period
    assert read_operations(mesh_redis_sync, mesh_keys, (start, start + timedelta(minutes=1)), 10) == (
        [],
        [],
        False,
    )


def test_more_than_one_page_is_read_and_too_many_are_cut_short_at_the_oldest(
    mesh_redis_sync: redis.Redis, mesh_keys: Keys, ledger: Ledger, period, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_source, "PAGE", 2)
    for number in range(5):
        end_task(mesh_redis_sync, ledger, number, reason=f"reason {number}")

    everything, _, cut_short = read_operations(mesh_redis_sync, mesh_keys, period, most=5)
    assert not cut_short
    assert sorted(task.reason for task in everything) == [f"reason {number}" for number in range(5)]

    newest, _, cut_short = read_operations(mesh_redis_sync, mesh_keys, period, most=3)
    assert cut_short
    assert [task.reason for task in newest] == ["reason 4", "reason 3", "reason 2"]


def test_what_has_left_redis_is_read_from_the_history_and_counted_once(
    mesh_redis_sync: redis.Redis,
    mesh_keys: Keys,
    mesh_settings: MeshSettings,
    ledger: Ledger,
    period: Period,
    tmp_path: Path,
) -> None:
    SyncPublisher(mesh_redis_sync, mesh_keys, mesh_settings, source="tests").publish("order.placed", {})
    end_task(mesh_redis_sync, ledger, 1)
    [(position, _)] = mesh_redis_sync.xrange(mesh_keys.events("order"))
    at, seq = map(int, position.split(b"-"))
    begin = to_ms(period[0]) + 1_000
    gone = EventRecord(
        *(day_of(begin), "gone", "tests", begin, 0, "user", "user.registered", None, None),
        *("failed", 1, 1, 1, begin + 9, "{}"),
    )
    both = gone._replace(day=day_of(at), id="both", at=at, seq=seq, domain="order", type="order.placed")
    outcome = '{"error":{"reason":"550 no such user","kind":"Reject"}}'
    task = TaskRecord(
        day=day_of(begin),
        id="task-0",
        event_id="gone",
        event_source="tests",
        event_type="user.registered",
        event_subject=None,
        correlation=None,
        name="email_worker.send",
        service="email_worker",
        queue="email_worker",
        priority=5,
        state="failed",
        attempt=1,
        at=begin,
        seq=0,
        queued=begin,
        started=begin,
        ended=begin,
        worker="w",
        outcome=outcome,
    )
    url = f"sqlite:///{tmp_path}/history.db"
    with closing(HistoryStore(url)) as store:
        store.migrate()
        store.write(HistoryBatch([gone, both], [task, task._replace(id="task-1", state="succeeded")]))

    tasks, events, cut_short = read_operations(mesh_redis_sync, mesh_keys, period, 100, url)

    operations = summarise_operations(tasks, events, period)
    assert not cut_short
    assert operations.event_types == [("order.placed", 1), ("user.registered", 1)]
    assert [one.states for one in operations.services] == [{"succeeded": 1, "failed": 1}]
    assert [(one.reason, one.count) for one in operations.failures] == [("550 no such user", 1)]
