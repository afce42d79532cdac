"""What `/v1/dead-letters` takes and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from streammesh.api_keys import ApiKey
from streammesh.clock import to_ms
from streammesh.dead_letters import DeadLetter, DeadLetterFilter

from services.api.documents import HISTORY_AWAY
from services.api.schemas import EXAMPLE_EVENT, EXAMPLE_REF, EXAMPLE_TASK, Answer, EventRef, readable

MOST_AT_ONCE = 10_000


EXAMPLE_LETTER: dict[str, Any] = {
    "id": EXAMPLE_TASK,
    "service": "email_worker",
    "form": "task",
    "task": "email_worker.send_welcome",
    "event": EXAMPLE_REF,
    "reason": "mail.example.com refused ann@example.com at RCPT TO: 550 5.1.1 no such user here",
    "kind": "Reject",
    "attempts": 1,
    "at": "2026-11-22T06:00:00.091Z",
    "links": {"self": f"/v1/dead-letters/{EXAMPLE_TASK}", "task": f"/v1/tasks/{EXAMPLE_TASK}"},
}
EXAMPLE_WHOLE: dict[str, Any] = {
    **EXAMPLE_LETTER,
    "detail": "Traceback (most recent call last):\n  …",
    "envelope": EXAMPLE_EVENT,
    "raw": None,
}
EXAMPLE_REPLAYED: dict[str, Any] = {
    "dry_run": False,
    "matched": 120,
    "replayed": 119,
    "left": {"it is not there any more": 1},
    "more": False,
    "seconds": 2.38,
    "by": [{"service": "email_worker", "task": "email_worker.send_welcome", "kind": "Reject", "count": 120}],
}
EXAMPLE_DROPPED: dict[str, Any] = {
    name: value for name, value in EXAMPLE_REPLAYED.items() if name not in ("replayed", "left", "seconds")
} | {"dropped": 120}
CHOICES: dict[str, Any] = {
    "ids": {"value": {"ids": [EXAMPLE_TASK]}},
    "filter": {
        "value": {
            "filter": {"service": "email_worker", "reason": "refused", "since": "2026-11-22T00:00:00Z"},
            "dry_run": True,
        }
    },
    "all": {"summary": "Everything", "value": {"filter": {}}},
}


class LetterLinks(Answer):
    """Where to look at the letter, and at the task that it is of; null where it is of none."""

    self: str
    task: str | None


class DeadLetterDocument(Answer):
    """One piece of work that was given up.

    `form`: a `task` that ended without success; a queue `entry` that could not be read; a stream entry that is no
    `event`.
    """

    id: str
    service: str
    form: Literal["task", "entry", "event"]
    task: str | None
    event: EventRef | None
    reason: str
    kind: str
    attempts: int
    at: str
    links: LetterLinks


class WholeDeadLetter(DeadLetterDocument):
    """One letter with all that lies in it: `raw` is what could not be read as an event or a task."""

    detail: str = Field(description="A traceback, or where it lay.")
    envelope: dict[str, Any] | None = Field(description="The whole event, where it is there and can be read.")
    raw: dict[str, str] | None


class DeadLetterPage(Answer):
    """Dead letters, newest first; `next` is the cursor of the next page, null at the end."""

    dead_letters: list[DeadLetterDocument]
    next: str | None
    history_away: bool = HISTORY_AWAY


class Which(BaseModel):
    """Which letters are meant; what is not said is not asked."""

    model_config = ConfigDict(extra="forbid")

    service: str | None = Field(None, max_length=256)
    task: str | None = Field(None, description="Glob over the handler's name.", max_length=256)
    type: str | None = Field(None, description="Glob over the event's type.", max_length=256)
    kind: str | None = Field(None, description="Class of the error.", max_length=256)
    reason: str | None = Field(
        None, description="Part of the reason, in small or capital letters.", max_length=256
    )
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class Choice(BaseModel):
    """Letters by their ids, or by a filter; an empty filter is all of them."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] | None = Field(None, min_length=1, max_length=1_000)
    filter: Which | None = None
    dry_run: bool = Field(False, description="Only say what would be done.")
    limit: int = Field(1_000, ge=1, le=MOST_AT_ONCE, description="Most letters, the oldest first.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Choice:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("say either `ids` or `filter`")
        return self

    def wanted(self) -> DeadLetterFilter:
        """As the kit asks."""
        which = self.filter or Which()
        return DeadLetterFilter(
            service=which.service,
            task=which.task,
            type=which.type,
            kind=which.kind,
            reason=which.reason,
            since_ms=to_ms(which.since) if which.since else None,
            until_ms=to_ms(which.until) if which.until else None,
            ids=frozenset(self.ids or ()),
        )


class Replay(Choice):
    """Which letters are replayed, and how fast."""

    rate: float | None = Field(
        None, gt=0, le=100_000, description="Tasks started in a second; all at once else."
    )


class Group(Answer):
    """How many of one handler failed in one way."""

    service: str
    task: str | None
    kind: str
    count: int


class ReplayDone(Answer):
    """What was replayed; `left` says why others were not; `seconds` until the last one starts at this rate."""

    dry_run: bool
    matched: int
    replayed: int
    left: dict[str, int]
    more: bool
    seconds: float
    by: list[Group]


class Dropped(Answer):
    """What was dropped."""

    dry_run: bool
    matched: int
    dropped: int
    more: bool
    by: list[Group]


def may_see(key: ApiKey, letter: DeadLetter) -> bool:
    """Whether a key may read the event of a letter; one of no event is for keys that may read everything."""
    event_type = letter.event_type
    return key.may_subscribe_to_all if event_type is None else key.may_subscribe(event_type)


def letter_document(letter: DeadLetter) -> DeadLetterDocument:
    """One letter as it is listed."""
    return DeadLetterDocument(**_told(letter))


def whole_letter(letter: DeadLetter, content: Mapping[str, Any]) -> WholeDeadLetter:
    """One letter with what lies in it."""
    envelope = content.get("envelope")
    return WholeDeadLetter(
        **_told(letter),
        detail=letter.detail,
        envelope=envelope if isinstance(envelope, dict) else None,
        raw=content.get("raw"),
    )


def _told(letter: DeadLetter) -> dict[str, Any]:
    path = quote(letter.id, safe="")
    links = LetterLinks(
        self=f"/v1/dead-letters/{path}", task=f"/v1/tasks/{path}" if letter.form == "task" else None
    )
    return {**letter.to_dict(), "event": readable(EventRef, letter.event), "links": links}


def summary(letters: list[DeadLetter]) -> list[Group]:
    """How many of each handler and kind of error, the most first."""
    counted = Counter((letter.service, letter.task, letter.kind) for letter in letters)
    return [
        Group(service=service, task=task, kind=kind, count=count)
        for (service, task, kind), count in counted.most_common(20)
    ]
