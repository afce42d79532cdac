"""Entries that must not come to Celery (again): broken ones and those that were tried too often."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson
import redis
import structlog

from streammesh import lua
from streammesh.keys import PRIORITIES, PRIORITY
from streammesh.names import CANCELLED, FAILED
from streammesh.settings import mesh_settings
from streammesh.tasks import ledger as ledgers
from streammesh.tasks.cancellation import CANCELLED as WAS_CANCELLED
from streammesh.tasks.ledger import THIS_ENTRYS, Failure, Ledger, QueuePlace
from streammesh.tasks.parking import dead_letter
from streammesh.tasks.records import parse_task
from streammesh.transport.codec import HEAD
from streammesh.transport.scripts import QueueCalls, Read

log = structlog.get_logger(__name__)


def park(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, kind: str, reason: str) -> None:
    """Give one entry up: its delivery fails, where it stands for one or for a part of its workflow, with all that
    follows from that; else the entry is moved to the dead letters of the service whose queue it is. One step each."""
    if _end_delivery(client, calls, queue, read, Failure(reason, kind)):
        return
    if _end_workflow(client, calls, queue, read, Failure(reason, kind)):
        # If we die before this, the entry is given up once more, and then as one that nothing waits for.
        lua.run_sync(client, calls.ack({read.stream: [read.entry]}))
        return
    letter = dead_letter(
        QueuePlace(queue, _priority_of(calls, queue, read.stream)),
        read.stream,
        read.entry,
        read.deliveries,
        kind,
        reason,
    )
    if lua.run_sync(client, calls.park(queue, read, letter)):
        log.error("queue.parked", queue=queue, entry=read.entry, kind=kind, reason=reason)


def _end_delivery(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, failure: Failure) -> bool:
    """Fail the delivery that an entry stands for; answers whether that was done."""
    task_id = _task_of(read.fields)
    if task_id is None:
        return False
    stored = client.hgetall(calls.keys.task(task_id))
    row = parse_task(task_id, stored) if b"meta" in stored else None
    if row is None or row.ended or row.entry != read.entry:
        return False
    place = QueuePlace(queue, _priority_of(calls, queue, read.stream), read.entry)
    ledger = Ledger(calls.keys, mesh_settings())
    letter = ledgers.dead_letter(row.ref, failure, row.attempt, round(time.time() * 1000), place)
    answer = lua.run_sync(
        client,
        ledger.finish(row.ref, place, THIS_ENTRYS, FAILED, failure=failure, dead_letter=letter),
    )
    if answer == "cancelled":
        call = ledger.finish(row.ref, place, THIS_ENTRYS, CANCELLED, failure=WAS_CANCELLED)
        answer = lua.run_sync(client, call)
    log.error("task.failed", task_id=task_id, task=row.name, reason=failure.reason, answer=answer)
    return answer == "done"


def _priority_of(calls: QueueCalls, queue: str, stream: str) -> int:
    return next((n for n in PRIORITIES if calls.keys.queue(queue, n) == stream), PRIORITY)


def _end_workflow(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, failure: Failure) -> bool:
    """Fail the delivery whose workflow an entry is a part of; answers whether that was done."""
    headers = _headers_of(read.fields)
    root_id, part = headers.get("root_id"), headers.get("task")
    if not isinstance(root_id, str) or "/" not in root_id:
        return False
    task_id = root_id.partition("/")[0]
    stored = client.hgetall(calls.keys.task(task_id))
    row = parse_task(task_id, stored) if b"meta" in stored else None
    if row is None or row.ended or row.workflow != root_id:
        return False
    failure = Failure(f"{part}: {failure.reason}", failure.kind)
    letter = ledgers.dead_letter(row.ref, failure, row.attempt, round(time.time() * 1000), row.place)
    ledger = Ledger(calls.keys, mesh_settings())
    call = ledger.finish(
        row.ref, QueuePlace(row.ref.service), row.attempt, FAILED, failure=failure, dead_letter=letter
    )
    answer = lua.run_sync(client, call)
    log.error(
        "task.failed", task_id=task_id, task=row.name, workflow=True, reason=failure.reason, answer=answer
    )
    return answer == "done"


def put_back(client: redis.Redis, calls: QueueCalls, queue: str, stream: str, entry: str) -> None:
    """Queue a held entry again, at the end; park it when it was delivered too often."""
    found = client.xrange(stream, entry, entry)
    task_id = _task_of(dict(found[0][1])) if found else None
    poison = lua.run_sync(client, calls.requeue(stream, entry, task_id))
    if poison is not None:
        read = Read(stream, entry, poison.deliveries, poison.fields)
        park(client, calls, queue, read, "Poison", poison_reason(poison.deliveries))


def _task_of(fields: Mapping[bytes, bytes]) -> str | None:
    """The id in an entry's head, None where there is none to be read."""
    found = _headers_of(fields).get("id")
    return None if found is None else str(found)


def _headers_of(fields: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    try:
        headers = orjson.loads(fields[HEAD])["headers"]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return {}
    return headers if isinstance(headers, dict) else {}


def poison_reason(deliveries: int) -> str:
    """Why an entry that nobody ever finishes is parked."""
    return f"it was delivered {deliveries} times and never ended"
