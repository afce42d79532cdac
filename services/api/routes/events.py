"""`/v1/events`: publish, look at one, list the recent ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh.api_keys import ApiKey
from streammesh.clock import to_ms
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.history.queries import EventSearch
from streammesh.names import TYPE_LENGTH
from streammesh.status.not_run import Waiting
from streammesh.subscriptions.registry import read_registered

from services.api import completion
from services.api.caller import Caller, Listener
from services.api.cloudevents import CloudEvent
from services.api.cursors import LONGEST_CURSOR
from services.api.documents import (
    EXAMPLE_TASK_DOCUMENT,
    EventPage,
    EventState,
    StandingState,
    event_document,
)
from services.api.event_pages import MOST, Cursor, list_recent
from services.api.event_search import Search
from services.api.event_search import standing as standing_of
from services.api.json_answer import in_turns
from services.api.lookup import EventId, SourceParameter, find_row, must_read, read_event
from services.api.merged_pages import is_away, is_hot, merged, past_events
from services.api.openapi import JSON, READ, WRITTEN, answers, told
from services.api.publish_openapi import DESCRIPTION, OPENAPI
from services.api.schemas import (
    EXAMPLE_ACCEPTED,
    EXAMPLE_EVENT,
    EXAMPLE_ID,
    EXAMPLE_LINKS,
    Accepted,
    AcceptedBatch,
)
from services.api.state import Wiring, wiring_of
from services.api.wait_parameter import seconds_of

router = APIRouter(tags=["events"])
Wait = Annotated[
    str | None,
    Query(
        description="Answer as soon as all of it has ended, after this long at the latest; at most 60s.",
        max_length=32,
        examples=["10s"],
    ),
]

_ACCEPTED = {
    "model": Accepted | AcceptedBatch | EventState,
    "description": "Stored.",
    "content": {
        JSON: {
            "examples": {
                "one": {"value": EXAMPLE_ACCEPTED},
                "batch": {"value": {"events": [EXAMPLE_ACCEPTED]}},
            }
        }
    },
}
EXAMPLE_POSITION = "1763790000123-0"
EXAMPLE = {
    "id": EXAMPLE_ID,
    "source": "shop",
    "type": "user.registered",
    "state": "completed",
    "detail": "Its one task ended.",
    "published_at": "2026-11-22T06:00:00.002Z",
    "held_until": None,
    "event": EXAMPLE_EVENT,
    "deliveries": [{"task_id": EXAMPLE_TASK_DOCUMENT["id"], "task": EXAMPLE_TASK_DOCUMENT}],
    "not_delivered": [],
    "not_run": [],
    "links": EXAMPLE_LINKS,
}


class _Published(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.wiring.publishing(scope, receive, send)


@router.post(
    "/v1/events",
    summary="Publish one event or a batch",
    description=DESCRIPTION,
    status_code=202,
    response_class=_Published,
    responses=answers(
        *WRITTEN,
        _200=told("With `wait`: all of it has ended.", EXAMPLE, model=EventState),
        _202=_ACCEPTED,
    ),
    openapi_extra=OPENAPI,
)
async def publish(wait: Wait = None) -> Response:
    """The door calls `PublishEndpoint` before the framework; this stands here for the document."""
    return _Published()


@router.get(
    "/v1/events",
    summary="Recent events, newest first",
    response_model=EventPage,
    responses=answers(
        *READ,
        _200=told(
            "A page.",
            {
                "events": [EXAMPLE_EVENT],
                "next": None,
                "standings": [],
                "history_away": False,
                "position": EXAMPLE_POSITION,
            },
        ),
    ),
)
async def recent(
    request: Request,
    key: Caller,
    type: Annotated[
        str, Query(description="Type or glob.", min_length=1, max_length=TYPE_LENGTH, examples=["order.*"])
    ] = "*",
    since: Annotated[AwareDatetime | None, Query(description="Not older than this.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Older than this.")] = None,
    correlation: Annotated[
        str | None,
        Query(
            description="Exactly this `correlationid`; of an event without one it is its id.",
            max_length=MAX_ATTRIBUTE,
        ),
    ] = None,
    source: Annotated[str | None, Query(description="Exactly this source.", max_length=MAX_ATTRIBUTE)] = None,
    subject: Annotated[
        str | None, Query(description="Exactly this subject.", max_length=MAX_ATTRIBUTE)
    ] = None,
    text: Annotated[
        str | None, Query(description="A part of its JSON, in small or capital letters.", max_length=200)
    ] = None,
    state: Annotated[
        StandingState | None, Query(description="Where it stands; asks for `standings`.")
    ] = None,
    standing: Annotated[bool, Query(description="Whether to say where each stands, in `standings`.")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> Response:
    """Events that your key may read, as they are stored; those held for later are not among them yet.

    A page may be short, or empty, and still have a `next`, where few of many fit.
    """
    wiring = wiring_of(request)
    async with wiring.reading():
        position = await wiring.log.last()  # before the events: what comes meanwhile is told after it
    if not key.may_subscribe_to_any:
        return await in_turns(EventPage(events=[], next=None, standings=[], position=position))
    search = Search(source, subject, text, correlation)
    past = EventSearch(
        type,
        source,
        subject,
        correlation,
        state,
        max(0, to_ms(since)) if since else 0,
        max(1, to_ms(until)) if until else None,  # before 1970 Redis has no positions
    )
    async with wiring.reading():
        opened = await wiring.cursors.open("events", cursor)
        place = None if opened is None else Cursor.parse(opened)
        events, after = await _page(
            wiring,
            past,
            lambda event, raw: key.may_subscribe(event.type) and search.fits(event, raw),
            limit,
            place,
        )
        following = await wiring.cursors.seal("events", str(after) if after else None)
        if not standing and state is None:
            return await in_turns(
                EventPage(
                    events=events,
                    next=following,
                    standings=[],
                    position=position,
                    history_away=is_away(wiring.history),
                )
            )
        rows = await wiring.rows.standings([(one.id, one.source) for one in events])
    known = [(one, standing_of(row, one)) for one, row in zip(events, rows, strict=True)]
    shown = [(one, found) for one, found in known if state is None or found.state == state]
    return await in_turns(
        EventPage(
            events=[one for one, _ in shown],
            standings=[found for _, found in shown],
            next=following,
            position=position,
            history_away=is_away(wiring.history),
        )
    )


async def _page(
    wiring: Wiring,
    search: EventSearch,
    wanted: Callable[[CloudEvent, bytes], bool],
    limit: int,
    place: Cursor | None,
) -> tuple[list[CloudEvent], Cursor | None]:
    """A page of Redis, and where that ends before it is full, of the history."""
    if place is None and search.until is not None:
        place = Cursor(f"{search.until}-0", "")
    recent, after = await list_recent(
        wiring.redis, wiring.keys, search.pattern, wanted, since_ms=search.since, limit=limit, cursor=place
    )
    if wiring.history is None or (after and is_hot(after.place[0], wiring.mesh.hot_kept)):
        return [one.event for one in recent], after
    past, past_after = await past_events(wiring.history, search, wanted, limit, place)
    page, end = merged(recent, after.place if after else None, past, past_after, limit)
    return [event for _, event in page], Cursor.of(end) if end else None


@router.get(
    "/v1/events/{event_id:path}",
    summary="An event and everything that came of it",
    response_model=EventState,
    responses=answers(
        *("ambiguous-event", "too-many-requests", *READ),
        _200=told("The event.", EXAMPLE),
        _202=told("It has not come to its end within `wait`.", EXAMPLE, model=EventState),
    ),
)
async def event_state(
    request: Request, key: Listener, event_id: EventId, source: SourceParameter = None, wait: Wait = None
) -> Response:
    """Each delivery with its task, state, attempts, result and follow-up events; and where nothing ran, why.

    With `wait` the answer comes as soon as all of it has ended: 200. After that time it is 202.
    """
    return await state_of(wiring_of(request), key, event_id, source, seconds_of(wait))


async def state_of(
    wiring: Wiring, key: ApiKey, event_id: str, source: str | None, seconds: float = 0.0
) -> Response:
    """Answer with an event, waiting for its end for so long. Raises Problem."""
    row = await find_row(wiring, key, event_id, source)
    event, tasks = await read_event(wiring, row)
    must_read(key, event_id, event, tasks)
    if seconds and not row.completed:
        row = await completion.until_completed(wiring, key, row, seconds)
        event, tasks = await read_event(wiring, row)
    async with wiring.reading():
        registered = await read_registered(wiring.redis, wiring.keys)
        waiting = Waiting(wiring.redis, wiring.keys, wiring.mesh)
        not_run = await waiting.of_event(row, event, tasks, registered)
    document = await event_document(row, event, tasks, registered.manifests, not_run)
    return await in_turns(document, 202 if seconds and not row.completed else 200)
