"""Lists that the API answers page by page, and the times that commands take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from streammesh.cli.api_call import WRONG_USE, fail

if TYPE_CHECKING:
    from rich.text import Text

    from streammesh.client import MeshClient

MOST_PAGES = 200  # that are asked for: what is rare is looked for among a million or so


async def read_pages(
    mesh: MeshClient, path: str, query: dict[str, Any], member: str, limit: int, page: int
) -> tuple[list[dict[str, Any]], bool]:
    """The first `limit` items of a list, and whether all of it was looked through or the limit was come to."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    given = {name: str(value) for name, value in query.items() if value is not None}
    for _ in range(MOST_PAGES):
        asked = {**given, "limit": str(min(page, max(1, limit - len(found))))}
        answer = await mesh.get(path, asked | ({"cursor": cursor} if cursor else {}))
        found += [{**one, **more} for one, more in zip(answer[member], _beside(answer), strict=False)]
        cursor = answer["next"]
        if cursor is None or len(found) >= limit:
            return found[:limit], True
    return found, False


def _beside(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What a page of events says of each of them beside it."""
    beside = [{"standing": one} for one in answer.get("standings", ())]
    return beside or [{}] * 10_000


def moment(text: str) -> str:
    """A time as `2026-11-22T06:00`, or so long ago as `2h`; as the API takes it. Ends the command for anything else."""
    from streammesh.durations import parse_duration

    try:
        span = parse_duration(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            fail(f"{text!r} is neither a time such as 2026-11-22T06:00 nor a duration such as 2h", WRONG_USE)
        return (found if found.tzinfo else found.astimezone()).isoformat()
    assert isinstance(span, timedelta)
    return (datetime.now(UTC) - span).isoformat()


def column_lines(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Text]:
    """Rows below a heading, each on one line however long it is, so that ids can be copied."""
    from rich.text import Text

    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for number, row in enumerate([heads, *rows]):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        lines.append(Text("  ".join(cells).rstrip(), style="" if number else "bold"))
    return lines
