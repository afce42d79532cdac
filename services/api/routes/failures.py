"""`GET /v1/failures`: what failed for good in a time, grouped by handler and error; the most frequent first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field
from starlette.responses import Response
from streammesh.clock import rfc3339_ms, to_ms
from streammesh.dead_letters import DeadLetter, DeadLetterFilter, DeadLetters
from streammesh.dead_letters.letters import LAST_MS, LetterPlace, parse
from streammesh.history import queries
from streammesh.redisio.turns import Turns

from services.api.caller import Caller
from services.api.dead_letter_documents import EXAMPLE_LETTER, DeadLetterDocument, letter_document, may_see
from services.api.documents import HISTORY_AWAY
from services.api.json_answer import in_turns
from services.api.merged_pages import is_away
from services.api.openapi import READ, answers, told
from services.api.schemas import Answer
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["dead letters"])
DAY_MS = 86_400_000
MOST_OF_ONE = 4_000  # letters of one service that are counted, the newest
COUNTING_SECONDS = 1.0  # of Redis, and again of the history
MOST_GROUPS = 1_000
PAGE = 500
_EXAMPLE: dict[str, Any] = {
    "service": "email_worker",
    "task": "email_worker.send_welcome",
    "kind": "Reject",
    "count": 120,
    "first_at": "2026-11-22T05:12:00.000Z",
    "last_at": "2026-11-22T06:00:00.091Z",
    "newest": EXAMPLE_LETTER,
}


class FailureGroup(Answer):
    """Failures of one handler with one class of error. `newest` is the last of them."""

    service: str
    task: str | None = Field(description="Null for what was no task of a handler.")
    kind: str = Field(description="Class of the error.")
    count: int
    first_at: str
    last_at: str
    newest: DeadLetterDocument


class Failures(Answer):
    """What failed, the most frequent first. Not `complete`: there was more than could be counted, older than this."""

    failures: list[FailureGroup]
    since: str
    counted: int
    complete: bool
    history_away: bool = HISTORY_AWAY


@router.get(
    "/v1/failures",
    summary="What failed for good, grouped by handler and error",
    response_model=Failures,
    responses=answers(
        *READ,
        _200=told(
            "The groups.",
            {
                "failures": [_EXAMPLE],
                "since": "2026-11-21T06:00:00.000Z",
                "counted": 120,
                "complete": True,
                "history_away": False,
            },
        ),
    ),
)
async def failures(
    request: Request,
    key: Caller,
    service: Annotated[str | None, Query(max_length=256)] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not older than this; else a day.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_GROUPS, description="Most groups.")] = 50,
) -> Response:
    """Of events that your key may read. With a history also those that were replayed or dropped since."""
    wiring = wiring_of(request)
    async with wiring.reading():
        seconds, micros = await wiring.redis.time()
        now = seconds * 1000 + micros // 1000
        begin = max(0, to_ms(since)) if since else now - DAY_MS
        wanted = DeadLetterFilter(service=service, since_ms=begin)
        counted = _Counted()
        if key.may_subscribe_to_any:
            turns = Turns()
            async for letter in _letters(wiring, wanted, counted):
                await turns.give()
                if may_see(key, letter):
                    counted.add(letter)
    groups = sorted(counted.groups.values(), key=lambda one: (-one.count, -one.newest.at_ms))
    return await in_turns(
        Failures(
            failures=[one.document() for one in groups[:limit]],
            since=rfc3339_ms(begin),
            counted=sum(one.count for one in groups),
            complete=counted.complete,
            history_away=is_away(wiring.history),
        )
    )


class _Group:
    def __init__(self, letter: DeadLetter) -> None:
        self.count, self.first_ms, self.newest = 0, letter.at_ms, letter

    def document(self) -> FailureGroup:
        one = self.newest
        return FailureGroup(
            service=one.service,
            task=one.task,
            kind=one.kind,
            count=self.count,
            first_at=_moment(self.first_ms),
            last_at=_moment(one.at_ms),
            newest=letter_document(one),
        )


class _Counted:
    """Letters by service, handler and class of error; each is counted once, in Redis and in the history alike."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, str | None, str], _Group] = {}
        self.complete = True
        self._seen: set[LetterPlace] = set()

    def add(self, letter: DeadLetter) -> None:
        if letter.place in self._seen:
            return
        self._seen.add(letter.place)
        name = letter.service, letter.task, letter.kind
        if name not in self.groups and len(self.groups) >= MOST_GROUPS:
            self.complete = False
            return
        group = self.groups.setdefault(name, _Group(letter))
        group.count += 1
        group.first_ms = min(group.first_ms, letter.at_ms)
        if letter.at_ms > group.newest.at_ms:
            group.newest = letter


async def _letters(wiring: Wiring, wanted: DeadLetterFilter, counted: _Counted) -> AsyncIterator[DeadLetter]:
    """Those of Redis, then those of the history, the newest first; of more than are counted only so many."""
    letters = DeadLetters(wiring.redis, wiring.keys)
    until = monotonic() + COUNTING_SECONDS
    for service in [wanted.service] if wanted.service else await letters.services():
        mine = 0
        async for letter in letters.walk(service, wanted):
            if mine >= MOST_OF_ONE or monotonic() > until:
                counted.complete = False
                break
            mine += 1
            yield letter
    if wiring.history is None:
        return
    before: LetterPlace | None = None
    until = monotonic() + COUNTING_SECONDS
    while monotonic() < until:
        question = partial(
            queries.list_letters,
            service=wanted.service,
            since=wanted.since_ms or 0,
            until=LAST_MS,
            before=before,
            most=PAGE,
        )
        records = await wiring.history.ask(question)
        for record in records:
            letter = parse(record.service, record.id, record.at, record.letter.encode())
            before = letter.place
            yield letter
        if len(records) < PAGE:
            return
    counted.complete = False


def _moment(ms: int) -> str:
    return rfc3339_ms(min(max(ms, 0), LAST_MS))
