"""The shapes of answers, for the OpenAPI document; tests compare what is sent with them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ID = "0198f2f1-8f0a-7c3e-9c55-0d6e7a1b2c3d"
EXAMPLE_TASK = "5b0e3c56-7d0b-5f5e-8a53-0f5d8b1f0a11"
EXAMPLE_EVENT = {
    "specversion": "1.0",
    "id": EXAMPLE_ID,
    "source": "shop",
    "type": "user.registered",
    "time": "2026-11-22T06:00:00.000Z",
    "subject": "user/42",
    "data": {"user_id": 42, "email": "ann@example.com", "name": "Ann"},
}
EXAMPLE_LINKS = {
    "self": f"/v1/events/{EXAMPLE_ID}",
    "notifications": f"/v1/events/{EXAMPLE_ID}/notifications",
}
EXAMPLE_ACCEPTED: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "source": "shop",
    "type": "user.registered",
    "duplicate": False,
    "links": EXAMPLE_LINKS,
}

TASK_DOCUMENT: dict[str, Any] = {
    "id": EXAMPLE_TASK,
    "name": "email_worker.send_welcome",
    "service": "email_worker",
    "state": "succeeded",
    "attempt": 1,
    "event": {"id": EXAMPLE_ID, "source": "shop", "type": "user.registered", "subject": "user/42"},
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
    "links": {"self": f"/v1/tasks/{EXAMPLE_TASK}", "event": EXAMPLE_LINKS["self"]},
}


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(extra="allow")


class Wrong(Answer):
    """One thing that is wrong: `pointer` leads into the body (RFC 6901); else a `parameter` or `header` is named."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class ProblemDocument(Answer):
    """RFC 9457. `type` leads to an explanation; `request_id` is also in the header `x-request-id`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Wrong] = Field(default_factory=list)


class Links(Answer):
    """Where to look at the event, and where to be told about it."""

    self: str
    notifications: str


class Accepted(Answer):
    """The event is stored (or was before: `duplicate`) and reaches every subscription."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [EXAMPLE_ACCEPTED]})

    id: str
    source: str
    type: str
    duplicate: bool
    links: Links


class AcceptedBatch(Answer):
    """All events of the batch are stored, in their order."""

    events: list[Accepted]


class ReportAccepted(Accepted):
    """The report is asked for; its id is the event's id."""

    report_id: str


class EventRef(Answer):
    """Which event something is about."""

    id: str
    source: str
    type: str
    subject: str | None = None


class Task(Answer):
    """One delivery of an event to one subscription, and how its work goes."""

    id: str
    name: str
    service: str
    state: Literal["held", "queued", "started", "retrying", "succeeded", "failed", "cancelled", "expired"]
    attempt: int = Field(description="How often it was started.")
    event: EventRef
    queued_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    next_attempt_at: str | None = None
    worker: str | None = None
    progress: dict[str, Any] | None = None
    result: Any = None
    left_out: bool = Field(
        False,
        description="There is a result, and it is too large to stand among the others: ask for the task itself.",
    )
    error: dict[str, Any] | None = None
    events: list[EventRef] = Field(
        default_factory=list, description="Follow-up events that left with the outcome."
    )
    links: dict[str, str] = Field(default_factory=dict)


class DeliveryDocument(Answer):
    """A subscription that got the event. `task` is null once its record is dropped."""

    task_id: str
    task: Task | None


class NotDelivered(Answer):
    """A subscription of this type that did not get the event, and why."""

    subscription: str
    reason: str


class NotRunDocument(Answer):
    """A subscription that wants the event and has not run: `why` for programs, `detail` for people."""

    subscription: str
    task_id: str
    why: str
    detail: str
    ahead: int | None = Field(description="How many are before it in the line that it waits in.")


class EventState(Answer):
    """An event and everything that came of it."""

    id: str
    source: str
    type: str | None = Field(description="Null once the event itself was trimmed and nothing else tells.")
    state: Literal["held", "waiting", "unrouted", "running", "completed"]
    detail: str = Field(description="The state in words; for an event that nothing ran for, why.")
    published_at: str
    held_until: str | None = None
    event: dict[str, Any] | None = Field(description="The envelope; null once its retention is over.")
    deliveries: list[DeliveryDocument]
    not_delivered: list[NotDelivered]
    not_run: list[NotRunDocument]
    links: Links


class EventStanding(Answer):
    """Where an event stands, in short. `tasks` is null while no dispatcher has seen it."""

    state: Literal["waiting", "running", "completed", "failed", "unrouted"]
    published_at: str | None
    tasks: int | None
    done: int
    failed: int


class EventPage(Answer):
    """Recent events, newest first; `next` is the cursor of the next page, null at the end.

    `standings`, where they were asked for, are those of `events`, in the same order.
    """

    events: list[dict[str, Any]]
    next: str | None
    standings: list[EventStanding] = Field(default_factory=list)


class ReportState(Answer):
    """How far a report is."""

    report_id: str
    state: Literal["held", "queued", "running", "retrying", "ready", "failed", "removed"]
    detail: str
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    report: dict[str, Any] | None = Field(None, description="What the finished report says about itself.")
    links: dict[str, str]


class Part(Answer):
    """One thing that has to work."""

    ok: bool
    detail: str


class Ready(Answer):
    """Everything works that a request needs."""

    status: Literal["ready"]
    parts: dict[str, Part]


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"]


class ProblemKind(Answer):
    """One entry of the catalogue of problems."""

    type: str
    title: str
    status: int
    advice: str
