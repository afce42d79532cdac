"""`/v1/notifications`, `/v1/events/{id}/notifications`: be told as it happens, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from streammesh.attributes import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH
from streammesh.notifications import LAST_OF_EVENT, Filter, Page, position_key

from services.api.auth import Caller
from services.api.describing import READ, answers
from services.api.event_stream import EventStream, follow, frames, hello, listen, resync
from services.api.hub import Follower, Hub, Told
from services.api.problems import Problem
from services.api.routes import events
from services.api.routes.finding import EventId, SourceParameter, find_row, must_read, read_event, whole_id
from services.api.shapes import EXAMPLE_ID, EXAMPLE_TASK
from services.api.wiring import Wiring, wiring_of

router = APIRouter(tags=["notifications"])

_EXAMPLE = (
    ": connected\nretry: 1000\nid: 1763790000000-0\n\n"
    "id: 1763790000123-0\nevent: task.succeeded\n"
    'data: {"id":"1763790000123-0","type":"task.succeeded","time":"2026-11-22T06:00:00.123Z",'
    f'"event":{{"id":"{EXAMPLE_ID}","type":"user.registered","source":"shop","subject":"user/42"}},'
    f'"task":{{"id":"{EXAMPLE_TASK}","name":"email_worker.send_welcome","service":"email_worker","attempt":1}},'
    '"data":{"result":{"status":"sent"}}}\n\n'
)
_STREAM = {
    "description": "A stream of server-sent events: `event` is the type, `data` the notification, `id` the position.",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}
After = Annotated[str | None, Query(description="Resume after this position; `0` for all that is kept.")]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="As `after`, and goes before it; browsers send it.")
]
Word = Query(max_length=MAX_ATTRIBUTE)


def _position(after: str | None, last_event_id: str | None) -> str | None:
    """The position to resume after, written in full. Raises Problem (400)."""
    for name, text in (("Last-Event-ID", last_event_id), ("after", after)):
        if text:
            try:
                ms, number = position_key(text)
            except ValueError as error:
                wrong = [{"parameter": name, "detail": str(error)}]
                raise Problem("malformed-request", f"{name}: {error}.", wrong) from None
            return f"{ms}-{number}"
    return None


@router.get(
    "/v1/notifications",
    summary="Everything that happens, as it happens",
    response_class=Response,
    responses=answers("too-many-requests", *READ, _200=_STREAM),
)
async def notifications(
    request: Request,
    key: Caller,
    event: Annotated[str | None, Word] = None,
    task: Annotated[str | None, Word] = None,
    type: Annotated[
        str | None,
        Query(
            description="Glob over the notification's type (`task.*`) or the event's (`order.*`).",
            min_length=1,
            max_length=TYPE_LENGTH,
        ),
    ] = None,
    service: Annotated[str | None, Word] = None,
    subject: Annotated[str | None, Word] = None,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Without a position it begins now. A `resync` event says that a part of what was asked for is gone."""
    wiring = wiring_of(request)
    begin = _position(after, last_event_id)
    wanted = Filter(event=event, task=task, type=type, service=service, subject=subject)
    follower = wiring.hub.open(key, wanted.fits, event)
    try:
        newest = await wiring.hub.ensure_reading()
    except BaseException:
        wiring.hub.close(follower)
        raise
    blocks = follow(wiring.hub, follower, begin or newest, wiring.auth, wiring.api)
    return _stream(wiring, follower, blocks)


@router.get(
    "/v1/events/{event_id:path}/notifications",
    summary="All that comes of one event, from its beginning to its end",
    response_class=Response,
    responses=answers(
        *("ambiguous-event", "too-many-requests", *READ),
        _200=_STREAM,
        _204={"description": "All of it was told already: do not come back."},
    ),
)
async def of_event(
    request: Request,
    key: Caller,
    event_id: EventId,
    source: SourceParameter = None,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    """What happened already comes first; the stream ends after every task has ended."""
    if whole_id(request, event_id, "/notifications") is None:
        return await events.event_state(request, key, f"{event_id}/notifications", source)
    wiring = wiring_of(request)
    begin = _position(after, last_event_id)
    row = await find_row(wiring, event_id, source)
    event, tasks = await read_event(wiring, row)
    must_read(key, event_id, event, tasks)
    follower = wiring.hub.open(key, lambda note: note.event == row.id and note.source == row.source, row.id)
    try:
        await _attach(wiring.hub, follower)
        # In this order: what happens from here on is heard live, and an end that was before it is in the history.
        row = await find_row(wiring, row.id, row.source)
        async with wiring.reading():
            past = await wiring.log.history(row.id, row.source, begin or "0-0")
        if row.completed and begin and not past.notes and past.whole:
            wiring.hub.close(follower)
            return Response(status_code=204, headers={"cache-control": "no-store"})
    except BaseException:
        wiring.hub.close(follower)
        raise
    return _stream(wiring, follower, _to_the_end(wiring, follower, past, begin, row.completed))


async def _attach(hub: Hub, follower: Follower) -> None:
    while True:
        follower.position = await hub.ensure_reading()
        if hub.attach_at_end(follower):
            return


async def _to_the_end(
    wiring: Wiring, follower: Follower, past: Page, begin: str | None, completed: bool
) -> AsyncIterator[bytes]:
    yield hello(begin)
    if not past.whole:
        yield resync(begin or "0-0")
    if past.notes:
        yield frames([Told.of(note) for note in past.notes])
    if completed or any(note.type in LAST_OF_EVENT for note in past.notes):
        return
    seen = position_key(past.notes[-1].id if past.notes else begin or "0-0")
    async for told in listen(wiring.hub, follower, wiring.auth, wiring.api):
        if isinstance(told, bytes):
            yield told
            continue
        new = [one for one in told if not isinstance(one, Told) or position_key(one.note.id) > seen]
        if new:
            yield frames(new)
        if any(isinstance(one, Told) and one.note.type in LAST_OF_EVENT for one in new):
            return


def _stream(wiring: Wiring, follower: Follower, blocks: AsyncIterator[bytes]) -> EventStream:
    return EventStream(blocks, lambda: wiring.hub.close(follower), wiring.api.stall.total_seconds())
