"""Rates as people write them after an option."""

from __future__ import annotations

from streammesh.cli.api_call import WRONG_USE, fail


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
