"""`/v1/subscriptions`: what each service wants; paused and resumed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from streammesh import lua
from streammesh.clock import rfc3339_ms
from streammesh.redisio.turns import Turns
from streammesh.subscriptions.manifest import Subscription
from streammesh.subscriptions.registry import read_manifests
from streammesh.tasks.pause import HeldTasks, Pause, pause_call, read_failures, read_paused

from services.api.audit_trail import AuditedRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.json_answer import in_turns
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["subscriptions"], route_class=AuditedRoute)
BODY_LIMIT = 16_384
_NAME = "email_worker.send_welcome"
_EXAMPLE: dict[str, Any] = {
    "task": _NAME,
    "service": "email_worker",
    "type": "user.registered",
    "where": {},
    "paused": {"since": "2026-11-22T06:00:00.091Z", "reason": "mail.example.com is away", "failures": 20},
    "held": 312,
    "failures": 0,
}
Task = Annotated[str, Path(max_length=256, examples=[_NAME], description="The subscription's task.")]


class Paused(Answer):
    """Since when, and why; `failures` dead letters in a row did it, 0 where a person did."""

    since: str
    reason: str
    failures: int


class SubscriptionState(Answer):
    """One subscription. `held`: its tasks that wait until it is resumed; `failures`: dead letters in a row.

    `type` is empty where its service does not subscribe any more, and something of it is still paused.
    """

    task: str
    service: str
    type: str
    where: dict[str, Any] | str = Field(description="Paths and conditions, or a text in CEL.")
    paused: Paused | None
    held: int
    failures: int


class SubscriptionList(Answer):
    """Every subscription, by service."""

    subscriptions: list[SubscriptionState]


class PauseRequest(BaseModel):
    """Why; it is shown to whoever wonders."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("paused by hand", min_length=1, max_length=500)


_STATE = told("The subscription now.", _EXAMPLE)
_WHY = JsonBody(
    PauseRequest, "Why.", {"moving": {"value": {"reason": "the mail server moves house"}}}, BODY_LIMIT
)


@router.get(
    "/v1/subscriptions",
    summary="What each service wants, and what is paused",
    response_model=SubscriptionList,
    responses=answers(*READ, _200=told("All.", {"subscriptions": [_EXAMPLE]})),
)
async def subscriptions(
    request: Request,
    key: Caller,
    paused: Annotated[bool | None, Query(description="Only those that are paused, or are not.")] = None,
) -> Response:
    """Those to types that your key may read."""
    wiring = wiring_of(request)
    async with wiring.reading():
        found = await _states(wiring)
    shown = [
        state
        for state in found
        if key.may_subscribe(state.type) and (paused is None or bool(state.paused) == paused)
    ]
    return await in_turns(SubscriptionList(subscriptions=shown))


@router.post(
    "/v1/subscriptions/{task}/pause",
    summary="Pause a subscription",
    responses=answers(
        *("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type", *READ),
        _200=_STATE,
    ),
    openapi_extra=_WHY.openapi,
)
async def pause(request: Request, key: Caller, task: Task) -> SubscriptionState:
    """Needs an admin key. What runs runs on; what has not begun is set aside until it is resumed."""
    must_be_admin(key)
    wanted = await _WHY(request)
    return await _change(wiring_of(request), task, wanted.reason)


@router.post(
    "/v1/subscriptions/{task}/resume",
    summary="Resume a subscription",
    responses=answers("forbidden", *READ, _200=_STATE),
)
async def resume(request: Request, key: Caller, task: Task) -> SubscriptionState:
    """Needs an admin key. Its failures are counted anew, and what was set aside is queued as there is room."""
    must_be_admin(key)
    return await _change(wiring_of(request), task, None)


async def _change(wiring: Wiring, task: str, reason: str | None) -> SubscriptionState:
    async with wiring.reading():
        known = {state.task: state for state in await _states(wiring)}
        if task not in known:
            raise Problem(
                "not-found", f"There is no subscription {task!r}; GET /v1/subscriptions lists them."
            )
        call = pause_call(wiring.keys, wiring.mesh, task, known[task].type, reason)
        await lua.run(wiring.redis, call)
        now = {state.task: state for state in await _states(wiring)}
    # One that left its manifest is on the list only while something of it is paused or waits.
    return now.get(task) or known[task].model_copy(update={"paused": None})


async def _states(wiring: Wiring) -> list[SubscriptionState]:
    manifests = await read_manifests(wiring.redis, wiring.keys)
    paused = await read_paused(wiring.redis, wiring.keys)
    held = await HeldTasks(wiring.redis, wiring.keys, wiring.mesh).waiting()
    failures = await read_failures(wiring.redis, wiring.keys)
    known = [one for manifest in manifests for one in manifest.subscriptions]
    gone = sorted(
        {*paused, *held} - {one.task for one in known}
    )  # their services want nothing of it any more
    known += [Subscription(name.partition(".")[0], name, "") for name in gone]
    turns, states = Turns(), []
    for one in known:
        states.append(_state(one, paused.get(one.task), held.get(one.task, 0), failures.get(one.task, 0)))
        await turns.give()
    return states


def _state(subscription: Subscription, pause: Pause | None, held: int, failures: int) -> SubscriptionState:
    return SubscriptionState(
        task=subscription.task,
        service=subscription.service,
        type=subscription.type,
        where=subscription.where if isinstance(subscription.where, str) else dict(subscription.where),
        paused=pause
        and Paused(since=rfc3339_ms(pause.since_ms), reason=pause.reason, failures=pause.failures),
        held=held,
        failures=failures,
    )
