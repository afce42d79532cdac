"""What became of an event and of a task, as documents. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.events.envelope import Event
from streammesh.status.not_run import NotRun
from streammesh.subscriptions.manifest import Manifest, wants
from streammesh.tasks.records import EventRow, TaskRow


def task_document(task: TaskRow) -> dict[str, Any]:
    """One task: always the same members; what is not so yet is null."""
    event = {name: task.event.get(name) for name in ("id", "source", "type", "subject")}
    return {
        "id": task.id,
        "name": task.name,
        "service": task.service,
        "state": task.state,
        "attempt": task.attempt,
        "event": event,
        "queued_at": task.times.get("queued_at"),
        "started_at": task.times.get("started_at"),
        "ended_at": task.times.get("ended_at"),
        "next_attempt_at": task.next_attempt_at if task.state == "retrying" else None,
        "worker": task.worker,
        "progress": task.progress,
        "result": task.result,
        "left_out": task.left_out,
        "error": task.error,
        "events": [{**follow_up, "links": event_links(follow_up)} for follow_up in task.events],
        "links": {"self": f"/v1/tasks/{quote(task.id, safe='')}", "event": event_links(event)["self"]},
    }


def event_links(event: dict[str, Any]) -> dict[str, str]:
    """Where an event is found, whoever else uses its id."""
    path = f"/v1/events/{quote(event['id'], safe='')}"
    source = f"?source={quote(event['source'], safe='')}"
    return {"self": path + source, "notifications": f"{path}/notifications{source}"}


def event_document(
    row: EventRow,
    event: Event | None,
    tasks: list[TaskRow],
    manifests: list[Manifest],
    not_run: list[NotRun],
) -> dict[str, Any]:
    """One event: where it stands, why nothing ran where nothing did, and each delivery."""
    known = {task.id: task for task in tasks}
    state, detail, missed = _standing(row, event, tasks, manifests)
    return {
        "id": row.id,
        "source": row.source,
        "type": type_of(event, tasks),
        "state": state,
        "detail": detail,
        "published_at": rfc3339_ms(row.published_ms),
        "held_until": _held_until(row, event),
        "event": event.to_dict() if event else None,
        "deliveries": [
            {"task_id": task_id, "task": task_document(known[task_id]) if task_id in known else None}
            for task_id in row.task_ids
        ],
        "not_delivered": missed,
        "not_run": [one.document() for one in not_run],
        "links": event_links({"id": row.id, "source": row.source}),
    }


def type_of(event: Event | None, tasks: list[TaskRow]) -> str | None:
    """The event's type, as long as anything tells it."""
    if event:
        return event.type
    return next((str(task.event["type"]) for task in tasks if task.event.get("type")), None)


def _standing(
    row: EventRow, event: Event | None, tasks: list[TaskRow], manifests: list[Manifest]
) -> tuple[str, str, list[dict[str, str]]]:
    missed = _why_not(event, manifests) if event else []
    if row.entry == "held":
        until = _held_until(row, event)
        return "held", f"It is held until {until}." if until else "It is held until it is due.", []
    if row.wanted is None and not row.task_ids:
        return "waiting", "It is stored; no dispatcher has looked at it yet.", missed
    if row.wanted == 0:
        if missed:
            return "unrouted", "Nothing ran: every subscription of its type filters it out.", missed
        return "unrouted", "Nothing ran: no service subscribes to its type.", missed
    if row.completed:
        expired = sum(task.state == "expired" for task in tasks)
        ended = f"All {row.done} tasks ended" if row.done != 1 else "Its one task ended"
        parts = [f"{row.failed} without success"] if row.failed else []
        parts += [f"{expired} of them expired before a worker was free"] if expired else []
        return "completed", f"{ended}{': ' + ', '.join(parts) if parts else ''}.", missed
    wanted = f" of {row.wanted}" if row.wanted is not None else ""
    return "running", f"{row.done}{wanted} tasks ended.", missed


def _held_until(row: EventRow, event: Event | None) -> str | None:
    if row.entry != "held" or event is None:
        return None
    until = event.extensions.get("deliverat")
    return str(until) if until is not None else None


def _why_not(event: Event, manifests: list[Manifest]) -> list[dict[str, str]]:
    """For every subscription that an event did not reach: why."""
    reasons = []
    for manifest in manifests:
        for subscription in manifest.subscriptions:
            if not names.matches(subscription.type, event.type):
                continue
            if not wants(event, subscription):
                reasons.append(
                    {"subscription": subscription.task, "reason": "its `where` filter does not fit"}
                )
    return reasons
