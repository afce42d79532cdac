"""`/v1/tasks/{id}/cancel`: what has not begun never starts, what runs is stopped."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from streammesh import lua
from streammesh.tasks.settlement import cancel_call
from streammesh.tasks.task import LedgerAnswer

from services.api.audit_trail import AuditedRoute
from services.api.caller import Caller
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import EXAMPLE_TASK, Answer, SelfLink
from services.api.state import wiring_of
from services.api.task_rights import task_to_act_on

router = APIRouter(tags=["tasks"], route_class=AuditedRoute)
_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_TASK,
    "state": "cancelling",
    "detail": "Its worker was told to stop it; its notifications tell when it has ended.",
    "links": {"self": f"/v1/tasks/{EXAMPLE_TASK}"},
}


class CancelledTask(Answer):
    """`cancelled`: it has ended. `cancelling`: its worker was told, and it will end, most often within a second."""

    id: str
    state: Literal["cancelled", "cancelling"]
    detail: str
    links: SelfLink


@router.post(
    "/v1/tasks/{task_id}/cancel",
    summary="Cancel a task",
    status_code=202,
    responses=answers(*("task-ended", "forbidden", *READ), _202=told("Accepted.", _EXAMPLE)),
)
async def cancel_task(
    request: Request, key: Caller, task_id: Annotated[str, Path(examples=[EXAMPLE_TASK])]
) -> CancelledTask:
    """Whoever may publish an event's type may cancel its tasks.

    A queued task, one that waits for its next attempt and one of a paused subscription end at once and never
    start. Of a workflow the parts that did not begin do not run. A handler that runs is stopped: an `async def`
    one at its next `await`, a `def` one with its worker process. One that ends by itself before that has
    ended as it did, so look at the task's state or its notifications.
    """
    wiring = wiring_of(request)
    async with wiring.reading():
        row = await task_to_act_on(wiring, key, task_id, "cancel it")
        done = await lua.run(wiring.redis, cancel_call(wiring.keys, wiring.mesh, row))
    if done.answer in (LedgerAnswer.ENDED, LedgerAnswer.GONE):
        how = f"ended before: {done.state}" if done.state else "ended, and its record was dropped"
        raise Problem("task-ended", f"The task has {how}.", members={"state": done.state or None})
    ended = done.answer is LedgerAnswer.DONE
    return CancelledTask(
        id=row.id,
        state="cancelled" if ended else "cancelling",
        detail="It has ended." if ended else str(_EXAMPLE["detail"]),
        links=SelfLink(self=f"/v1/tasks/{row.id}"),
    )
