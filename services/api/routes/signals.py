"""`/v1/tasks/{id}/signal`: an answer that a durable handler waits for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from streammesh import lua, plain_json
from streammesh.durable.calls import DurableCalls, SignalAnswer
from streammesh.durable.records import NAME_LENGTH, RESULT_BYTES
from streammesh.webhooks.url_workers import SIGNAL, read_url_worker

from services.api.audit_trail import AuditedRoute
from services.api.caller import Caller
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import EXAMPLE_TASK, Answer, SelfLink
from services.api.state import wiring_of
from services.api.task_rights import task_to_act_on

router = APIRouter(tags=["tasks"], route_class=AuditedRoute)
BODY_BYTES = 262_144  # with escapes a signal of its largest size is several times as long
_BODIES = ("malformed-body", "too-slow", "unsupported-media-type")
_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_TASK,
    "signal": "approval",
    "duplicate": False,
    "links": {"self": f"/v1/tasks/{EXAMPLE_TASK}"},
}


class SignalRequest(BaseModel):
    """What is said to a handler."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "approval", "data": True}]}
    )

    name: str = Field(
        default="approval",
        min_length=1,
        max_length=NAME_LENGTH - len("signal:"),
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Of the signal, as the handler waits for it.",
    )
    data: Any = Field(default=True, description="What the handler is given: JSON of 64 KiB at most.")


_SIGNAL = JsonBody(
    SignalRequest, "The signal.", {"yes": {"value": {"name": "approval", "data": True}}}, BODY_BYTES
)


class AcceptedSignal(Answer):
    """`duplicate`: one of this name came before, and counts."""

    id: str
    signal: str
    duplicate: bool
    links: SelfLink


@router.post(
    "/v1/tasks/{task_id}/signal",
    summary="Answer a handler that waits",
    status_code=202,
    responses=answers(
        *("task-ended", "body-too-large", "forbidden", *_BODIES, *READ), _202=told("Accepted.", _EXAMPLE)
    ),
    openapi_extra=_SIGNAL.openapi,
)
async def signal_task(
    request: Request,
    key: Caller,
    task_id: Annotated[str, Path(examples=[EXAMPLE_TASK])],
) -> AcceptedSignal:
    """Whoever may publish an event's type may answer its handlers.

    The first signal of a name counts; one that comes before its handler waits for it is kept. The handler goes on with
    `data` as the result of `ctx.wait_for_signal(name)` or `ctx.approval(...)`.
    """
    wiring, said = wiring_of(request), await _SIGNAL(request)
    try:
        value = plain_json.dumps(said.data)
    except TypeError as error:
        raise Problem("invalid-request", f"/data: {error}") from None
    if len(value) > RESULT_BYTES:
        raise Problem(
            "body-too-large", f"A signal has {RESULT_BYTES:,} bytes at most; this one has {len(value):,}."
        )
    async with wiring.reading():
        row = await task_to_act_on(wiring, key, task_id, "answer for it")
        if said.name == SIGNAL and (await read_url_worker(wiring.redis, wiring.keys, row.service))[1]:
            raise Problem(
                "forbidden",
                "The result of a URL's task is said by POST /v1/tasks/{id}/result, with its token.",
            )
        calls = DurableCalls(wiring.keys, wiring.mesh)
        answer = await lua.run(wiring.redis, calls.signal(row, said.name, value))
    if answer in (SignalAnswer.ENDED, SignalAnswer.GONE):
        state = row.state if row.ended else None
        raise Problem("task-ended", "The task has ended, and waits for nothing.", members={"state": state})
    if answer is SignalAnswer.FULL:
        raise Problem("body-too-large", "The task holds as many steps and signals as it may.")
    return AcceptedSignal(
        id=row.id,
        signal=said.name,
        duplicate=answer is SignalAnswer.KNOWN,
        links=SelfLink(self=f"/v1/tasks/{row.id}"),
    )
