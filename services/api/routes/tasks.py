"""`/v1/tasks`: one task, whatever its state."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.auth import Caller
from services.api.describing import READ, answers, json_answer
from services.api.problems import Problem
from services.api.routes.answer import as_json
from services.api.routes.standing import task_document
from services.api.shapes import EXAMPLE_ID, EXAMPLE_LINKS, EXAMPLE_TASK, Task
from services.api.wiring import wiring_of

router = APIRouter(tags=["tasks"])
LONGEST_ID = 64

_EXAMPLE = {
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
    "error": None,
    "events": [],
    "links": {"self": f"/v1/tasks/{EXAMPLE_TASK}", "event": EXAMPLE_LINKS["self"]},
}


@router.get(
    "/v1/tasks/{task_id}",
    summary="A task: state, attempt, result or error, times, worker",
    response_class=Response,
    responses=answers(*READ, _200=json_answer(Task, "The task.", _EXAMPLE)),
)
async def task_state(request: Request, key: Caller, task_id: str) -> Response:
    """200 for every known task, whatever its state; 404 when it is not known (any more)."""
    wiring = wiring_of(request)
    found = None
    if len(task_id) <= LONGEST_ID:
        async with wiring.reading():
            found = await wiring.rows.task(task_id)
    if found is None or not key.may_subscribe(str(found.event.get("type", ""))):
        raise Problem(
            "not-found",
            f"There is no task {task_id[:LONGEST_ID]!r}; it never was, or its record was dropped.",
        )
    return as_json(task_document(found))
