"""Entries that must not come to Celery (again): broken ones and those that were tried too often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import redis
import structlog

from streammesh import lua, names
from streammesh.keys import PRIORITIES, PRIORITY
from streammesh.settings import mesh_settings
from streammesh.tasks.dead_letter import letter_of_entry
from streammesh.tasks.records import TaskRow, read_task_sync
from streammesh.tasks.settlement import Cause, Ending, Settlement, carry_out
from streammesh.tasks.task import AttemptOutcome, Failure, Holder, QueuePlace, Token
from streammesh.transport.codec import headers_of
from streammesh.transport.scripts import QueueCalls, Read

POISON = "Poison"
MALFORMED = "Malformed"  # what nobody could read says nothing against the service
log = structlog.get_logger(__name__)
Told = Callable[[Mapping[bytes, bytes], str, str, Failure], None]
told_of_parked: list[Told] = []  # are told of what is to be parked: its fields, queue, entry, and why


def park(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, failure: Failure) -> None:
    """Give one entry up: its delivery fails, where it stands for one or for a part of its workflow, with all that
    follows from that; else the entry is moved to the dead letters of the service whose queue it is. One step each."""
    failure = replace(failure, refused=failure.kind == MALFORMED)
    if _end_delivery(client, calls, queue, read, failure):
        return
    if _end_workflow(client, calls, queue, read, failure):
        # If we die before this, the entry is given up once more, and then as one that nothing waits for.
        lua.run_sync(client, calls.ack({read.stream: [read.entry]}))
        return
    for tell in told_of_parked:
        tell(read.fields, queue, read.entry, failure)
    place = QueuePlace(queue, _priority_of(calls, queue, read.stream), read.entry)
    letter = letter_of_entry(place, read.stream, read.entry, read.deliveries, failure)
    headers = headers_of(read.fields)
    if isinstance(headers.get("task"), str):
        letter["task"] = headers["task"]
        letter["detail"] = f"task {headers.get('id')}, {letter['detail']}"
    if lua.run_sync(client, calls.park(queue, read, letter)):
        why, task = {"kind": failure.kind, "reason": failure.reason}, letter.get("task")
        log.error("queue.parked", queue=queue, entry=read.entry, task=task, **why)


def _end_delivery(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, failure: Failure) -> bool:
    """Fail the delivery that an entry stands for; answers whether that was done."""
    task_id = _task_of(read.fields)
    if task_id is None or not names.is_task_of(task_id, names.owner_of(queue)):
        return False
    row = read_task_sync(client, calls.keys, task_id)
    if row is None or row.ended or row.entry != read.entry:
        return False
    place = QueuePlace(queue, _priority_of(calls, queue, read.stream), read.entry)
    return _fail(client, calls, row, place, Holder.THIS_ENTRY, failure)


def _fail(
    client: redis.Redis, calls: QueueCalls, row: TaskRow, place: QueuePlace, token: Token, failure: Failure
) -> bool:
    """Fail a task; answers whether it ended with that, as failed or, where that was wanted, as cancelled."""
    settlement = Settlement(calls.keys, mesh_settings())
    ending, said = Ending.failed(failure, Cause.POISON), {"attempt": row.attempt}
    steps = settlement.settle(row.ref, place, token, ending, said=said, attempts=row.attempt)
    outcome = carry_out(steps, partial(lua.run_sync, client))
    return outcome not in (AttemptOutcome.LOST, AttemptOutcome.SKIPPED)


def _priority_of(calls: QueueCalls, queue: str, stream: str) -> int:
    return next((n for n in PRIORITIES if calls.keys.queue(queue, n) == stream), PRIORITY)


def _end_workflow(client: redis.Redis, calls: QueueCalls, queue: str, read: Read, failure: Failure) -> bool:
    """Fail the delivery whose workflow an entry is a part of; answers whether that was done."""
    headers = headers_of(read.fields)
    root_id, part = headers.get("root_id"), headers.get("task")
    if not isinstance(root_id, str) or "/" not in root_id:
        return False
    task_id = root_id.partition("/")[0]
    if not names.is_task_of(task_id, names.owner_of(queue)):
        return False
    row = read_task_sync(client, calls.keys, task_id)
    if row is None or row.ended or row.workflow != root_id:
        return False
    failure = Failure(f"{part}: {failure.reason}", failure.kind)
    return _fail(client, calls, row, row.place, row.attempt, failure)


def put_back(client: redis.Redis, calls: QueueCalls, queue: str, stream: str, entry: str) -> None:
    """Queue a held entry again, at the end; park it when it was delivered too often."""
    found = client.xrange(stream, entry, entry)
    task_id = _task_of(dict(found[0][1])) if found else None
    row = None if task_id is None else calls.keys.task_in(queue, task_id)
    poison = lua.run_sync(client, calls.requeue(stream, entry, row))
    if poison is not None:
        read = Read(stream, entry, poison.deliveries, poison.fields)
        park(client, calls, queue, read, poison_failure(poison.deliveries))


def _task_of(fields: Mapping[bytes, bytes]) -> str | None:
    """The id in an entry's head, None where there is none to be read."""
    found = headers_of(fields).get("id")
    return None if found is None else str(found)


def poison_failure(deliveries: int) -> Failure:
    """Why an entry that nobody ever finishes is parked."""
    return Failure(f"it was delivered {deliveries} times and never ended", POISON)
