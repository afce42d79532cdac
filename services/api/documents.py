"""What became of an event and of a task: the documents, and how records become them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ConfigDict, Field
from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.durable.records import told_steps
from streammesh.events.envelope import Event
from streammesh.redisio.turns import Turns
from streammesh.status.not_run import NotRun, Why
from streammesh.subscriptions.manifest import Manifest, wants
from streammesh.tasks.records import EventRow, TaskRow

from services.api.cloudevents import CloudEvent
from services.api.schemas import (
    EXAMPLE_LINKS,
    EXAMPLE_REF,
    EXAMPLE_TASK,
    Answer,
    EventLinks,
    EventRef,
    readable,
)

EXAMPLE_TASK_DOCUMENT: dict[str, Any] = {
    "id": EXAMPLE_TASK,
    "name": "email_worker.send_welcome",
    "service": "email_worker",
    "state": "succeeded",
    "attempt": 1,
    "event": EXAMPLE_REF,
    "queued_at": "2026-11-22T06:00:00.004Z",
    "started_at": "2026-11-22T06:00:00.006Z",
    "ended_at": "2026-11-22T06:00:00.091Z",
    "next_attempt_at": None,
    "worker": "email_worker@host:4711",
    "progress": None,
    "result": {"status": "sent"},
    "left_out": False,
    "error": None,
    "events": [],
    "steps": [],
    "waits_for": None,
    "links": {"self": f"/v1/tasks/{EXAMPLE_TASK}", "event": EXAMPLE_LINKS["self"]},
}


class Progress(Answer):
    """How far a task is, by its handler's own words."""

    model_config = ConfigDict(extra="ignore")

    progress: float = Field(description="0 to 1; never goes back.")
    text: str | None = None


class TaskError(Answer):
    """Why a task ended without success."""

    model_config = ConfigDict(extra="ignore")

    reason: str
    kind: str = Field(description="Class of the error.")
    by: dict[str, str] | None = Field(
        default=None, description="The event that cancelled it: its `id`, `source` and `type`."
    )


class FollowUp(EventRef):
    """An event that left with a task's outcome."""

    model_config = ConfigDict(extra="ignore")

    links: EventLinks


class TaskLinks(Answer):
    """Where to look at the task, and at its event."""

    self: str
    event: str


class StepDocument(Answer):
    """A step of a durable handler, or a wait of it that is over."""

    name: str
    kind: Literal["step", "event", "signal", "timeout"]
    at: str = Field(description="When it was recorded.")


class WaitDocument(Answer):
    """What a durable handler waits for."""

    model_config = ConfigDict(extra="ignore")

    name: str
    until: str = Field(description="When it goes on without.")
    kind: Literal["time", "event", "signal", "version"]
    type: str | None = None
    match: dict[str, Any] | None = None
    signal: str | None = None
    question: str | None = None
    to: str | None = None
    approval_url: str | None = Field(
        None,
        description="Where somebody without a key may answer the question, once and until `until`; in the task's own document, "
        "for keys that may publish the event's type.",
    )
    version: int | None = Field(
        None, description="Of its handler, which no worker has that tried it: it goes on when one has."
    )


class LineDocument(Answer):
    """Where a task waits for its turn: the key, and how many of that key are before it."""

    key: str
    before: int


class TaskDocument(Answer):
    """One delivery of an event to one subscription, and how its work goes."""

    id: str
    name: str
    service: str
    state: Literal[
        "pending",
        "held",
        "queued",
        "started",
        "retrying",
        "waiting",
        "succeeded",
        "failed",
        "cancelled",
        "expired",
        "skipped",
        "folded",
    ]
    attempt: int = Field(description="How often it was started.")
    event: EventRef
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    next_attempt_at: str | None
    worker: str | None
    progress: Progress | None
    result: Any = Field(description="What the handler returned.")
    left_out: bool = Field(
        description="There is a result, and it is too large to stand among the others: ask for the task itself."
    )
    error: TaskError | None
    events: list[FollowUp] = Field(description="Follow-up events that left with the outcome.")
    steps: list[StepDocument] = Field(
        description="What a durable handler has recorded, the last 100, oldest first."
    )
    waits_for: WaitDocument | None = Field(
        description="What a durable handler waits for, in state `waiting`."
    )
    line: LineDocument | None = Field(
        None, description="Where it waits in state `pending`; told of a task that is asked for by itself."
    )
    links: TaskLinks


class DeliveryDocument(Answer):
    """A subscription that got the event. `task` is null once its record is dropped."""

    task_id: str
    task: TaskDocument | None


class NotDelivered(Answer):
    """A subscription of this type that did not get the event, and why."""

    subscription: str
    reason: str


class NotRunDocument(Answer):
    """A subscription that wants the event and has not run: `why` for programs, `detail` for people."""

    subscription: str
    task_id: str
    why: Why
    detail: str
    ahead: int | None = Field(description="How many are before it in the line that it waits in.")


State = Literal["held", "waiting", "unrouted", "running", "completed"]


class EventState(Answer):
    """An event and everything that came of it."""

    id: str
    source: str
    type: str | None = Field(description="Null once the event itself was trimmed and nothing else tells.")
    state: State
    detail: str = Field(description="The state in words; for an event that nothing ran for, why.")
    published_at: str
    held_until: str | None
    event: CloudEvent | None = Field(description="The envelope; null once its retention is over.")
    deliveries: list[DeliveryDocument]
    not_delivered: list[NotDelivered]
    not_run: list[NotRunDocument]
    links: EventLinks


HISTORY_AWAY = Field(
    False, description="The history did not answer: what has left Redis is not among these. Ask again later."
)
StandingState = Literal["waiting", "running", "completed", "failed", "unrouted"]


class EventStanding(Answer):
    """Where an event stands, in short. `tasks` is null while no dispatcher has seen it."""

    state: StandingState
    published_at: str | None
    tasks: int | None
    done: int
    failed: int


class EventPage(Answer):
    """Recent events, newest first; `next` is the cursor of the next page, null at the end.

    `standings`, where they were asked for, are those of `events`, in the same order. `position` is one of
    `GET /v1/notifications`: whoever follows after it misses nothing of what the page does not show yet.
    """

    events: list[CloudEvent]
    next: str | None
    standings: list[EventStanding]
    position: str
    history_away: bool = HISTORY_AWAY


def event_ref(about: Mapping[str, Any]) -> EventRef:
    """Which event a record is about; its id, source and type were read as texts before."""
    subject = about.get("subject")
    return EventRef(
        id=about["id"],
        source=about["source"],
        type=about["type"],
        subject=subject if isinstance(subject, str) else None,
    )


def task_document(task: TaskRow) -> TaskDocument:
    """One task: always the same members; what is not so yet is null."""
    event = event_ref(task.event)
    steps, waits_for = told_steps(task.durable) if task.durable else ([], None)
    return TaskDocument(
        id=task.id,
        name=task.name,
        service=task.service,
        state=task.state,  # one of names.STATES, as the row was read
        attempt=task.attempt,
        event=event,
        queued_at=task.times.get("queued_at"),
        started_at=task.times.get("started_at"),
        ended_at=task.times.get("ended_at"),
        next_attempt_at=task.next_attempt_at if task.state in ("retrying", "waiting") else None,
        worker=task.worker,
        progress=readable(Progress, task.progress),
        result=task.result,
        left_out=task.left_out,
        error=readable(TaskError, task.error),
        events=follow_ups(task),
        steps=[StepDocument(**one) for one in steps],
        waits_for=readable(WaitDocument, waits_for) if task.state == "waiting" else None,
        links=TaskLinks(
            self=f"/v1/tasks/{quote(task.id, safe='')}", event=event_links(event.id, event.source).self
        ),
    )


def follow_ups(task: TaskRow) -> list[FollowUp]:
    """The events that left with a task's outcome."""
    found = []
    for about in task.events:
        id, source = about.get("id"), about.get("source")
        if isinstance(id, str) and isinstance(source, str):
            found.append(readable(FollowUp, {**about, "links": event_links(id, source)}))
    return [one for one in found if one is not None]


def event_links(event_id: str, source: str) -> EventLinks:
    """Where an event is found, whoever else uses its id."""
    path, query = f"/v1/events/{quote(event_id, safe='')}", f"?source={quote(source, safe='')}"
    return EventLinks(self=path + query, notifications=f"{path}/notifications{query}")


async def event_document(
    row: EventRow,
    event: Event | None,
    tasks: list[TaskRow],
    manifests: list[Manifest],
    not_run: list[NotRun],
) -> EventState:
    """One event: where it stands, why nothing ran where nothing did, and each delivery."""
    known = {task.id: task for task in tasks}
    state, detail, missed = _standing(row, event, tasks, manifests)
    turns, deliveries = Turns(), []
    for task_id in row.task_ids:
        task = task_document(known[task_id]) if task_id in known else None
        deliveries.append(DeliveryDocument(task_id=task_id, task=task))
        await turns.give()
    return EventState(
        id=row.id,
        source=row.source,
        type=type_of(event, tasks),
        state=state,
        detail=detail,
        published_at=rfc3339_ms(row.published_ms),
        held_until=_held_until(row, event),
        event=readable(CloudEvent, event.to_dict()) if event else None,
        deliveries=deliveries,
        not_delivered=[NotDelivered(**one) for one in missed],
        not_run=[
            NotRunDocument(
                subscription=one.subscription,
                task_id=one.task_id,
                why=one.why,
                detail=one.detail,
                ahead=one.ahead,
            )
            for one in not_run
        ],
        links=event_links(row.id, row.source),
    )


def type_of(event: Event | None, tasks: list[TaskRow]) -> str | None:
    """The event's type, as long as anything tells it."""
    if event:
        return event.type
    return next((str(task.event["type"]) for task in tasks if task.event.get("type")), None)


def _standing(
    row: EventRow, event: Event | None, tasks: list[TaskRow], manifests: list[Manifest]
) -> tuple[State, str, list[dict[str, str]]]:
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
