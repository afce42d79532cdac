"""Looks after the lines of subscriptions with flow control: the caller of `tend_flow.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.flow import TendFlowScript

MOST_STARTED = 100  # by one call: it holds the server up for a few milliseconds
PAGE = 200  # keys in line, and places, that one call looks at
BEGIN = b"-"  # where looking at a line begins


class Tended(NamedTuple):
    """What one call did. `line_at`, `places_at`: where to look on, empty at the end."""

    started: int
    more: bool
    line_at: bytes
    places_at: bytes
    freed: int
    mended: int


def tend_call(
    keys: Keys,
    task: str,
    declared: bytes | None = None,
    *,
    line_from: bytes = b"",
    places_from: bytes = b"",
    tasks: Sequence[str] = (),
) -> lua.Call[Tended]:
    """`tend_flow.lua` for the subscription of a task. `declared`: limits of its manifest, `b"{}"` for none any more."""
    return TendFlowScript(
        flow=keys.flow(task),
        flows=keys.flows(),
        due=keys.due(),
        due_entries=keys.due_entries(),
        name=task,
        declared=declared or "",
        most=MOST_STARTED,
        line_from=line_from,
        places_from=places_from,
        page=PAGE,
        tasks=tasks,
    ).call(_tended)


def _tended(answer: list[Any]) -> Tended:
    started, more, line_at, places_at, freed, mended = answer
    return Tended(int(started), bool(more), line_at, places_at, int(freed), int(mended))
