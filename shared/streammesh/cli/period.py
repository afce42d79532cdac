"""Times and rates as people write them after an option."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streammesh.cli.api_call import WRONG_USE, fail


def moment(text: str) -> str:
    """A time, or how long ago, as RFC 3339. Ends the command where it is neither."""
    from streammesh.durations import parse_duration

    try:
        span = parse_duration(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            fail(f"{text!r} is neither a time such as 2026-11-22T06:00 nor a duration such as 2h", WRONG_USE)
        return (at if at.tzinfo else at.astimezone()).isoformat()
    assert isinstance(span, timedelta)
    return (datetime.now(UTC) - span).isoformat()


def tasks_a_second(text: str) -> float:
    """A rate such as 50/s or 600/m. Ends the command where it is none."""
    number, _, unit = text.partition("/")
    seconds = {"": 1, "s": 1, "m": 60, "h": 3600}.get(unit)
    try:
        rate = float(number)
    except ValueError:
        rate = 0
    if not seconds or rate <= 0:
        fail(f"{text!r} is no rate such as 50/s or 600/m", WRONG_USE)
    return rate / seconds
