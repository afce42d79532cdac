"""The parameter `wait`: how long a caller will wait for an event's end."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs

from pydantic import TypeAdapter, ValidationError
from starlette.types import Scope
from streammesh.setting_kinds import Duration

from services.api.problems import Problem

MOST_SECONDS = 60.0
_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


def seconds_of(text: str | None, name: str = "wait", most: float = MOST_SECONDS) -> float:
    """Return what a parameter says; 0 for nothing. Raises Problem (400), which names it."""
    if text is None:
        return 0.0
    try:
        seconds = _DURATION.validate_python(text).total_seconds()
    except ValidationError:
        seconds = -1.0
    if not 0 <= seconds <= most:
        raise _wrong(f"should be a duration from 0s to {most:.0f}s, such as {min(most, 10):.0f}s", name)
    return seconds


def seconds_in(scope: Scope) -> float:
    """Return what it says in a request that the framework does not parse; 0 for nothing. Raises Problem (400)."""
    if not scope["query_string"]:
        return 0.0
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("wait", [])
    if len(asked) > 1:
        raise _wrong(f"is given {len(asked)} times")
    return seconds_of(asked[0]) if asked else 0.0


def _wrong(detail: str, name: str = "wait") -> Problem:
    wrong = [{"parameter": name, "in": "query", "detail": detail}]
    return Problem("malformed-request", f"{name}: {detail}.", wrong)
