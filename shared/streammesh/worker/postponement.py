"""Queue entries whose task this worker does not know: put back for later, and given up after a while.

While a service is deployed step by step, its old workers are given tasks that only the new ones know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh.edition import Edition
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
from streammesh.lua.queues import PostponeScript
from streammesh.rollout.beside import KIND as OTHER_EDITION
from streammesh.settings import MeshSettings
from streammesh.tasks.dead_letter import Fields
from streammesh.tasks.records import TaskRow
from streammesh.tasks.task import Failure, QueuePlace
from streammesh.transport.codec import BODY, HEAD, SINCE

FOR_EVER_MS = 10**14  # the other edition's life bounds it
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
    others: Sequence[Edition] = (),
    carried: Fields | None = None,
) -> lua.Call[Postponed]:
    """`postpone.lua` for an entry that this worker holds; `row` is its ledger row, if it has one.

    `others`: living editions of its service that know it; while there are some it is not given up.
    `carried` are the fields of what has no entry, because another broker carries it alone.
    """
    fields = carried or {}
    source = event_id = event_type = subject = service = body = ""
    failure = unknown(name)
    if others:
        reason = (
            f"this worker does not know the task {name}; edition {others[0].digest} does, and is waited for"
        )
        failure = Failure(reason, OTHER_EDITION)
    if row is not None:
        ref = row.ref
        source, event_id, event_type = ref.event.source, ref.event.id, ref.event.type
        subject, service = ref.event.subject or "", ref.service
        data = {"error": failure.to_dict()}
        body = notifications.body(ref.fragment, ref.task_id, ref.name, ref.service, row.attempt, data)
    return PostponeScript(
        queue=keys.queue(place.queue, place.priority),
        due=keys.due(),
        due_entries=keys.due_entries(),
        task_row=keys.task_in(place.queue, task_id),
        event_row=keys.event(event_id),
        notifications=keys.notifications(),
        group=WORKERS,
        entry=place.entry,
        patience=FOR_EVER_MS if others else ms(settings.unknown_task_timeout),
        shortest=SHORTEST_MS,
        longest=LONGEST_MS,
        jitter=random.uniform(0.5, 1),
        changed=keys.manifests_changed(),
        task=task_id,
        failure=orjson.dumps({"error": failure.to_dict()}),
        kept=settings.notifications_bound,
        body=body,
        source=source,
        event=event_id,
        event_type=event_type,
        subject=subject,
        service=service,
        h=fields.get(HEAD, ""),
        b=fields.get(BODY, ""),
        u=fields.get(SINCE, ""),
    ).call(_parse)


def _parse(answer: list[Any]) -> Postponed:
    return Postponed(answer[0].decode(), int(answer[1]) if len(answer) > 1 else 0)
