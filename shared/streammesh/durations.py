"""Durations as they are written in settings, options and handlers: `15s`, `24h`, a number of seconds. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)?\s*$")


def parse_duration(value: object) -> object:
    """`"15s"`, `"24h"`, `"7d"`, `"500ms"` or a number of seconds as a timedelta; anything else unchanged.

    Raises ValueError for text that is none of these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        found = _DURATION.match(value)
        if not found:
            raise ValueError("should be a duration such as 15s, 30m, 24h or 7d")
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
    else:
        return value
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("is longer than any duration that can be counted") from None
