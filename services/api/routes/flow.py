"""`/v1/subscriptions/{task}/keys`: what waits for its turn; `PATCH /v1/subscriptions/{task}`: other limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from streammesh import lua
from streammesh.api_keys import ApiKey
from streammesh.clock import rfc3339_ms
from streammesh.flow.limits import Flow, flow_problems
from streammesh.lines.state import FlowStanding, keys_call, read_standings, set_call
from streammesh.subscriptions.manifest import Subscription
from streammesh.subscriptions.registry import read_manifests

from services.api.audit_trail import AuditedRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.cursors import wrong_cursor
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.routes.subscriptions import BODY_LIMIT, Task
from services.api.schemas import Answer
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["subscriptions"], route_class=AuditedRoute)
MOST_KEYS = 200
_LIMITS: dict[str, Any] = {
    "key": "data.tenant", "concurrency": 2, "total": 50, "fair": True, "order": False,
    "throttle": None, "drop": None, "singleton": None, "debounce": None, "max_wait": None,
    "batch": None, "linger": None,
}  # fmt: skip
_EXAMPLE: dict[str, Any] = {
    "task": "report_worker.make", "waiting": 41, "running": 2, "skipped": 0, "folded": 0, "slow_keys": 0,
    "limits": _LIMITS, "set": {"concurrency": 5},
}  # fmt: skip
_KEY = {"key": "acme", "waiting": 41, "running": 2, "turn": 0, "starts_at": None}


class DeclaredLimits(Answer):
    """What a subscription's manifest declares."""

    key: str | None
    concurrency: int | None
    total: int | None
    fair: bool
    order: bool
    throttle: str | None
    drop: str | None
    singleton: str | None
    debounce: float | None = Field(description="In seconds, as max_wait and linger.")
    max_wait: float | None
    batch: int | None
    linger: float | None

    @classmethod
    def of(cls, flow: Flow) -> DeclaredLimits:
        """Those of a manifest."""
        return cls(**{name: getattr(flow, name) for name in cls.model_fields})


class FlowDocument(Answer):
    """How a subscription with limits stands. `set`: limits that an operator put in place of the declared ones."""

    task: str
    waiting: int = Field(description="Tasks in line.")
    running: int = Field(description="Tasks that have a place: queued, or with a worker.")
    skipped: int = Field(description="Tasks that ended as skipped since its limits are there.")
    folded: int = Field(description="Tasks that a run of their key took with it since then.")
    slow_keys: int = Field(description="Keys that wait for a time: of their rate, or of their quiet period.")
    limits: DeclaredLimits | None = Field(description="Null where its manifest declares none any more.")
    set: dict[str, int | str]


class KeyDocument(Answer):
    """One key. `turn`: 0 is the next to start; null where none of it could start now."""

    key: str
    waiting: int
    running: int
    turn: int | None
    starts_at: str | None = Field(
        description="When the next may start, by its rate, or when its quiet period ends."
    )


class KeyList(FlowDocument):
    """A subscription, and its keys: those of which tasks wait, then those of which tasks only run."""

    keys: list[KeyDocument]
    next: str | None


class LimitChange(BaseModel):
    """Limits to put in place of the declared ones; null takes one back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    concurrency: int | None = None
    total: int | None = None
    throttle: str | None = Field(None, max_length=40, examples=["100/m"])
    drop: str | None = Field(None, max_length=40, examples=["5/h"])


_CHANGE = JsonBody(
    LimitChange,
    "Which limits; what is not named stays as it is.",
    {"more": {"value": {"concurrency": 5}}, "back": {"value": {"concurrency": None}}},
    BODY_LIMIT,
)


@router.get(
    "/v1/subscriptions/{task}/keys",
    summary="What waits for its turn, key by key",
    responses=answers(*READ, _200=told("Its keys.", {**_EXAMPLE, "keys": [_KEY], "next": None})),
)
async def flow_keys(
    request: Request,
    key: Caller,
    task: Task,
    limit: Annotated[int, Query(ge=1, le=MOST_KEYS)] = 50,
    cursor: Annotated[str | None, Query(max_length=2_048, description="`next` of the page before.")] = None,
) -> KeyList:
    """Those of a subscription to types that your key may read. A page may be short and still have a `next`."""
    wiring = wiring_of(request)
    async with wiring.reading():
        wanted, standing = await _found(wiring, key, task)
        try:
            call = keys_call(wiring.keys, task, await wiring.cursors.open(f"keys {task}", cursor), limit)
        except ValueError:
            raise wrong_cursor() from None
        page = await lua.run(wiring.redis, call)
        after = await wiring.cursors.seal(f"keys {task}", page.next)
    shown = [
        KeyDocument(
            key=one.key,
            waiting=one.waiting,
            running=one.running,
            turn=one.turn,
            starts_at=None if one.starts_ms is None else rfc3339_ms(one.starts_ms),
        )
        for one in page.keys
    ]
    return KeyList(**_members(task, wanted, standing), keys=shown, next=after)


@router.patch(
    "/v1/subscriptions/{task}",
    summary="Set limits without a deployment",
    responses=answers(
        *("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type", *READ),
        _200=told("The subscription's limits now.", _EXAMPLE),
    ),
    openapi_extra=_CHANGE.openapi,
)
async def set_limits(request: Request, key: Caller, task: Task) -> FlowDocument:
    """Needs an admin key. Counts at once, for what waits too, and over restarts and deployments until it is taken back.

    Only of a subscription whose manifest declares limits: what was handed over without any is in no line.
    """
    must_be_admin(key)
    wanted = await _CHANGE(request)
    wiring = wiring_of(request)
    changes = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    async with wiring.reading():
        subscription, standing = await _found(wiring, key, task)
        if changes and (subscription is None or subscription.flow is None):
            if any(value is not None for value in changes.values()):
                raise _refused("its manifest declares no limits; say one in Service.on")
        elif subscription is not None and subscription.flow is not None:
            _must_fit(subscription.flow, {**(standing.set or {}), **changes}, changes)
        if changes:
            by_hand = await lua.run(wiring.redis, set_call(wiring.keys, task, changes))
            standing = replace(standing, set=by_hand)
    return FlowDocument(**_members(task, subscription, standing))


def _must_fit(flow: Flow, by_hand: dict[str, Any], changes: dict[str, Any]) -> None:
    """Raises Problem (422) where the limits make no sense together."""
    if changes.get("concurrency") is not None and (flow.order or flow.singleton):
        raise _refused("concurrency: with order or singleton one of a key runs at a time")
    for problem in flow_problems(
        replace(flow, **{name: value for name, value in by_hand.items() if value is not None})
    ):
        raise _refused(problem)


def _refused(detail: str) -> Problem:
    return Problem("invalid-request", detail, [{"pointer": "", "in": "body", "detail": detail}])


async def _found(wiring: Wiring, key: ApiKey, task: str) -> tuple[Subscription | None, FlowStanding]:
    """A subscription that the key may read, None where only its line is left. Raises Problem (404)."""
    manifests = await read_manifests(wiring.redis, wiring.keys)
    found = next((one for m in manifests for one in m.subscriptions if one.task == task), None)
    standing = (await read_standings(wiring.redis, wiring.keys, [task]))[task]
    is_left = key.may_subscribe_to_all and (standing.waiting or standing.running or standing.set)
    if (found is None and not is_left) or (found is not None and not key.may_subscribe(found.type)):
        raise Problem("not-found", f"There is no subscription {task!r}; GET /v1/subscriptions lists them.")
    return found, standing


def _members(task: str, wanted: Subscription | None, standing: FlowStanding) -> dict[str, Any]:
    flow = wanted.flow if wanted else None
    limits = None if flow is None else DeclaredLimits.of(flow)
    return {
        "task": task,
        "waiting": standing.waiting,
        "running": standing.running,
        "skipped": standing.skipped,
        "folded": standing.folded,
        "slow_keys": standing.slow,
        "limits": limits,
        "set": dict(standing.set or {}),
    }
