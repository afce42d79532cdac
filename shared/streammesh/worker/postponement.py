"""Queue entries whose task this worker does not know: put back for later, and given up after a while.

While a service is deployed step by step, its old workers are given tasks that only the new ones know.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
from streammesh.settings import MeshSettings
from streammesh.tasks.dead_letter import Fields
from streammesh.tasks.records import TaskRow
from streammesh.tasks.task import Failure, QueuePlace
from streammesh.transport.codec import BODY, HEAD, SINCE

SHORTEST_MS, LONGEST_MS = 1_000, 30_000  # the wait is about as long as it has waited already


class Postponed(NamedTuple):
    """`done`: it waits for `ms`; `gone`: somebody else has it; `enough`: it has waited since `ms`."""

    verdict: str
    ms: int = 0


def unknown(name: str) -> Failure:
    """What is said about such a task."""
    return Failure(f"no worker that was asked knows the task {name}", "UnknownTask")


def postpone_call(
    keys: Keys,
    settings: MeshSettings,
    place: QueuePlace,
    task_id: str,
    name: str,
    row: TaskRow | None,
    carried: Fields | None = None,
) -> lua.Call[Postponed]:
    """`postpone.lua` for an entry that this worker holds; `row` is its ledger row, if it has one.

    `carried` are the fields of what has no entry, because another broker carries it alone.
    """
    fields = carried or {}
    about: list[lua.Arg] = ["", "", "", "", ""]
    body, event_id = "", ""
    failure = unknown(name)
    if row is not None:
        ref = row.ref
        event_id, data = ref.event.id, {"error": failure.to_dict()}
        body = notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, row.attempt, data)
        about = [ref.event.source, ref.event.id, ref.event.type, ref.event.subject or "", ref.service]
    return lua.Call(
        lua.script("postpone"),
        [
            *(keys.queue(place.queue, place.priority), keys.due(), keys.due_entries()),
            *(keys.task(task_id), keys.event(event_id), keys.notifications()),
        ],
        [
            *(WORKERS, place.entry, ms(settings.unknown_task_timeout), SHORTEST_MS, LONGEST_MS),
            *(random.uniform(0.5, 1), keys.manifests_changed(), task_id),
            *(orjson.dumps({"error": failure.to_dict()}), settings.notifications_kept, body, *about),
            *(fields.get(HEAD, ""), fields.get(BODY, ""), fields.get(SINCE, "")),
        ],
        _parse,
    )


def _parse(answer: list[Any]) -> Postponed:
    return Postponed(answer[0].decode(), int(answer[1]) if len(answer) > 1 else 0)
