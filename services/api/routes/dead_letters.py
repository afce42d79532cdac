"""`/v1/dead-letters`: work that was given up; looked at, replayed, dropped."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response
from streammesh.api_keys import ApiKey
from streammesh.clock import to_ms
from streammesh.dead_letters import DeadLetterFilter, DeadLetters, Replaying
from streammesh.dead_letters.letters import parse_place, place_text
from streammesh.names import TYPE_LENGTH

from services.api.audit_trail import AuditedRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.cursors import LONGEST_CURSOR
from services.api.dead_letter_documents import (
    CHOICES,
    EXAMPLE_DROPPED,
    EXAMPLE_LETTER,
    EXAMPLE_REPLAYED,
    EXAMPLE_WHOLE,
    Choice,
    DeadLetterPage,
    Dropped,
    Replay,
    ReplayDone,
    WholeDeadLetter,
    letter_document,
    may_see,
    summary,
    whole_letter,
)
from services.api.json_answer import in_turns
from services.api.json_body import JsonBody
from services.api.merged_pages import past_letters
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.read_limit import ReadLimit
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["dead letters"], route_class=AuditedRoute)
MOST = 500
BODY_LIMIT = 1 << 20
ACTING_SECONDS = 60.0  # how long a request may replay or drop; what is left then is still there
_WRITE = ("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type", *READ)
LONGEST_ID = 512
_Word = Query(max_length=256)
_REPLAYED = JsonBody(Replay, "Which, and how fast.", CHOICES, BODY_LIMIT)
_DROPPED = JsonBody(Choice, "Which.", CHOICES, BODY_LIMIT)


@router.get(
    "/v1/dead-letters",
    summary="Dead letters, newest first",
    response_model=DeadLetterPage,
    responses=answers(
        *READ, _200=told("A page.", {"dead_letters": [EXAMPLE_LETTER], "next": None, "history_away": False})
    ),
)
async def dead_letters(
    request: Request,
    key: Caller,
    service: Annotated[str | None, _Word] = None,
    task: Annotated[str | None, Query(max_length=256, description="Glob over the handler's name.")] = None,
    type: Annotated[
        str | None, Query(max_length=TYPE_LENGTH, description="Glob over the event's type.")
    ] = None,
    kind: Annotated[str | None, Query(max_length=256, description="Class of the error.")] = None,
    reason: Annotated[str | None, Query(max_length=256, description="Part of the reason.")] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    past: Annotated[
        bool,
        Query(
            description="Of the history, as they were parked: those too that were replayed or dropped since."
        ),
    ] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", max_length=LONGEST_CURSOR)
    ] = None,
) -> Response:
    """Those whose events your key may read. A page may be empty and still have a `next`, where few of many fit.

    Where no history is kept, `past` is answered with 404.
    """
    wiring = wiring_of(request)
    wanted = DeadLetterFilter(
        service=service,
        task=task,
        type=type,
        kind=kind,
        reason=reason,
        since_ms=to_ms(since) if since else None,
        until_ms=to_ms(until) if until else None,
    )
    if not key.may_subscribe_to_any:
        return await in_turns(DeadLetterPage(dead_letters=[], next=None))
    if past:
        return await in_turns(await _past(wiring, key, wanted, limit, cursor))
    async with wiring.reading():
        opened = await wiring.cursors.open("dead letters", cursor)
        before = None if opened is None else parse_place(opened)
        found = await _letters(wiring).page(
            wanted, limit=limit, before=before, may_see=lambda letter: may_see(key, letter)
        )
        following = await wiring.cursors.seal("dead letters", place_text(found.next) if found.next else None)
    page = DeadLetterPage(dead_letters=[letter_document(letter) for letter in found.letters], next=following)
    return await in_turns(page)


@router.post(
    "/v1/dead-letters/replay",
    summary="Replay dead letters",
    status_code=202,
    responses=answers(*_WRITE, _202=told("Done, or what would be.", EXAMPLE_REPLAYED)),
    openapi_extra=_REPLAYED.openapi,
)
async def replay(request: Request, key: Caller) -> ReplayDone:
    """Needs an admin key. Each letter is replayed once, however often this is sent.

    A task begins anew with its first attempt. With a `rate` the tasks start one after the other; they wait in
    Redis, not in this request. `more` says that others fit too: send the same request again.
    """
    must_be_admin(key)
    wiring, chosen = wiring_of(request), await _REPLAYED(request)
    letters = _letters(wiring)
    async with ReadLimit(ACTING_SECONDS, 1)():
        found, more = await letters.matching(chosen.wanted(), chosen.limit)
        done = None
        if not chosen.dry_run:
            replaying = Replaying(wiring.redis, wiring.keys, wiring.mesh)
            done = await replaying.replay(found, rate=chosen.rate)
    tasks = sum(letter.form == "task" for letter in found)
    return ReplayDone(
        dry_run=chosen.dry_run,
        matched=len(found),
        replayed=done.replayed if done else 0,
        left=dict(done.left) if done else {},
        more=more,
        seconds=round(max(0, tasks - 1) / chosen.rate, 3) if chosen.rate else 0,
        by=summary(found),
    )


@router.post(
    "/v1/dead-letters/drop",
    summary="Drop dead letters for good",
    responses=answers(*_WRITE, _200=told("Done, or what would be.", EXAMPLE_DROPPED)),
    openapi_extra=_DROPPED.openapi,
)
async def drop(request: Request, key: Caller) -> Dropped:
    """Needs an admin key. What is dropped cannot be replayed any more; the tasks stay failed."""
    must_be_admin(key)
    wiring, chosen = wiring_of(request), await _DROPPED(request)
    letters = _letters(wiring)
    async with ReadLimit(ACTING_SECONDS, 1)():
        found, more = await letters.matching(chosen.wanted(), chosen.limit)
        dropped = 0 if chosen.dry_run else await letters.drop(found)
    return Dropped(dry_run=chosen.dry_run, matched=len(found), dropped=dropped, more=more, by=summary(found))


@router.get(
    "/v1/dead-letters/{letter_id:path}",
    summary="One dead letter, with its traceback and the whole event",
    responses=answers(*READ, _200=told("The letter.", EXAMPLE_WHOLE)),
)
async def dead_letter(request: Request, key: Caller, letter_id: str) -> WholeDeadLetter:
    """What never became an event or a task is shown as text in `raw`."""
    wiring = wiring_of(request)
    letters = _letters(wiring)
    async with wiring.reading():
        letter = await letters.get(letter_id) if len(letter_id) <= LONGEST_ID else None
        if letter is None or not may_see(key, letter):
            raise Problem(
                "not-found",
                f"There is no dead letter {letter_id[:100]!r}; it never was, was replayed, or was dropped.",
            )
        content = await letters.content(letter)
    return whole_letter(letter, content)


async def _past(
    wiring: Wiring, key: ApiKey, wanted: DeadLetterFilter, limit: int, cursor: str | None
) -> DeadLetterPage:
    """A page of the history. Raises Problem (404) where none is kept."""
    if wiring.history is None:
        raise Problem(
            "not-found",
            "This mesh keeps no history (MESH_HISTORY_URL), so past dead letters are not known; without `past` "
            "those that are there are listed.",
        )
    async with wiring.reading():
        opened = await wiring.cursors.open("past dead letters", cursor)
        after = None if opened is None else parse_place(opened)
        found, after = await past_letters(
            wiring.history, wanted, lambda letter: may_see(key, letter), limit, after
        )
        following = await wiring.cursors.seal("past dead letters", place_text(after) if after else None)
    return DeadLetterPage(
        dead_letters=[letter_document(letter) for letter in found],
        next=following,
        history_away=wiring.history.is_away,
    )


def _letters(wiring: Wiring) -> DeadLetters:
    return DeadLetters(wiring.redis, wiring.keys)
