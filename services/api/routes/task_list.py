"""`GET /v1/tasks`: which tasks there are, by service, state, worker; newest or oldest first."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from streammesh import names
from streammesh.history.queries import TaskSearch
from streammesh.names import TYPE_LENGTH
from streammesh.notifications import position_key
from streammesh.subscriptions.registry import read_manifests
from streammesh.tasks.records import TaskRow

from services.api.caller import Caller
from services.api.cursors import LONGEST_CURSOR, wrong_cursor
from services.api.documents import EXAMPLE_TASK_DOCUMENT, HISTORY_AWAY, TaskDocument, task_document
from services.api.json_answer import in_turns
from services.api.merged_pages import is_away, is_hot, merged_tasks, past_tasks
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import wiring_of
from services.api.task_pages import MOST, TaskPages

router = APIRouter(tags=["tasks"])
AskedState = Literal[
    "open",
    "ended",
    "pending",
    "queued",
    "started",
    "retrying",
    "waiting",
    "held",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "skipped",
    "folded",
]
_Word = Query(min_length=1, max_length=256)


class TaskList(Answer):
    """Tasks in the order that was asked for; `next` is the cursor of the next page, null at the end."""

    tasks: list[TaskDocument]
    next: str | None
    history_away: bool = HISTORY_AWAY


@router.get(
    "/v1/tasks",
    summary="Tasks, newest or oldest first",
    response_model=TaskList,
    responses=answers(
        *READ, _200=told("A page.", {"tasks": [EXAMPLE_TASK_DOCUMENT], "next": None, "history_away": False})
    ),
)
async def task_list(
    request: Request,
    key: Caller,
    state: Annotated[AskedState, Query(description="`open`: it has not ended. `ended`: it has.")] = "open",
    service: Annotated[str | None, _Word] = None,
    name: Annotated[str | None, Query(max_length=256, description="Glob over the task's name.")] = None,
    type: Annotated[
        str | None, Query(max_length=TYPE_LENGTH, description="Glob over the event's type.")
    ] = None,
    worker: Annotated[str | None, Query(max_length=256, description="Exactly this worker.")] = None,
    order: Annotated[
        Literal["newest", "oldest"], Query(description="`oldest`: the oldest first, of open tasks only.")
    ] = "newest",
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> Response:
    """Those of events that your key may read: open ones by when they were handed over, ended ones by when they did.

    A page may be short, or empty, and still have a `next`, where few of many fit.
    """
    wiring = wiring_of(request)
    ended = state == "ended" or state in names.ENDED
    oldest_first = order == "oldest"
    if ended and oldest_first:
        raise _not_of_ended()
    kind = "ended tasks" if ended else "oldest open tasks" if oldest_first else "open tasks"

    def wanted(row: TaskRow) -> bool:
        event_type = str(row.event.get("type", ""))
        return (
            key.may_subscribe(event_type)
            and (state in ("open", "ended") or row.state == state)
            and (service is None or row.service == service)
            and (name is None or names.matches(name, row.name))
            and (type is None or names.matches(type, event_type))
            and (worker is None or row.worker == worker)
        )

    if not key.may_subscribe_to_any:
        return await in_turns(TaskList(tasks=[], next=None))
    async with wiring.reading():
        place = await wiring.cursors.open(kind, cursor)
        pages = TaskPages(wiring.redis, wiring.keys, wiring.rows)
        try:
            if ended:
                page = await pages.ended(wanted, limit, place)
                if wiring.history and not (
                    page.next and is_hot(position_key(page.next), wiring.mesh.hot_kept)
                ):
                    states = [state] if state in names.ENDED else sorted(names.ENDED)
                    search = TaskSearch(states, service, name or "*", type or "*", worker)
                    past, past_after = await past_tasks(wiring.history, search, wanted, limit, place)
                    page = merged_tasks(page, past, past_after, limit)
            else:
                known = [manifest.service for manifest in await read_manifests(wiring.redis, wiring.keys)]
                asked = [service] if service else known
                page = await pages.open(asked, wanted, limit, place, oldest_first=oldest_first)
        except ValueError:
            raise wrong_cursor() from None
        following = await wiring.cursors.seal(kind, page.next)
    return await in_turns(
        TaskList(
            tasks=[task_document(row) for row in page.tasks],
            next=following,
            history_away=ended and is_away(wiring.history),
        )
    )


def _not_of_ended() -> Problem:
    detail = "ended tasks are told newest first; ask for open ones"
    return Problem(
        "invalid-request", f"order: {detail}", [{"parameter": "order", "in": "query", "detail": detail}]
    )
