"""Query parameters that a route does not know, or that come twice, are refused: a misspelt filter is no filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from starlette.requests import HTTPConnection
from streammesh.notifications import position_key

from services.api.problems import Problem

SHOWN = 64  # characters of a name


def only_known_parameters(request: HTTPConnection) -> None:
    """Raise Problem (400) for a query parameter that the request's route has no use for, or has twice."""
    if not request.scope["query_string"]:
        return
    known = set(_names(request.scope["route"].dependant))
    wrong = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            wrong.append((name, f"is not known here; there are: {', '.join(sorted(known)) or 'none'}"))
        elif times > 1:
            wrong.append((name, f"is given {times} times"))
    if wrong:
        errors = [{"parameter": name[:SHOWN], "in": "query", "detail": detail} for name, detail in wrong]
        name, detail = wrong[0]
        raise Problem("malformed-request", f"The query parameter {name[:SHOWN]!r} {detail}.", errors)


def whole_position(name: str, text: str) -> str:
    """Return a position in the stream of notifications, written in full. Raises Problem (400), which names `name`."""
    try:
        ms, number = position_key(text)
    except ValueError as error:
        wrong = [{"parameter": name, "detail": str(error)}]
        raise Problem("malformed-request", f"{name}: {error}.", wrong) from None
    return f"{ms}-{number}"


def _names(dependant: Any) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _names(inner)
