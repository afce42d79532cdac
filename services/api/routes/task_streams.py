"""`/v1/tasks/{id}/streams/{name}`: what a handler streams to clients while it runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import Field
from starlette.responses import Response
from streammesh.durable.chunks import NAME
from streammesh.notifications import Filter

from services.api.caller import Listener
from services.api.chunk_events import ChunkEvents
from services.api.chunk_reader import BEGINNING, Look, offset_of
from services.api.openapi import JSON, READ, answers
from services.api.routes.tasks import readable_task
from services.api.schemas import EXAMPLE_TASK, Answer
from services.api.state import wiring_of
from services.api.wait_parameter import seconds_of

router = APIRouter(tags=["tasks"])
STREAM = "text/event-stream"
_CHUNK = {"epoch": 1, "offset": "1-1", "kind": "text", "data": "Once upon a time"}
_EXAMPLE: dict[str, Any] = {
    "chunks": [_CHUNK],
    "offset": "1-1",
    "restarted": False,
    "state": None,
    "ended": False,
}
_EVENTS = (
    ': connected\nretry: 1000\n\nevent: epoch\ndata: {"epoch":1}\n\n'
    'event: chunk\ndata: {"epoch":1,"offset":"1-1","kind":"text","data":"Once upon a time"}\nid: 1-1\n\n'
    'event: end\ndata: {"state":"succeeded","epoch":1}\n\n'
)


class ChunkDocument(Answer):
    """One piece of a stream. A higher `epoch` than before: another attempt began it anew, and what came before is void."""

    epoch: int
    offset: str = Field(description="To resume after it.")
    kind: Literal["text", "bytes", "json"] = Field(description="`bytes` are sent as base64.")
    data: Any


class ChunkPage(Answer):
    """What a stream has after an offset, at most 256 chunks."""

    chunks: list[ChunkDocument]
    offset: str = Field(description="To ask with next.")
    restarted: bool = Field(description="The stream began anew after the offset that was asked with.")
    state: str | None = Field(description="How its task ended; null while it goes on.")
    ended: bool = Field(description="Nothing more comes.")


@router.get(
    "/v1/tasks/{task_id}/streams/{name}",
    summary="What a handler streams while it runs",
    response_model=ChunkPage,
    responses=answers(
        *("too-many-requests", *READ),
        _200={
            "description": "Chunks; with `Accept: text/event-stream` as server-sent events until the task has ended.",
            "content": {
                JSON: {"example": _EXAMPLE},
                STREAM: {"schema": {"type": "string"}, "example": _EVENTS},
            },
        },
        _204={
            "description": "All was told before `Last-Event-ID`, and the task has ended: do not come back."
        },
    ),
)
async def task_stream(
    request: Request,
    key: Listener,
    task_id: Annotated[str, Path(examples=[EXAMPLE_TASK])],
    name: Annotated[str, Path(examples=["tokens"], pattern=f"^{NAME.pattern}$")],
    offset: Annotated[
        str | None,
        Query(description="Resume after this offset; without it from the beginning.", max_length=40),
    ] = None,
    wait: Annotated[
        str | None, Query(description="Wait so long, 60s at most, for something to come: `10s`.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="As `offset`, and goes before it.")
    ] = None,
) -> Response | ChunkPage:
    """Rights are those of the task itself. A stream that does not begin before its task ends is empty."""
    wiring = wiring_of(request)
    named = "Last-Event-ID" if last_event_id else "offset"
    after = offset_of(named, last_event_id or offset or "0")
    seconds = seconds_of(wait)
    task = await readable_task(wiring, key, task_id)
    if STREAM not in request.headers.get("accept", ""):
        return await _page(request, task.id, name, after, seconds)
    if last_event_id:
        look = await wiring.chunks.look(task.id, name, after)
        if look.state and look.is_whole and not look.chunks:
            return Response(status_code=204, headers={"cache-control": "no-store"})
    return ChunkEvents(
        wiring.hub,
        wiring.hub.open(key, Filter(task=task.id)),
        wiring.chunks,
        wiring.bell,
        task,
        name,
        after,
        wiring.api.stall.total_seconds(),
        wiring.api.heartbeat.total_seconds(),
    )


async def _page(
    request: Request, task_id: str, name: str, after: tuple[int, int], seconds: float
) -> ChunkPage:
    wiring, woken = wiring_of(request), asyncio.Event()
    look = await wiring.chunks.look(task_id, name, after)
    if seconds and not (look.chunks or look.state):
        ends = asyncio.get_running_loop().time() + seconds
        async with wiring.bell.heard(task_id, woken):
            while not (look.chunks or look.state or wiring.hub.stopping):
                woken.clear()
                look = await wiring.chunks.look(task_id, name, after)
                left = ends - asyncio.get_running_loop().time()
                if look.chunks or look.state or left <= 0:
                    break
                try:
                    async with asyncio.timeout(min(left, wiring.api.heartbeat.total_seconds())):
                        await woken.wait()
                except TimeoutError:
                    continue
    return _document(look, after)


def _document(look: Look, after: tuple[int, int]) -> ChunkPage:
    began = look.chunks[-1].at[0] if look.chunks else after[0]
    return ChunkPage(
        chunks=[
            ChunkDocument(epoch=one.at[0], offset=one.offset, kind=one.kind, data=one.data)
            for one in look.chunks
        ],
        offset=f"{look.at[0]}-{look.at[1]}",
        restarted=look.restarted or (after > BEGINNING and began != after[0]),
        state=None if look.state == "gone" else look.state,
        ended=bool(look.state) and look.is_whole,
    )
