"""`/v1/backfills`: the past for a service that comes late."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from starlette.responses import Response
from streammesh import names
from streammesh.backfill.forecast import PAGE, Forecast, forecast, not_encoded
from streammesh.backfill.page_plan import PagePlanner, SoughtDeliveries
from streammesh.backfill.parts import BackfillParts
from streammesh.backfill.past import Archive, HistoryAway, Past
from streammesh.backfill.record import Backfill, BackfillRunning, Backfills, UnknownService
from streammesh.clock import rfc3339_ms, to_ms
from streammesh.subscriptions.manifest import Routes
from streammesh.subscriptions.registry import read_registered

from services.api.audit_trail import AuditedRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.json_answer import in_turns
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem, unavailable
from services.api.read_limit import ReadLimit
from services.api.schemas import EXAMPLE_ID, Answer
from services.api.state import Wiring, wirings_of

router = APIRouter(tags=["backfills"], route_class=AuditedRoute)
BODY_LIMIT = 16_384
COUNTING_SECONDS = 30.0  # of a dry run, at most; it stops by itself long before
_COUNTING = ReadLimit(COUNTING_SECONDS, 2)
_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "service": "audit_worker",
    "type": "order.*",
    "since": "2026-11-01T00:00:00.000Z",
    "until": "2026-11-22T06:00:00.000Z",
    "rate": 50.0,
    "by": "ops",
    "state": "running",
    "created": "2026-11-22T06:00:00.000Z",
    "ended": None,
    "reason": "",
    "waits": "",
    "progress": 0.42,
    "at": "2026-11-09T21:40:12.004Z",
    "events": 41_200,
    "tasks": 41_000,
    "known": 180,
    "live": 0,
    "left_out": 20,
    "task": "*",
    "states": [],
}
_FORECAST: dict[str, Any] = {
    "dry_run": True,
    "events": 98_000,
    "tasks": 97_400,
    "known": 600,
    "left_out": 0,
    "more": False,
    "seconds": 1948.0,
}
Id = Annotated[str, Path(max_length=64, description="The backfill's id.")]


class BackfillRequest(BaseModel):
    """SoughtDeliveries events, for whom, and how fast."""

    model_config = ConfigDict(extra="forbid")

    service: str = Field(max_length=63, description="The service whose subscriptions are given them.")
    type: str = Field("*", min_length=1, max_length=256, description="Glob over the events' types.")
    since: AwareDatetime = Field(description="Events from then on.")
    until: AwareDatetime | None = Field(None, description="Up to then, not included; up to now if not said.")
    rate: float | None = Field(
        None, ge=0.001, le=1_000_000, allow_inf_nan=False, description="Tasks a second at most."
    )
    dry_run: bool = Field(False, description="Only count what would be done.")

    @field_validator("type")
    @classmethod
    def _a_type(cls, value: str) -> str:
        if not names.is_type(value):
            raise ValueError("should be an event type, or a glob such as order.*")
        return value


class ReplayRequest(BackfillRequest):
    """SoughtDeliveries ended tasks begin anew, and how fast. Times are those of their events."""

    task: str = Field("*", min_length=1, max_length=256, description="Glob over the handlers' names.")
    states: list[Literal["failed", "cancelled", "expired", "succeeded"]] = Field(
        ["failed", "cancelled", "expired"],
        min_length=1,
        max_length=4,
        description="How they ended; those that succeeded only where this says so.",
    )


class BackfillDocument(Answer):
    """One backfill or replay, and how far it is. `states`: of a replay, those of the tasks that begin anew.

    `tasks` were handed over; `known` deliveries had run or waited already; `live` events were left to the service's live way;
    of `left_out` events nothing says what ran, or they cannot be read. `at`: up to when it has come; `waits`: what for.
    """

    id: str
    service: str
    type: str
    since: str
    until: str
    rate: float | None
    by: str
    state: Literal["running", "done", "stopped"]
    created: str
    ended: str | None
    reason: str
    waits: str
    progress: float
    at: str
    events: int
    tasks: int
    known: int
    live: int
    left_out: int
    task: str
    states: list[str]


class BackfillForecast(Answer):
    """What a backfill would do, nothing being done.

    `more`: there is more than was counted. `seconds`: how long it would take by its rate.
    """

    dry_run: Literal[True]
    events: int
    tasks: int
    known: int
    left_out: int
    more: bool
    seconds: float


class BackfillList(Answer):
    """Those that run, and the last ones, the newest first."""

    backfills: list[BackfillDocument]


_WANTED = JsonBody(
    BackfillRequest,
    "SoughtDeliveries events, for whom, and how fast.",
    {
        "late": {
            "value": {
                "service": "audit_worker",
                "type": "order.*",
                "since": "2026-11-01T00:00:00Z",
                "rate": 50,
            }
        },
        "count": {"value": {"service": "audit_worker", "since": "2026-11-01T00:00:00Z", "dry_run": True}},
    },
    BODY_LIMIT,
)


_AGAIN = JsonBody(
    ReplayRequest,
    "SoughtDeliveries tasks, and how fast.",
    {
        "failed": {
            "value": {
                "service": "audit_worker",
                "states": ["failed"],
                "since": "2026-11-21T00:00:00Z",
                "rate": 10,
            }
        },
        "count": {"value": {"service": "audit_worker", "since": "2026-11-21T00:00:00Z", "dry_run": True}},
    },
    BODY_LIMIT,
)


@router.post(
    "/v1/backfills",
    summary="Give a service its past",
    status_code=202,
    response_model=BackfillDocument | BackfillForecast,
    responses=answers(
        *("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type"),
        *("backfill-running", *READ),
        _202=told("Begun, or with `dry_run` what would be.", _EXAMPLE),
    ),
    openapi_extra=_WANTED.openapi,
)
async def begin_backfill(request: Request, key: Caller) -> BackfillDocument | BackfillForecast:
    """Needs an admin key. Kept events become tasks of the service as if it had subscribed then, each once.

    The dispatcher does it, beside what comes live. A service has one backfill at a time: 409 where another one runs.
    """
    must_be_admin(key)
    return await _begin(wirings_of(request), key.name, await _WANTED(request))


@router.post(
    "/v1/replays",
    summary="Run ended tasks again",
    status_code=202,
    response_model=BackfillDocument | BackfillForecast,
    responses=answers(
        *("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type"),
        *("backfill-running", *READ),
        _202=told(
            "Begun, or with `dry_run` what would be.",
            {**_EXAMPLE, "states": ["failed", "cancelled", "expired"]},
        ),
    ),
    openapi_extra=_AGAIN.openapi,
)
async def begin_replay(request: Request, key: Caller) -> BackfillDocument | BackfillForecast:
    """Needs an admin key. Tasks of a service that ended so begin anew, with their first attempt, each once.

    It is looked at and stopped as a backfill is, under `/v1/backfills`, and a service has one of either at a time.
    """
    must_be_admin(key)
    wanted = await _AGAIN(request)
    return await _begin(
        wirings_of(request), key.name, wanted, wanted.task, tuple(dict.fromkeys(wanted.states))
    )


async def _begin(
    wirings: Sequence[Wiring], by: str, wanted: BackfillRequest, task: str = "*", again: tuple[str, ...] = ()
) -> BackfillDocument | BackfillForecast:
    if wanted.until is not None and wanted.until <= wanted.since:
        raise Problem("invalid-request", "until: should be after `since`.", [_pointer("until")])
    since, until = to_ms(wanted.since), to_ms(wanted.until) if wanted.until else None
    if not 0 < since < 10**14 or (until is not None and until >= 10**14):
        raise Problem("invalid-request", "since: should be a time of this age.", [_pointer("since")])
    try:
        if wanted.dry_run:
            async with _COUNTING():
                which = SoughtDeliveries(wanted.service, wanted.type, task, again)
                each = [await _counted(wiring, wanted, which, since, until) for wiring in wirings]
                counted = reduce(Forecast.__add__, each)
            seconds = counted.tasks / wanted.rate if wanted.rate else 0.0
            return BackfillForecast(
                dry_run=True,
                events=counted.events,
                tasks=counted.tasks,
                known=counted.known,
                left_out=counted.left_out,
                more=counted.more,
                seconds=round(seconds, 3),
            )
        async with wirings[0].reading():
            begun = await _backfills(wirings).begin(
                wanted.service, wanted.type, since, until, wanted.rate, by, again=again, task=task
            )
    except UnknownService as error:
        raise Problem("not-found", f"{error}; GET /v1/services lists them.") from None
    except BackfillRunning as error:
        detail = f"{error}. Wait for its end, or DELETE /v1/backfills/{error.running}."
        raise Problem("backfill-running", detail) from None
    except HistoryAway as error:
        raise unavailable(f"{error}. Nothing was changed; send the same request again.") from None
    return document(begun)


@router.get(
    "/v1/backfills",
    summary="Backfills, the newest first",
    response_model=BackfillList,
    responses=answers(*READ, _200=told("All that are known.", {"backfills": [_EXAMPLE]})),
)
async def backfills(request: Request, key: Caller) -> Response:
    """Needs an admin key. They are listed for 30 days after their end, the last 200."""
    must_be_admin(key)
    wirings = wirings_of(request)
    async with wirings[0].reading():
        found = await _backfills(wirings).newest()
    return await in_turns(BackfillList(backfills=[document(one) for one in found]))


@router.get(
    "/v1/backfills/{backfill_id}",
    summary="One backfill, and how far it is",
    responses=answers(*READ, _200=told("As it is now.", _EXAMPLE)),
)
async def backfill(request: Request, key: Caller, backfill_id: Id) -> BackfillDocument:
    """Needs an admin key."""
    must_be_admin(key)
    return document(await _found(wirings_of(request), backfill_id))


@router.delete(
    "/v1/backfills/{backfill_id}",
    summary="Stop a backfill",
    responses=answers(*READ, _200=told("As it is now.", {**_EXAMPLE, "state": "stopped"})),
)
async def stop_backfill(request: Request, key: Caller, backfill_id: Id) -> BackfillDocument:
    """Needs an admin key. What it handed over stays. One that has ended stays as it is."""
    must_be_admin(key)
    wirings = wirings_of(request)
    found = await _found(wirings, backfill_id)
    async with wirings[0].reading():
        await _backfills(wirings).stop(backfill_id, found.service, f"stopped by {key.name}")
    return document(await _found(wirings, backfill_id))


async def _counted(
    wiring: Wiring, wanted: BackfillRequest, which: SoughtDeliveries, since: int, until: int | None
) -> Forecast:
    registered = await read_registered(wiring.redis, wiring.keys)
    routes = Routes(registered.manifests, registered.version, registered.joined)
    if wanted.service not in routes.services:
        raise UnknownService(f"there is no service {wanted.service!r}; its worker has to have registered")
    if until is None:
        seconds, micros = await wiring.redis.time()
        until = seconds * 1000 + micros // 1000 + 1
    archive = Archive(wiring.mesh.history_url) if wiring.mesh.history_url else None
    try:
        past = Past(wiring.redis, wiring.keys, archive, wanted.type, until, PAGE)
        planner = PagePlanner(wiring.redis, wiring.keys, wiring.mesh, not_encoded)
        return await forecast(past, planner, routes, which, since)
    finally:
        if archive is not None:
            archive.close()


async def _found(wirings: Sequence[Wiring], backfill_id: str) -> Backfill:
    async with wirings[0].reading():
        found = await _backfills(wirings).get(backfill_id)
    if found is None:
        raise Problem(
            "not-found", f"There is no backfill {backfill_id[:64]!r}; GET /v1/backfills lists them."
        )
    return found


def document(found: Backfill) -> BackfillDocument:
    """A backfill as it is shown."""
    return BackfillDocument(
        id=found.id,
        service=found.service,
        type=found.pattern,
        since=rfc3339_ms(found.since),
        until=rfc3339_ms(found.before),
        rate=found.rate,
        by=found.by,
        state=found.state.value,
        created=rfc3339_ms(found.created),
        ended=None if found.ended is None else rfc3339_ms(found.ended),
        reason=found.reason,
        waits=found.waits,
        progress=round(found.fraction, 4),
        at=rfc3339_ms(min(found.before, max(found.since, found.position.at))),
        events=found.events,
        tasks=found.tasks,
        known=found.known,
        live=found.live,
        left_out=found.left_out,
        task=found.task,
        states=list(found.again),
    )


def _backfills(wirings: Sequence[Wiring]) -> BackfillParts:
    return BackfillParts([Backfills(wiring.redis, wiring.keys) for wiring in wirings])


def _pointer(name: str) -> dict[str, str]:
    return {"pointer": f"/{name}", "detail": "is not a time that makes sense here"}
