"""What a team wrote with `Service.on`, read where it stands: durations, the filter, the place in its file. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from streammesh import names
from streammesh.durations import parse_duration
from streammesh.errors import InvalidManifest
from streammesh.flow.paths import ATTRIBUTES, EXTENSION
from streammesh.subscriptions.filters import Where, problems

Seconds = float | str | timedelta
_TASK = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class InvalidHandler(InvalidManifest, TypeError):
    """A handler or its options cannot be taken. The text begins with the file and line where it is written."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"{shown}:{self.line}"


def calling_place(depth: int = 2) -> SourceLine:
    """Return the line that called the caller's caller, `depth` frames up."""
    frame = sys._getframe(depth)
    return SourceLine(frame.f_code.co_filename, frame.f_lineno)


def refuse_while_importing(what: str, depth: int = 2) -> None:
    """Raise InvalidHandler where the caller's caller is a module that is being imported, not run."""
    frame = sys._getframe(depth)
    if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
        here = SourceLine(frame.f_code.co_filename, frame.f_lineno)
        raise InvalidHandler(
            f'{here}: {what} stands under `if __name__ == "__main__":`, else it runs at import'
        )


def place_of(function: Callable[..., Any], otherwise: SourceLine) -> SourceLine:
    """Return where a function is written."""
    code = getattr(function, "__code__", None)
    return SourceLine(code.co_filename, code.co_firstlineno) if code else otherwise


def duration(name: str, value: object, *, least: float = 0.0) -> timedelta:
    """Return a duration given as seconds, timedelta or text. Raises InvalidManifest for anything else.

    It is more than `least` seconds; with `least` below 0 also none at all.
    """
    wrong = InvalidManifest(
        f"{name}={value!r}: should be a duration of {'0 or more' if least < 0 else 'more than 0'} seconds:"
        " a number, a timedelta, or text such as '30s', '12h'"
    )
    try:
        span = parse_duration(value)
        if not isinstance(span, timedelta) or not least < span.total_seconds():
            raise wrong
    except (ValueError, OverflowError):  # no such text; not a number, or for ever
        raise wrong from None
    return span


def whole_number(name: str, value: object, least: int, most: int) -> int:
    """Return a whole number within bounds. Raises InvalidManifest for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidManifest(f"{name}={value!r}: should be a whole number from {least} to {most:,}")
    return value


def priority_of(value: object) -> tuple[int | None, str | None]:
    """Return a priority, and the path where it stands, of which one is None. Raises InvalidManifest."""
    if isinstance(value, str):
        if not value.startswith("data."):
            raise InvalidManifest(
                f"priority={value!r}: should be a whole number from 0 to 9, or a path such as 'data.weight'"
            )
        return None, value
    return None if value is None else whole_number("priority", value, 0, 9), None


def task_part(name: str) -> str:
    """Return the last part of a task's name. Raises InvalidManifest for one that cannot be."""
    if not isinstance(name, str) or not _TASK.fullmatch(name):
        raise InvalidManifest(f"name={name!r}: say name= with letters, digits and _, beginning with a letter")
    return name


def never_matching(where: Where, event_type: str) -> Iterator[str]:
    """Say of each path of a filter that no event at all can fit why it cannot, and what was probably meant."""
    if isinstance(where, str):
        yield from problems(where)
        return
    for path, condition in where.items():
        head, _, rest = path.partition(".")
        if head == "data":
            pass
        elif head not in ATTRIBUTES and not EXTENSION.fullmatch(head):
            yield f"where[{path!r}] can never match: no event has an attribute {head!r}; did you mean 'data.{path}'?"
        elif rest:
            yield f"where[{path!r}] can never match: {head!r} is an attribute, a plain value; did you mean 'data.{path}'?"
        elif head == "type" and isinstance(condition, str) and not names.matches(event_type, condition):
            yield f"where['type'] can never match: {condition!r} is not covered by {event_type!r}"
        if isinstance(condition, list | tuple) and not condition:
            yield f"where[{path!r}] can never match: an empty list fits nothing"


def filter_of(where: Where | None, event_type: str) -> dict[str, Any] | str:
    """Return a filter as it was written. Raises InvalidManifest for what is none, or what no event can fit."""
    if isinstance(where, str):
        for problem in problems(where):
            raise InvalidManifest(problem)
        return where
    if where is not None and not isinstance(where, Mapping):
        raise InvalidManifest(
            f"where={where!r:.80}: should be a dict of paths and conditions, or a text in CEL"
        )
    for problem in never_matching(where or {}, event_type):
        raise InvalidManifest(problem)
    return dict(where or {})


def seconds(name: str, value: Seconds | None) -> float | None:
    """Return a duration in seconds, None for none. Raises InvalidManifest for what is no duration."""
    return None if value is None else duration(name, value).total_seconds()


def former_names(service: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tasks that a handler's former names stood for. Raises InvalidManifest."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidManifest(f"formerly={given!r:.80}: should be a list of names that the handler had")
    return tuple(f"{service}.{task_part(one)}" for one in given)
