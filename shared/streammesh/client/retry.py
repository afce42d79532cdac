"""When a call of the client is made again: which answers, after how long, until when."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

# 408 and 429 ask for it; the rest is said by an API or a proxy in front of it that could not answer.
RETRIED = frozenset((408, 429, 500, 502, 503, 504))
UNAVAILABLE = frozenset((502, 503, 504))
logging.getLogger("streammesh.client").addHandler(
    logging.NullHandler()
)  # a library speaks when its program logs
LONGEST_WAIT = 5.0  # seconds between two tries, where the API does not say


@dataclass(frozen=True, slots=True)
class Reconnect:
    """A stream of notifications broke; after `wait` seconds it is asked for again, for the `tries`-th time in a row."""

    reason: str
    tries: int
    wait: float
    after: str | None  # the position from which it goes on


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is waited for, in seconds; see MeshClient."""

    retry_for: float
    timeout: float
    silence: float
    reconnect_for: float | None


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, as a number or a date (RFC 9110, 10.2.3).

    None where it is not there or is neither.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


class Backoff:
    """The waits of one call: growing, with jitter, until `seconds` from now are over; None for ever."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.tries = 0  # in a row; set to 0 by whoever had something of use
        self.reached()

    def reached(self) -> None:
        """Give the time anew, since somebody answered."""
        self._end = None if self._seconds is None else monotonic() + self._seconds

    def wait(self, asked: float | None = None) -> float | None:
        """Return the seconds to wait before the next try; None when the time is over before.

        `asked` is what the API asked for: never tried earlier. A little is added, since all its clients heard the
        same.
        """
        self.tries += 1
        left = None if self._end is None else self._end - monotonic()
        if asked is not None and asked > 0:
            wait = asked + random.uniform(0, min(1.0, asked / 4))
            return wait if left is None or asked <= left else None
        wait = min(LONGEST_WAIT, 0.05 * 2.0 ** min(self.tries - 1, 10)) * (0.5 + random.random() / 2)
        if left is None:
            return wait
        return min(wait, left) if left > 0 else None
