"""`GET /v1/services/{name}`: one service, what waits for it the longest, and what each of its workers holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response
from streammesh.clock import rfc3339_ms
from streammesh.names import TaskState
from streammesh.status.hands import Hands, OldestEvent, read_hands, read_oldest_event
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import lanes, read_registered
from streammesh.tasks.records import TaskRow

from services.api.caller import Caller
from services.api.documents import event_ref
from services.api.json_answer import in_turns
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.routes.status import (
    EXAMPLE_SERVICE,
    MOST_OVER,
    Over,
    ServiceStanding,
    must_read_all,
    standing_of,
)
from services.api.schemas import EXAMPLE_REF, EXAMPLE_TASK, Answer, EventRef
from services.api.state import wiring_of
from services.api.task_pages import TaskPages
from services.api.wait_parameter import seconds_of

router = APIRouter(tags=["status"])
MOST_RUNNING = 200  # tasks of one service that are told of, the oldest
WAITING = frozenset((TaskState.QUEUED, TaskState.HELD, TaskState.RETRYING))
_TASK = {
    "id": EXAMPLE_TASK,
    "name": "email_worker.send_welcome",
    "event": EXAMPLE_REF,
    "queued_at": "2026-11-22T06:00:00.004Z",
    "started_at": "2026-11-22T06:00:00.006Z",
}
_EXAMPLE: dict[str, Any] = {
    **EXAMPLE_SERVICE,
    "oldest": {"where": "queue", "since": "2026-11-22T06:00:00.004Z", "event": EXAMPLE_REF, "task": _TASK},
    "holding": [{"process": "vm:4711", "taken": 2, "running": [_TASK]}],
}


class HeldTask(Answer):
    """One task that has not ended, in short."""

    id: str
    name: str
    event: EventRef
    queued_at: str | None
    started_at: str | None


class Oldest(Answer):
    """What has waited the longest: an event of its stream that was not handed over, or a task that no worker began."""

    where: Literal["stream", "queue"]
    since: str
    event: EventRef | None = Field(description="Null where it cannot be read, or your key may not.")
    task: HeldTask | None


class WorkerHands(Answer):
    """One process. `taken`: entries of the queue that it was given; `running`: the tasks that it began."""

    process: str = Field(description="The machine and the process id.")
    taken: int
    running: list[HeldTask]


class ServiceDetail(ServiceStanding):
    """One service, with what waits for it the longest and what each of its processes holds."""

    oldest: Oldest | None
    holding: list[WorkerHands]


@router.get(
    "/v1/services/{service}",
    summary="One service, and what each of its workers holds",
    response_model=ServiceDetail,
    responses=answers("forbidden", *READ, _200=told("The service.", _EXAMPLE)),
)
async def service_detail(
    request: Request,
    key: Caller,
    service: Annotated[str, Path(max_length=64, examples=["email_worker"])],
    over: Over = None,
) -> Response:
    """Needs a key that may read every event. Of running tasks the 200 oldest are named."""
    must_read_all(key)
    wiring = wiring_of(request)
    found = await wiring.status.look(seconds_of(over, "over", MOST_OVER))
    state = next((one for one in found.services if one.service == service), None)
    if state is None:
        raise Problem("not-found", f"There is no service {service!r}; GET /v1/services lists them.")
    async with wiring.reading():
        registered = await read_registered(wiring.redis, wiring.keys)
        manifest = next((one for one in registered.manifests if one.service == service), Manifest(service))
        pages = TaskPages(wiring.redis, wiring.keys, wiring.rows)
        running = await pages.open([service], _is_running, MOST_RUNNING, None, oldest_first=True)
        waiting = await pages.open([service], _waits, 1, None, oldest_first=True)
        hands = await read_hands(wiring.redis, wiring.keys, manifest.queue_names, running.tasks)
        domains = lanes([manifest], registered.domains).get(service, frozenset())
        event = await read_oldest_event(wiring.redis, wiring.keys, service, sorted(domains))
    shown = {
        **standing_of(wiring, found, state),
        "oldest": _oldest(waiting.tasks, event),
        "holding": [_hands(one) for one in hands],
    }
    return await in_turns(ServiceDetail.model_validate(shown))


def _is_running(row: TaskRow) -> bool:
    return row.state == TaskState.STARTED


def _waits(row: TaskRow) -> bool:
    return row.state in WAITING


def _oldest(waiting: list[TaskRow], event: OldestEvent | None) -> Oldest | None:
    task = waiting[0] if waiting else None
    since = task.times_ms.get("queued", 0) if task else 0
    if event is not None and (task is None or event.at_ms < since):
        about = event.event
        ref = about and EventRef(id=about.id, source=about.source, type=about.type, subject=about.subject)
        return Oldest(where="stream", since=rfc3339_ms(event.at_ms), event=ref, task=None)
    if task is None:
        return None
    return Oldest(where="queue", since=rfc3339_ms(since), event=event_ref(task.event), task=_task(task))


def _hands(one: Hands) -> WorkerHands:
    return WorkerHands(process=one.process, taken=one.taken, running=[_task(row) for row in one.running])


def _task(row: TaskRow) -> HeldTask:
    return HeldTask(
        id=row.id,
        name=row.name,
        event=event_ref(row.event),
        queued_at=row.times.get("queued_at"),
        started_at=row.times.get("started_at"),
    )
