"""`/v1/audit`: what operators did."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field
from streammesh.audit import read_actions
from streammesh.clock import to_ms
from streammesh.notifications import position_key

from services.api.caller import Caller
from services.api.cursors import LONGEST_CURSOR
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer, readable
from services.api.state import wiring_of

router = APIRouter(tags=["audit"])
MOST = 500
_EXAMPLE: dict[str, Any] = {
    "id": "1763790000004-0",
    "at": "2026-11-22T06:00:00.004Z",
    "actor": "on-call",
    "action": "replay",
    "about": "",
    "request_id": "6d0b59b2a7f3c1e8",
    "said": {"filter": {"service": "email_worker"}},
    "status": 202,
    "answer": {"matched": 120, "replayed": 120},
}


class OperatorAction(Answer):
    """One action. `status` is null while it goes on, or where its process ended in its midst."""

    id: str
    at: str
    actor: str = Field(description="Name of the API key.")
    action: str
    about: str = Field(description="What it was done to.")
    request_id: str
    said: Any = Field(description="The request's body, or its beginning.")
    status: int | None
    answer: Any = Field(description="What was answered, or its beginning.")


class ActionList(Answer):
    """Actions, newest first; `next` is the cursor of the next page, null at the end."""

    actions: list[OperatorAction]
    next: str | None


@router.get(
    "/v1/audit",
    summary="What operators did, newest first",
    responses=answers("forbidden", *READ, _200=told("A page.", {"actions": [_EXAMPLE], "next": None})),
)
async def audit(
    request: Request,
    key: Caller,
    actor: Annotated[str | None, Query(max_length=64, description="Name of an API key.")] = None,
    action: Annotated[str | None, Query(max_length=64)] = None,
    about: Annotated[
        str | None, Query(max_length=512, description="What it was done to: the name of a schedule, a task.")
    ] = None,
    since: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> ActionList:
    """Needs an admin key. The last 10,000 or so are kept. A page may be short, and still have a `next`."""
    if not key.admin:
        raise Problem("forbidden", f"The key {key.name!r} is no admin key.")
    wiring = wiring_of(request)
    async with wiring.reading():
        before = await wiring.cursors.open("audit", cursor)
        if before is not None:
            position_key(before)
        since_ms = max(0, to_ms(since)) if since else 0
        page = await read_actions(wiring.redis, wiring.keys, before=before, since_ms=since_ms, limit=limit)
        following = await wiring.cursors.seal("audit", page.next)
    fitting = [
        readable(OperatorAction, one.document())
        for one in page.actions
        if (actor is None or one.action.actor == actor)
        and (action is None or one.action.action == action)
        and (about is None or one.action.about == about)
    ]
    return ActionList(actions=[one for one in fitting if one is not None], next=following)
