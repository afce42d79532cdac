"""`/v1/status`, `/v1/services`: how the mesh is, and each service in it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from streammesh.api_keys import ApiKey
from streammesh.errors import MeshUnavailable
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.heartbeat import alive
from streammesh.redisio.inspection import Severity
from streammesh.retirement import NoSuchService, Retirement, ServiceAlive
from streammesh.status.findings import Finding, report, service_document, span
from streammesh.status.snapshot import ServiceState, Snapshot
from streammesh.webhooks.url_workers import read_url_worker, store_url_worker

from services.api.audit_trail import AuditedRoute
from services.api.caller import Caller
from services.api.json_answer import in_turns
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import Wiring, wiring_of
from services.api.wait_parameter import seconds_of

router = APIRouter(tags=["status"], route_class=AuditedRoute)
LEAVING_SECONDS = 10.0  # in which the process of a worker that is a URL drains
REMOVING_SECONDS = 5.0  # of one request; it is made again until nothing is left
STILL_SECONDS = 5.0  # push that fails for so long is worth saying
MOST_OVER = 10.0
Over = Annotated[
    str | None,
    Query(
        description="Look twice, so far apart, that rates are known; at most 10s. Looks of the last minute do as well.",
        max_length=32,
        examples=["2s"],
    ),
]
EXAMPLE_SERVICE: dict[str, Any] = {
    "service": "email_worker",
    "registered": True,
    "subscriptions": [{"task": "email_worker.send_welcome", "type": "user.registered"}],
    "workers": 2,
    "processes": ["vm/1:4711", "vm/2:4712"],
    "last_seen": "2026-11-22T06:00:00.000Z",
    "queued": 14,
    "waiting": 12,
    "held": 0,
    "lag": 3,
    "lag_exact": True,
    "oldest_waiting_seconds": 0.4,
    "dead_letters": 1,
    "falls_per_second": 210.5,
    "gone_in_seconds": 0.1,
}
_FINDING = {
    "code": "no-dispatcher",
    "about": "dispatcher",
    "severity": "error",
    "text": "no dispatcher is alive: events wait in their streams",
    "do": "start a dispatcher",
}


class Subscribed(Answer):
    """What a service subscribes to, and the task that it becomes."""

    task: str
    type: str


class ServiceStanding(Answer):
    """One service. `lag`: events that were not handed over to it (at least so many where not `lag_exact`); `queued`:
    tasks in its queue, `waiting` those of them that no worker was given; `held`: set aside while paused.

    `falls_per_second`: how fast `lag` and `queued` together fall (below 0: they grow), by this process's looks of the
    last minute; `gone_in_seconds`: when nothing of them will be left at that rate. Null where it is not known; ask
    with `over`.
    """

    service: str
    registered: bool
    subscriptions: list[Subscribed]
    workers: int
    processes: list[str]
    last_seen: str | None
    queued: int
    waiting: int
    held: int
    lag: int
    lag_exact: bool
    oldest_waiting_seconds: float | None
    dead_letters: int
    falls_per_second: float | None
    gone_in_seconds: float | None


class FindingDocument(Answer):
    """One thing that is wrong: `code` for programs, `text` for people, `do` what helps."""

    code: str
    about: str
    severity: Literal["warning", "error"]
    text: str
    do: str


class StreamStanding(Answer):
    """The events of one domain: `kept` in its stream, `published` ever, and when the last one came."""

    domain: str
    kept: int
    published: int
    last_at: str | None


class RedisStanding(Answer):
    """What Redis says about itself. Sizes in bytes; `memory_limit` 0 is none.

    `persistent`: an append-only file is written; `last_write_ok`: whether its last write went well. From `refused_at`
    bytes on publishing is refused (0: never); `grows_per_second` and `full_in_seconds`, until then, as those of services.
    """

    version: str
    ping_ms: float
    memory: int
    memory_limit: int
    persistent: bool
    last_write_ok: bool
    clients: int
    refused_at: int
    grows_per_second: float | None
    full_in_seconds: float | None


class Status(Answer):
    """How the mesh is. `problems` are the findings' texts; `totals` count since the mesh began."""

    status: Literal["ok", "degraded", "failing"]
    problems: list[str]
    findings: list[FindingDocument]
    time: str
    redis: RedisStanding
    dispatchers: int
    beats: int
    apis: int
    services: list[ServiceStanding]
    streams: list[StreamStanding]
    totals: dict[str, int]


class ServiceList(Answer):
    """Every service, by name."""

    services: list[ServiceStanding]


class Removal(Answer):
    """How far it is. `events` were not handed over, `tasks` had not ended, `calls` are plain Celery calls."""

    service: str
    removed: bool
    backlog: Literal["dead-letter", "drop"]
    events: int
    tasks: int
    calls: int


_REMOVAL = {
    "service": "old_worker",
    "removed": True,
    "backlog": "dead-letter",
    "events": 312,
    "tasks": 14,
    "calls": 0,
}
_STATUS = {
    "status": "failing",
    "problems": [_FINDING["text"]],
    "findings": [_FINDING],
    "time": "2026-11-22T06:00:00.000Z",
    "redis": {
        **{"version": "8.2.1", "ping_ms": 0.1, "memory": 61_000_000, "memory_limit": 0},
        **{"persistent": True, "last_write_ok": True, "clients": 14},
        **{"refused_at": 0, "grows_per_second": 1_200.0, "full_in_seconds": None},
    },
    "dispatchers": 0,
    "beats": 2,
    "apis": 2,
    "services": [EXAMPLE_SERVICE],
    "streams": [{"domain": "user", "kept": 3, "published": 12, "last_at": "2026-11-22T06:00:00.000Z"}],
    "totals": {"published": 12, "duplicates": 0, "handed_over": 9, "unrouted": 0, "parked": 0},
}


@router.get(
    "/v1/status",
    summary="How the mesh is, and what is wrong with it",
    response_model=Status,
    responses=answers(*("malformed-request", "forbidden", *READ), _200=told("The mesh.", _STATUS)),
)
async def status(request: Request, key: Caller, over: Over = None) -> Response:
    """Always 200 when it can be told, whatever it says. Needs a key that may read every event."""
    must_read_all(key)
    wiring = wiring_of(request)
    found = await wiring.status.look(seconds_of(over, "over", MOST_OVER))
    said = report(found, wiring.mesh, _own(wiring))
    refused_at = found.redis.memory_limit * wiring.mesh.memory_mark // 100
    memory = wiring.status.trends.memory(refused_at)
    said["redis"] |= {
        "refused_at": refused_at,
        "grows_per_second": _told(memory.per_second),
        "full_in_seconds": _told(memory.seconds_left),
    }
    said["services"] = [standing_of(wiring, found, state) for state in found.services]
    return await in_turns(Status.model_validate(said))


@router.get(
    "/v1/services",
    summary="The services, their workers, and what waits for them",
    response_model=ServiceList,
    responses=answers(*("forbidden", *READ), _200=told("All.", {"services": [EXAMPLE_SERVICE]})),
)
async def services(request: Request, key: Caller, over: Over = None) -> Response:
    """Also those that left while something of them is left. Needs a key that may read every event."""
    must_read_all(key)
    wiring = wiring_of(request)
    found = await wiring.status.look(seconds_of(over, "over", MOST_OVER))
    shown = [standing_of(wiring, found, state) for state in found.services]
    return await in_turns(ServiceList.model_validate({"services": shown}))


def standing_of(wiring: Wiring, found: Snapshot, state: ServiceState) -> dict[str, Any]:
    """One service as it is told, with how its backlog changes."""
    trend = wiring.status.trends.backlog(state.service)
    return {
        **service_document(state, found.now_ms),
        "falls_per_second": _told(trend.per_second),
        "gone_in_seconds": _told(trend.seconds_left),
    }


def _told(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


@router.delete(
    "/v1/services/{service}",
    summary="Remove a service",
    responses=answers(
        *("forbidden", "service-alive", *READ),
        _200=told("Nothing of it is left.", _REMOVAL),
        _202=told("Much waits for it: ask again to go on.", {**_REMOVAL, "removed": False}, model=Removal),
    ),
)
async def remove(
    request: Request,
    response: Response,
    key: Caller,
    service: Annotated[str, Path(max_length=64, examples=["email_worker"])],
    backlog: Annotated[
        Literal["dead-letter", "drop"], Query(description="What becomes of what waits for it.")
    ] = "dead-letter",
) -> Removal:
    """Needs an admin key; refused while a worker of it lives. Its dead letters stay, and nothing else of it."""
    if not key.admin:
        raise Problem("forbidden", f"The key {key.name!r} is no admin key.")
    wiring = wiring_of(request)
    await _leave_url(wiring, service)
    retirement = Retirement(wiring.redis, wiring.keys, wiring.mesh, service, backlog)
    try:
        done = await retirement.run(REMOVING_SECONDS)
    except ServiceAlive as error:
        raise Problem("service-alive", f"{service}: {error}.") from None
    except NoSuchService:
        raise Problem("not-found", f"There is no service {service!r}; GET /v1/services lists them.") from None
    except Exception as error:
        if is_unavailable(error):
            raise MeshUnavailable(str(error)) from error
        raise
    response.status_code = 200 if done.done else 202
    return Removal(
        service=service,
        removed=done.done,
        backlog=backlog,
        events=done.events,
        tasks=done.tasks,
        calls=done.calls,
    )


async def _leave_url(wiring: Wiring, service: str) -> None:
    """Where the service's worker is a URL, have the webhook workers send nothing more, and wait for them to stop."""
    async with wiring.reading():
        _, raw = await read_url_worker(wiring.redis, wiring.keys, service)
        if not raw:
            return
        await store_url_worker(wiring.redis, wiring.keys, service, None, raw)
    for _ in range(int(LEAVING_SECONDS / 0.1)):
        async with wiring.reading():
            if not await alive(wiring.redis, wiring.keys, service):
                return
        await asyncio.sleep(0.1)


def _own(wiring: Wiring) -> list[Finding]:
    """What is wrong in this process and does not stand in Redis."""
    return [*_push(wiring), *_history(wiring)]


def _history(wiring: Wiring) -> list[Finding]:
    if wiring.history is None or not wiring.history.is_away:
        return []
    text = f"the history does not answer this API process: {wiring.history.why_away}"
    do = "see to its database; what has left Redis is not found until then"
    return [Finding("history-away", "history", Severity.WARNING, text, do)]


def _push(wiring: Wiring) -> list[Finding]:
    still = wiring.hub.stands_still()
    if still is None or still[0] < STILL_SECONDS:
        return []
    text = f"push stands still at this API process for {span(round(still[0] * 1000))}: {still[1]}"
    do = "clients resume with nothing missed when it goes on; look at the log of the API"
    return [Finding("push-stands-still", "api", Severity.ERROR, text, do)]


def must_read_all(key: ApiKey) -> None:
    """Raise Problem (403) where the key may not read every event."""
    if not (key.admin or key.may_subscribe_to_all):
        raise Problem("forbidden", f"The key {key.name!r} may not read every event, and so not this.")
