"""`/v1/notifications`, `/v1/events/{id}/notifications`: be told as it happens, as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import AwareDatetime, StringConstraints
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket
from streammesh.cel.syntax import LONGEST as LONGEST_WHERE
from streammesh.errors import MeshUnavailable
from streammesh.events.envelope import Event
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH
from streammesh.notification_log import NotificationPage
from streammesh.notifications import LAST_OF_EVENT, Filter, Notification, position_key
from streammesh.tasks.records import EventRow, TaskRow

from services.api import outcome
from services.api.caller import Listener
from services.api.documents import EventState
from services.api.lookup import EventId, SourceParameter, find_row, must_read, read_event, whole_id
from services.api.openapi import JSON, READ, answers
from services.api.parameters import position_since, whole_position, whole_where
from services.api.problems import Problem
from services.api.push.follower import Follower
from services.api.push.told import Told
from services.api.routes import events
from services.api.schemas import EXAMPLE_ID, EXAMPLE_TASK
from services.api.shards.stream import follow_all
from services.api.sse import EventStream, frames, hello, resync
from services.api.state import Wiring, wiring_of, wirings_of
from services.api.tokens import LONGEST
from services.api.web_socket import SocketSession

router = APIRouter(tags=["notifications"])

_EXAMPLE = (
    ": connected\nretry: 1000\nid: 1763790000000-0\n\n"
    "event: task.succeeded\n"
    'data: {"id":"1763790000123-0","type":"task.succeeded","time":"2026-11-22T06:00:00.123Z",'
    f'"event":{{"id":"{EXAMPLE_ID}","type":"user.registered","source":"shop","subject":"user/42"}},'
    f'"task":{{"id":"{EXAMPLE_TASK}","name":"email_worker.send_welcome","service":"email_worker","attempt":1}},'
    '"data":{"result":{"status":"sent"}}}\nid: 1763790000123-0\n\n'
)
_STREAM: dict[str, Any] = {
    "description": "A stream of server-sent events: `event` is the type, `data` the notification, `id` the position.",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}
After = Annotated[str | None, Query(description="Resume after this position; `0` for all that is kept.")]
_SAME = "As the header, from clients that cannot send one; goes before `after`."
Word = Query(min_length=1, max_length=MAX_ATTRIBUTE)


async def _position(  # a plain function would be run in a thread
    connection: HTTPConnection,
    after: After = None,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="As `after`, and goes before it; browsers send it."),
    ] = None,
    camel: Annotated[str | None, Query(alias="lastEventId", description=_SAME)] = None,
    capital: Annotated[str | None, Query(alias="lastEventID", description=_SAME)] = None,
) -> str | None:
    """The position to resume after, written in full. Raises Problem (400)."""
    named = {"Last-Event-ID": last_event_id, "lastEventId": camel, "lastEventID": capital, "after": after}
    for name, text in named.items():
        if text:
            return whole_position(name, text, len(wirings_of(connection)))
    return None


WRITTEN_AT_ONCE = 1_000_000  # bytes that go out in one turn of the event loop
MOST_TYPES = 20  # globs of one stream
Glob = Annotated[str, StringConstraints(min_length=1, max_length=TYPE_LENGTH)]
Begin = Annotated[str | None, Depends(_position)]


@router.get(
    "/v1/notifications",
    summary="Everything that happens, as it happens",
    response_class=Response,
    responses=answers("too-many-requests", *READ, _200=_STREAM),
)
async def notifications(
    request: Request,
    key: Listener,
    event: Annotated[str | None, Word] = None,
    task: Annotated[str | None, Word] = None,
    type: Annotated[
        list[Glob] | None,
        Query(
            description="Glob over the notification's type (`task.*`) or the event's (`order.*`). Of several, one has"
            " to fit.",
            max_length=MOST_TYPES,
        ),
    ] = None,
    service: Annotated[str | None, Word] = None,
    subject: Annotated[str | None, Word] = None,
    subject_prefix: Annotated[
        str | None,
        Query(description="What the subject begins with: `user/`.", min_length=1, max_length=MAX_ATTRIBUTE),
    ] = None,
    since: Annotated[
        AwareDatetime | None,
        Query(description="Begin at this time, not now. A position goes before it."),
    ] = None,
    where: Annotated[
        str | None,
        Query(
            description="An expression in CEL over the notification as it is sent: `data.result.total > 100`.",
            min_length=1,
            max_length=LONGEST_WHERE,
        ),
    ] = None,
    begin: Begin = None,
) -> Response:
    """Without a position it begins now. A `resync` event says that a part of what was asked for is gone."""
    wiring, wirings = wiring_of(request), wirings_of(request)
    wanted = Filter(
        event, task, tuple(type or ()), service, subject, subject_prefix, where=whole_where(where)
    )
    if len(wirings) > 1:
        return await follow_all(wirings, key, wanted, begin, since)
    follower = wiring.hub.open(key, wanted)
    try:
        newest = await wiring.hub.ensure_reading()
    except BaseException:
        wiring.hub.close(follower)
        raise
    after = begin or (position_since(since, newest) if since else newest)
    return EventStream(wiring.hub, follower, [hello(after)], wiring.api.stall.total_seconds(), after=after)


@router.get(
    "/v1/events/{event_id:path}/notifications",
    summary="All that comes of one event, from its beginning to its end",
    response_class=Response,
    responses=answers(
        *("ambiguous-event", "too-many-requests", *READ),
        _200={
            **_STREAM,
            "model": EventState,
            "content": {**_STREAM["content"], JSON: {"example": events.EXAMPLE}},
        },
        _204={"description": "All of it was told already: do not come back."},
    ),
)
async def of_event(
    request: Request,
    key: Listener,
    event_id: EventId,
    source: SourceParameter = None,
    begin: Begin = None,
) -> Response:
    """What happened already comes first; the stream ends after every task has ended."""
    if whole_id(request, event_id, "/notifications") is None:
        return await events.event_state(request, key, f"{event_id}/notifications", source)
    wiring = wiring_of(request)
    if begin and "," in begin:
        detail = "is of the notifications of all shards; an event is in one"
        wrong = [{"parameter": "Last-Event-ID", "detail": detail}]
        raise Problem("malformed-request", f"The position {detail}.", wrong)
    row = await find_row(wiring, key, event_id, source)
    event, tasks = await read_event(wiring, row)
    must_read(key, event_id, event, tasks)
    follower = wiring.hub.open(key, Filter(event=row.id, source=row.source))
    try:
        await wiring.hub.attach_now(follower)
        # In this order: what happens from here on is heard live, and an end that was before it is in the history.
        row = await find_row(wiring, key, row.id, row.source)
        async with wiring.reading():
            past = await wiring.log.history(row.id, row.source, begin or "0-0")
        if not past.whole or not past.notes:
            tasks = await _tasks(wiring, row)
        if row.completed and begin and not past.notes and past.whole:
            wiring.hub.close(follower)
            return Response(status_code=204, headers={"cache-control": "no-store"})
    except BaseException:
        wiring.hub.close(follower)
        raise
    about = OneEvent(wiring, follower, row, event, tasks)
    if past.notes:
        follower.skip(position_key(past.notes[-1].id), past.notes[-1].id)
    elif begin:
        follower.skip(position_key(begin), begin)
    return EventStream(
        wiring.hub,
        follower,
        about.beginning(past, begin),
        wiring.api.stall.total_seconds(),
        is_over=row.completed or any(note.type in LAST_OF_EVENT for note in past.notes),
        until_completed=True,
        missed=about.missed,
    )


async def _tasks(wiring: Wiring, row: EventRow) -> list[TaskRow]:
    async with wiring.reading():
        return await wiring.rows.tasks(row.task_ids)


@dataclass(slots=True)
class OneEvent:
    """The stream of one event: its past, then what comes, until it has ended."""

    wiring: Wiring
    follower: Follower
    row: EventRow
    event: Event | None
    tasks: list[TaskRow]

    def beginning(self, past: NotificationPage, begin: str | None) -> Iterator[bytes]:
        """What happened after `begin`. Where that is not kept any more, the records say what became of it."""
        place = max(past.last, begin or "0-0", key=position_key)
        if position_key(place) == (0, 0):  # nothing was ever noted of it
            place = self.follower.position
        yield hello(begin)
        if not past.whole:
            yield resync(begin or "0-0")
        if not past.whole or not past.notes:
            yield outcome.endings(self.row, self.event, self.tasks, past.notes, place)
        for some in _small_parts(past.notes):
            yield frames([Told.of(note) for note in some])
        if self.row.completed:
            yield outcome.end(self.row, self.event, self.tasks, past.notes, place)

    async def missed(self) -> bytes | None:
        """What became of the event, where it ended in a moment of which nothing is kept; None where it has not."""
        try:
            self.row = await find_row(self.wiring, self.follower.key, self.row.id, self.row.source)
            if not self.row.completed:
                return None
            self.tasks = await _tasks(self.wiring, self.row)
        except (MeshUnavailable, Problem):
            return None  # the stream goes on; a client that comes back is told
        place = self.follower.position
        told = outcome.endings(self.row, self.event, self.tasks, (), place)
        return told + outcome.end(self.row, self.event, self.tasks, (), place)


def _small_parts(notes: Sequence[Notification]) -> Iterator[list[Notification]]:
    """Notifications in order, of which each part is written in one turn of the event loop."""
    part: list[Notification] = []
    size = 0
    for note in notes:
        part.append(note)
        size += len(note.body)
        if size >= WRITTEN_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


@router.get("/v1/notifications/ws", include_in_schema=False)
async def plain(request: Request) -> None:
    """Whoever asks without an upgrade is told what the address is."""
    raise Problem(
        "malformed-request",
        "This address is a WebSocket: open it with `Upgrade: websocket`, or read GET /v1/notifications.",
        headers={"upgrade": "websocket", "connection": "upgrade"},
        status=426,
    )


@router.websocket("/v1/notifications/ws")
async def socket(
    connection: WebSocket, token: Annotated[str | None, Query(max_length=LONGEST)] = None
) -> None:
    """Several filters on one connection; docs/notifications.md has the messages."""
    await SocketSession(connection, wirings_of(connection), token).run()
