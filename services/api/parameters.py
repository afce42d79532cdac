"""Query parameters that a route does not know, or that come twice, are refused: a misspelt filter is no filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args, get_origin

from starlette.requests import HTTPConnection
from streammesh.clock import to_ms
from streammesh.errors import InvalidExpression
from streammesh.notifications import LAST_POSITION, check_where, position_key

from services.api.problems import Problem

SHOWN = 64  # characters of a name


async def only_known_parameters(request: HTTPConnection) -> None:
    """Raise Problem (400) for a query parameter that the request's route has no use for, or has twice."""
    if not request.scope["query_string"]:
        return
    known = dict(_names(request.scope["route"].dependant))
    wrong = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            wrong.append((name, f"is not known here; there are: {', '.join(sorted(known)) or 'none'}"))
        elif times > 1 and not known[name]:
            wrong.append((name, f"is given {times} times"))
    if wrong:
        errors = [{"parameter": name[:SHOWN], "in": "query", "detail": detail} for name, detail in wrong]
        name, detail = wrong[0]
        raise Problem("malformed-request", f"The query parameter {name[:SHOWN]!r} {detail}.", errors)


def whole_position(name: str, text: str, shards: int = 1) -> str:
    """Return a position in the stream of notifications, written in full. Raises Problem (400), which names `name`.

    Where there are several shards it may name a place in each, with commas between.
    """
    if shards > 1 and text.count(",") == shards - 1:
        return ",".join(whole_position(name, part) for part in text.split(","))
    try:
        ms, number = position_key(text)
    except ValueError as error:
        wrong = [{"parameter": name, "detail": str(error)}]
        raise Problem("malformed-request", f"{name}: {error}.", wrong) from None
    return f"{ms}-{number}"


def whole_where(text: str | None) -> str | None:
    """Return an expression over notifications, as it is. Raises Problem (400), which says at which character it is wrong."""
    try:
        if text is not None:
            check_where(text)
    except InvalidExpression as error:
        said = str(error)
        end = "" if said.endswith("?") else "."  # it may end with a question: did you mean data.total?
        raise Problem(
            "malformed-request", f"where: {said}{end}", [{"parameter": "where", "detail": said}]
        ) from None
    return text


def position_since(time: datetime, newest: str) -> str:
    """Return the position after which all is that was told since a time; not beyond the newest one."""
    before = max(0, to_ms(time)) - 1
    position = "0-0" if before < 0 else f"{before}-{LAST_POSITION}"
    return min(position, newest, key=position_key)


def _names(dependant: Any) -> Iterator[tuple[str, bool]]:
    """Each parameter's name, and whether it may come several times."""
    for parameter in dependant.query_params:
        options = (parameter.field_info.annotation, *get_args(parameter.field_info.annotation))
        yield parameter.alias, any(get_origin(option) is list for option in options)
    for inner in dependant.dependencies:
        yield from _names(inner)
