"""`PUT /v1/services/{name}`: a worker that is only a URL; `POST /v1/tasks/{id}/result`: what it says later."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from streammesh import lua, plain_json
from streammesh.api_keys import ApiKey
from streammesh.durable.calls import DurableCalls, SignalAnswer
from streammesh.durable.records import RESULT_BYTES
from streammesh.tasks.records import TaskRow
from streammesh.webhooks.definition import MOST_SECRETS, rotated
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.url_workers import (
    MOST,
    SIGNAL,
    UrlWorker,
    is_result_token,
    read_url_worker,
    store_url_worker,
)

from services.api.audit_trail import SecretRoute
from services.api.caller import Bearer, Caller
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import EXAMPLE_TASK
from services.api.state import Wiring, wiring_of, wirings_of
from services.api.url_service_documents import (
    EXAMPLE,
    NAME,
    AcceptedResult,
    ResultWanted,
    UrlServiceState,
    UrlServiceWanted,
    document,
)

router = APIRouter(tags=["services"], route_class=SecretRoute)
result_router = APIRouter(tags=["tasks"])
BODY_BYTES = 262_144
TRIES = 5
OVERLAP_MS = int(timedelta(days=1).total_seconds() * 1000)
_BODIES = ("malformed-body", "too-slow", "body-too-large", "unsupported-media-type")
_WANTED = JsonBody(
    UrlServiceWanted,
    "The whole service.",
    {"invoices": {"value": {"url": EXAMPLE["url"], "subscriptions": [{"type": "order.placed"}]}}},
    BODY_BYTES,
    lambda wiring: wiring.api.open_networks,
)
_RESULT = JsonBody(ResultWanted, "The result.", {"done": {"value": {"result": {"invoice": 7}}}}, BODY_BYTES)


@router.put(
    "/v1/services/{service}",
    summary="Have a URL be a service's worker",
    responses=answers(
        *("forbidden", "service-alive", "webhook-changed", "quota-exceeded", *_BODIES, *READ),
        _200=told("The service.", EXAMPLE),
    ),
    openapi_extra=_WANTED.openapi,
)
async def put_service(
    request: Request,
    key: Caller,
    service: Annotated[str, Path(pattern=NAME, examples=["invoices"])],
) -> UrlServiceState:
    """Needs an admin key, or one that may publish as this service by name and be told of all that it wants.

    Events published from then on are for it; the webhook workers POST them. A secret is shown when it is made.
    """
    wanted = await _WANTED(request)
    try:
        worker = wanted.worker(service)
    except ValueError as error:
        raise Problem("invalid-request", str(error), [{"pointer": "", "detail": str(error)}]) from None
    _must_own(key, worker)
    wiring, now_ms = wiring_of(request), _now_ms()
    for _ in range(TRIES):
        async with wiring.reading():
            known, raw = await read_url_worker(wiring.redis, wiring.keys, service)
            secret = new_secret() if known is None or wanted.new_secret else None
            secrets = known.secrets if known else ()
            if secret:
                kept = wiring.api.seal.close(secret, service)
                secrets = rotated(secrets, kept, OVERLAP_MS, now_ms)
            worker = replace(worker, owner=key.name, secrets=secrets)
            if len(worker.secrets) > MOST_SECRETS:
                raise Problem("quota-exceeded", f"{service} has {MOST_SECRETS} secrets that are still valid.")
            stored = await store_url_worker(wiring.redis, wiring.keys, service, worker, raw)
        if stored == "stored":
            for other in wirings_of(request)[1:]:
                await _bring(other, worker)
            return document(worker, secret, now_ms)
        if stored == "taken":
            raise Problem(
                "service-alive", f"{service} has workers of its own; remove it first, or take another name."
            )
        if stored == "full":
            raise Problem("quota-exceeded", f"There are {MOST} services with a URL already; delete some.")
    raise Problem("webhook-changed", f"{service} is being changed by somebody else.")


@result_router.post(
    "/v1/tasks/{task_id}/result",
    summary="Say the result of a task that a URL accepted",
    status_code=202,
    responses=answers(
        *("forbidden", "task-ended", *_BODIES, *READ),
        _202=told("It counts.", {"id": EXAMPLE_TASK, "duplicate": False}),
    ),
    openapi_extra=_RESULT.openapi,
)
async def task_result(
    request: Request,
    _: Bearer,
    task_id: Annotated[str, Path(max_length=64, examples=[EXAMPLE_TASK])],
    streammesh_result_token: Annotated[
        str | None, Header(description="As it came with the request, in place of a key.", max_length=256)
    ] = None,
) -> AcceptedResult:
    """With the token that came with the request, an admin key, or a key that may publish as the service by name.

    The first result counts; one that is faster than the `202` is kept.
    """
    wiring = wiring_of(request)
    header = request.headers.get("authorization")
    key = None
    if streammesh_result_token is None:
        key = await wiring.auth.authenticate(header.encode("latin-1") if header else None)
    said = await _RESULT(request)
    try:
        value = plain_json.dumps({name: getattr(said, name) for name in said.model_fields_set})
    except TypeError as error:
        raise Problem("invalid-request", f"/result: {error}") from None
    if len(value) > RESULT_BYTES:
        raise Problem(
            "body-too-large", f"A later result has {RESULT_BYTES:,} bytes at most; put it into a store."
        )
    async with wiring.reading():
        row = await wiring.rows.task(task_id)
        if row is None or not await _may_answer(wiring, row, key, streammesh_result_token):
            raise Problem(
                "not-found", "There is no such task of a URL's, or this token or key is not its own."
            )
        answer = await lua.run(
            wiring.redis, DurableCalls(wiring.keys, wiring.mesh).signal(row, SIGNAL, value)
        )
    if answer in (SignalAnswer.ENDED, SignalAnswer.GONE):
        state = row.state if row.ended else None
        raise Problem("task-ended", "The task has ended, and takes no result.", members={"state": state})
    if answer is SignalAnswer.FULL:
        raise Problem("body-too-large", "The task holds as much as it may.")
    return AcceptedResult(id=row.id, duplicate=answer is SignalAnswer.KNOWN)


async def _bring(wiring: Wiring, worker: UrlWorker) -> None:
    """Have another shard know it too; where this fails the same request does the rest. Raises Problem."""
    stored = "moved"
    for _ in range(TRIES):
        async with wiring.reading():
            _, raw = await read_url_worker(wiring.redis, wiring.keys, worker.service)
            stored = await store_url_worker(wiring.redis, wiring.keys, worker.service, worker, raw)
        if stored == "stored":
            return
        if stored != "moved":
            break
    raise Problem("webhook-changed", f"{worker.service} is being changed by somebody else ({stored}).")


async def _may_answer(wiring: Wiring, row: TaskRow, key: ApiKey | None, token: str | None) -> bool:
    worker, _ = await read_url_worker(wiring.redis, wiring.keys, row.service)
    if worker is None:
        return False
    if key is not None:
        return key.admin or key.claims(row.service)
    keys = wiring.api.seal.keys(worker.secrets, worker.service, _now_ms())
    return token is not None and is_result_token(keys, row.id, token)


def _must_own(key: ApiKey, worker: UrlWorker) -> None:
    """Raise Problem (403) unless the service may be this key's: its name, and all that it is sent."""
    if key.admin:
        return
    if not key.claims(worker.service):
        raise Problem(
            "forbidden", f"The key {key.name!r} may not publish as {worker.service!r}, so neither be it."
        )
    for one in worker.subscriptions:
        if not replace(worker, subscriptions=(one,)).may_be_told(key):
            raise Problem("forbidden", f"The key {key.name!r} may not be told of all {one.type!r}.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
