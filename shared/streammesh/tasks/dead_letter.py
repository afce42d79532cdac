"""Dead letters: what is written in one, and parking: what lies in a queue and can never run becomes one, in one script."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from streammesh import lua, names
from streammesh.keys import PRIORITY, WORKERS, Keys
from streammesh.lua.tasks import QueueParkScript
from streammesh.tasks.task import Failure, QueuePlace, TaskRef

Fields = dict[bytes, bytes]
Letter = Mapping[str, Any]


def letter_of_task(
    ref: TaskRef, failure: Failure, attempts: int, at_ms: int, place: QueuePlace
) -> dict[str, Any]:
    """What is parked when a task fails: why. `settle.lua` keeps the queue entry, with the whole envelope, beside it."""
    event = ref.event
    return {
        "form": "task",
        "id": ref.task_id,
        "service": ref.service,
        "task": ref.name,
        "queue": place.queue,
        "priority": place.priority,
        "reason": failure.reason,
        "kind": failure.kind,
        "detail": failure.traceback,
        "attempts": attempts,
        "at": at_ms,
        "event": {"id": event.id, "type": event.type, "source": event.source, "subject": event.subject},
    }


def letter_of_entry(
    place: QueuePlace, stream: str, entry: str, deliveries: int, failure: Failure
) -> dict[str, Any]:
    """What is parked: why, and how often it was tried. `queue_park.lua` keeps the entry's fields beside it."""
    stream_name = place.queue if place.priority == PRIORITY else f"{place.queue}-p{place.priority}"
    return {
        "form": "entry",
        "id": f"parked-{stream_name}-{entry}",
        "service": names.owner_of(place.queue),
        "queue": place.queue,
        "priority": place.priority,
        "reason": failure.reason,
        "kind": failure.kind,
        "detail": f"entry {entry} of {stream}",
        "attempts": deliveries,
        "at": round(time.time() * 1000),
    }


def park_call(keys: Keys, kept: int, place: QueuePlace, failure: Failure) -> lua.Call[bool]:
    """Park the entry at `place`; answers whether this call did."""
    stream = keys.queue(place.queue, place.priority)
    letter = letter_of_entry(place, stream, place.entry, 1, failure)
    return park_entry_call(keys, kept, place.queue, stream, place.entry, letter)


def park_carried_call(
    keys: Keys, kept: int, queue: str, name: str, fields: Fields, failure: Failure
) -> lua.Call[bool]:
    """Park what another broker carries alone, as the entry that it would be; `name` tells such letters apart."""
    stream = keys.queue(queue)
    letter = letter_of_entry(QueuePlace(queue), stream, name, 1, failure)
    return park_entry_call(keys, kept, queue, stream, "", letter, fields)


def park_entry_call(
    keys: Keys, kept: int, queue: str, stream: str, entry: str, letter: Letter, fields: Fields | None = None
) -> lua.Call[bool]:
    """Park the entry `entry` of `stream` with `letter`; `fields` stand for an entry that no stream holds."""
    service = names.owner_of(queue)
    return QueueParkScript(
        queue=stream,
        dead=keys.dead(service),
        index=keys.dead_index(service),
        entries=keys.dead_entries(service),
        services=keys.dead_services(),
        counters=keys.counters(),
        group=WORKERS,
        id=entry,
        letter_id=letter["id"],
        letter=orjson.dumps(letter),
        kept=kept,
        service=service,
        h=fields[b"h"] if fields else "",
        b=fields[b"b"] if fields else "",
    ).call(bool)
