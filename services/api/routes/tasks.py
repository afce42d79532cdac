"""`/v1/tasks`: one task, whatever its state."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from streammesh.api_keys import ApiKey
from streammesh.lines.state import before_in_line
from streammesh.tasks.records import TaskRow

from services.api.caller import Listener
from services.api.documents import EXAMPLE_TASK_DOCUMENT, LineDocument, TaskDocument, task_document
from services.api.lookup import HISTORY_IS_AWAY
from services.api.openapi import READ, answers, told
from services.api.problems import Problem, unavailable
from services.api.schemas import EXAMPLE_TASK
from services.api.state import Wiring, wiring_of
from services.api.tokens import narrowing_of

router = APIRouter(tags=["tasks"])
LONGEST_ID = 64


def _may_read(key: ApiKey, task: TaskRow) -> bool:
    event, narrowing = task.event, narrowing_of(key)
    return (
        key.may_subscribe(str(event.get("type", "")))
        and narrowing.task in (None, task.id)
        and narrowing.covers(str(event.get("id")), str(event.get("source")), event.get("subject"))
    )


async def readable_task(wiring: Wiring, key: ApiKey, task_id: str) -> TaskRow:
    """A task that the key may read. Raises Problem (404)."""
    found = None
    if len(task_id) <= LONGEST_ID:
        async with wiring.reading():
            found = await wiring.rows.task(task_id)
    if found is None and wiring.history is not None and wiring.history.is_away:
        raise unavailable(f"Redis does not know the task {task_id[:LONGEST_ID]!r}, and {HISTORY_IS_AWAY}")
    if found is None or not _may_read(key, found):
        raise Problem(
            "not-found",
            f"There is no task {task_id[:LONGEST_ID]!r}; it never was, or its record was dropped.",
        )
    return found


@router.get(
    "/v1/tasks/{task_id}",
    summary="A task: state, attempt, result or error, times, worker",
    responses=answers(*READ, _200=told("The task.", EXAMPLE_TASK_DOCUMENT)),
)
async def task_state(
    request: Request, key: Listener, task_id: Annotated[str, Path(examples=[EXAMPLE_TASK])]
) -> TaskDocument:
    """200 for every known task, whatever its state; 404 when it is not known (any more)."""
    wiring = wiring_of(request)
    row = await readable_task(wiring, key, task_id)
    document = task_document(row)
    if row.state == "pending":
        async with wiring.reading():
            before = await before_in_line(wiring.redis, wiring.keys, {row.id: row.flow})
        if row.id in before:
            document.line = LineDocument(key=before[row.id][0], before=before[row.id][1])
    if document.waits_for and key.may_publish(str(row.event.get("type", ""))):
        async with wiring.reading():
            document.waits_for.approval_url = await wiring.approvals.address(row)
    return document
