"""`/v1/schedules`: what is published at set times; changed, switched off and on, and run now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from streammesh import lua
from streammesh.api_keys import ApiKey
from streammesh.clock import rfc3339_ms, to_ms
from streammesh.errors import InvalidSchedule
from streammesh.events.envelope import Event
from streammesh.events.publisher import Publisher
from streammesh.redisio.answers import only, there
from streammesh.redisio.turns import Turns
from streammesh.schedules import (
    Change,
    ScheduleEntry,
    Stored,
    from_json,
    plan_change,
    tick_event,
)
from streammesh.schedules.store import read_call, store_call
from streammesh.shards import PARTITION_KEY, shard_of_event

from services.api import problems, request_body
from services.api.audit_trail import AuditedRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.cursors import LONGEST_CURSOR
from services.api.openapi import READ, answers, body, schema_of, told
from services.api.problems import Problem
from services.api.publish_endpoint import accepted
from services.api.schedule_documents import (
    EXAMPLE,
    NAME,
    ScheduleList,
    ScheduleRequest,
    ScheduleState,
    document,
    type_of,
    wanted,
)
from services.api.schemas import EXAMPLE_ACCEPTED, Accepted
from services.api.state import Wiring, wiring_of, wirings_of

router = APIRouter(tags=["schedules"], route_class=AuditedRoute)
BODY_LIMIT = 131_072
READ_AT_ONCE = 500  # schedules
TRIES = 5  # of a change, while somebody else changes the same schedule
SOURCE = "scheduler"
_BODIES = ("malformed-body", "too-slow", "body-too-large", "unsupported-media-type")
_STATE = told("The schedule now.", EXAMPLE)
_REQUEST = {
    "cron": "0 9 * * MON",
    "timezone": "Europe/Berlin",
    "event": {"type": "report.requested", "data": {}},
}
Name = Annotated[str, Path(max_length=64, pattern=NAME, examples=["daily-operations-report"])]


class TriggerRequest(BaseModel):
    """Which tick: that of this moment, if none is named."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime | None = Field(
        None, description="Due time that the tick says; not after now. The same one is published once."
    )


@router.get(
    "/v1/schedules",
    summary="Schedules, with their next ticks",
    responses=answers(*READ, _200=told("A page.", {"schedules": [EXAMPLE], "next": None})),
)
async def schedules(
    request: Request,
    key: Caller,
    limit: Annotated[int | None, Query(ge=1, le=READ_AT_ONCE, description="Without it all come.")] = None,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> ScheduleList:
    """By name, those whose events your key may read; broken ones are shown to a key that may read everything.

    A page may be short, and still have a `next`.
    """
    wiring = wiring_of(request)
    async with wiring.reading():
        after = await wiring.cursors.open("schedules", cursor)
        known = await _names(wiring, bytes.fromhex(after or ""))
        page = known if limit is None else known[:limit]
        following = await wiring.cursors.seal("schedules", page[-1].hex() if len(page) < len(known) else None)
    stored = (await _read(wiring, *page))[1] if page else {}
    turns, shown = Turns(), []
    for name in sorted(stored):
        if _may_see(key, stored[name]):
            shown.append(document(name, stored[name]))
            await turns.give()
    return ScheduleList(schedules=shown, next=following)


@router.get(
    "/v1/schedules/{name}",
    summary="One schedule",
    responses=answers(*READ, _200=_STATE),
)
async def schedule(request: Request, key: Caller, name: Name) -> ScheduleState:
    """When it is due, what it publishes, and its next ticks."""
    _, stored = await _read(wiring_of(request), name)
    found = stored.get(name)
    if found is None or not _may_see(key, found):
        raise _unknown(name)
    return document(name, found)


@router.put(
    "/v1/schedules/{name}",
    summary="Store a schedule",
    responses=answers("forbidden", "schedule-changed", *_BODIES, *READ, _200=_STATE),
    openapi_extra=body(
        "The whole schedule.",
        {"application/json": {"schema": schema_of(ScheduleRequest), "example": _REQUEST}},
    ),
)
async def put_schedule(request: Request, key: Caller, name: Name) -> ScheduleState:
    """Needs an admin key. One that is new, or due at other times, begins with its next due time.

    One that came from the scheduler's file does not follow the file any more, until it is deleted here.
    """
    must_be_admin(key)
    raw = await request_body.read_json(request.scope, request.receive, BODY_LIMIT)
    entry = wanted(name, raw)
    return await _change(wiring_of(request), name, lambda _: entry)


@router.delete(
    "/v1/schedules/{name}",
    summary="Delete a schedule",
    responses=answers("forbidden", "schedule-of-file", "schedule-changed", *READ, _200=_STATE),
)
async def delete_schedule(request: Request, key: Caller, name: Name) -> ScheduleState:
    """Needs an admin key. One that the scheduler's file has too comes back as the file has it."""
    must_be_admin(key)
    wiring = wiring_of(request)
    for _ in range(TRIES):
        _, stored = await _read(wiring, name)
        found = stored.get(name)
        if found is None:
            raise _unknown(name)
        if _origin(found) == "file":
            raise Problem("schedule-of-file", f"{name} comes from the scheduler's file, and would come back.")
        if await _store(wiring, Change(name, found.raw, b"", "none")):
            return document(name, found).model_copy(update={"next": []})
    raise _changed(name)


@router.post(
    "/v1/schedules/{name}/enable",
    summary="Switch a schedule on",
    responses=answers("forbidden", "schedule-changed", *READ, _200=_STATE),
)
async def enable_schedule(request: Request, key: Caller, name: Name) -> ScheduleState:
    """Needs an admin key. It begins with its next due time; what it missed is not made up for."""
    must_be_admin(key)
    return await _change(wiring_of(request), name, lambda entry: _switched(name, entry, True))


@router.post(
    "/v1/schedules/{name}/disable",
    summary="Switch a schedule off",
    responses=answers("forbidden", "schedule-changed", *READ, _200=_STATE),
)
async def disable_schedule(request: Request, key: Caller, name: Name) -> ScheduleState:
    """Needs an admin key. One from the scheduler's file stays off, whatever the file says, until it is deleted here."""
    must_be_admin(key)
    return await _change(wiring_of(request), name, lambda entry: _switched(name, entry, False))


@router.post(
    "/v1/schedules/{name}/trigger",
    summary="Publish a schedule's tick now",
    status_code=202,
    responses=answers(
        *("forbidden", "event-conflict", "schedule-broken", *_BODIES, *READ),
        _202=told("Stored; follow `links`.", EXAMPLE_ACCEPTED),
    ),
    openapi_extra={
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": schema_of(TriggerRequest),
                    "example": {"at": "2026-11-22T06:00:00Z"},
                }
            },
        }
    },
)
async def trigger_schedule(request: Request, key: Caller, name: Name) -> Accepted:
    """Needs an admin key. The schedule itself stays where it stands, and may be switched off."""
    must_be_admin(key)
    wiring = wiring_of(request)
    chosen = await _triggered(request)
    now, stored = await _read(wiring, name)
    found = stored.get(name)
    if found is None:
        raise _unknown(name)
    due = to_ms(chosen.at) if chosen.at else now
    if not 0 <= due <= now:
        detail = f"should not be after now, which is {rfc3339_ms(now)}"
        raise Problem("invalid-request", f"at {detail}", [{"pointer": "/at", "detail": detail}])
    try:
        tick = tick_event(from_json(found.raw), due)
    except InvalidSchedule as error:
        raise Problem("schedule-broken", f"{name}: {error}") from None
    there = wirings_of(request)[_shard_of(tick, len(wirings_of(request)))]
    publisher = Publisher(there.redis, there.keys, there.mesh, SOURCE)
    async with there.reading():
        [published] = await publisher.publish_events([tick])
    return accepted(published)


def _shard_of(tick: Event, shards: int) -> int:
    """Where Beat has it stored: in the shard of its partition key, else in the first one, where the schedule is."""
    return shard_of_event(tick, shards) if PARTITION_KEY in tick.extensions else 0


async def _triggered(request: Request) -> TriggerRequest:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return TriggerRequest()
    raw = await request_body.read_json(request.scope, request.receive, BODY_LIMIT)
    try:
        return TriggerRequest.model_validate(raw)
    except ValidationError as error:
        raise problems.of_validation(error) from None


async def _change(
    wiring: Wiring, name: str, changed: Callable[[ScheduleEntry | None], ScheduleEntry]
) -> ScheduleState:
    """Store what a schedule becomes. Raises Problem (404, 409)."""
    for _ in range(TRIES):
        now, stored = await _read(wiring, name)
        found = stored.get(name)
        change = plan_change(changed(_entry(name, found)), found, now)
        if change is None or await _store(wiring, change):
            _, stored = await _read(wiring, name)
            if name in stored:
                return document(name, stored[name])
    raise _changed(name)


def _switched(name: str, entry: ScheduleEntry | None, enabled: bool) -> ScheduleEntry:
    if entry is None:
        raise _unknown(name)
    if entry.enabled is enabled:
        return entry
    return entry.model_copy(update={"enabled": enabled, "origin": "api"})


def _entry(name: str, stored: Stored | None) -> ScheduleEntry | None:
    """What is stored; None where nothing is, or what is no schedule, which may be written over."""
    if stored is None:
        return None
    try:
        return from_json(stored.raw)
    except InvalidSchedule:
        return None


def _origin(stored: Stored) -> str | None:
    entry = _entry("", stored)
    return entry.origin if entry else None


async def _read(wiring: Wiring, *names: str | bytes) -> tuple[int, dict[str, Stored]]:
    """The schedules that are named; of many some at a time, so that nobody waits long for the server."""
    now, stored = 0, dict[str, Stored]()
    async with wiring.reading():
        for first in range(0, len(names), READ_AT_ONCE):
            now, page = await lua.run(
                wiring.redis, read_call(wiring.keys, names[first : first + READ_AT_ONCE])
            )
            stored |= page
    return now, stored


async def _names(wiring: Wiring, after: bytes) -> list[bytes]:
    """The names of all that follow one, in order."""
    pipeline = wiring.redis.pipeline(transaction=False)
    pipeline.hkeys(wiring.keys.schedules())
    return sorted(name for name in there(await only(pipeline), []) if name > after)


async def _store(wiring: Wiring, change: Change) -> bool:
    async with wiring.reading():
        [made] = await lua.run(wiring.redis, store_call(wiring.keys, [change]))
        return made


def _may_see(key: ApiKey, stored: Stored) -> bool:
    event_type = type_of(stored)
    return key.may_subscribe_to_all if event_type is None else key.may_subscribe(event_type)


def _unknown(name: str) -> Problem:
    return Problem("not-found", f"There is no schedule {name!r}; GET /v1/schedules lists them.")


def _changed(name: str) -> Problem:
    return Problem("schedule-changed", f"{name} is being changed by somebody else.")
