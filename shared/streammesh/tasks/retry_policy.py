"""When to try again: exponential backoff with full jitter. Pure.

Full jitter as in the AWS Architecture Blog, "Exponential Backoff and Jitter" (2015): it spreads a
crowd of failures best for the least total work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a delivery is retried and how long it waits in between."""

    retries: int = 5
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)

    def delay(self, attempt: int, random: float) -> timedelta:
        """The wait after attempt number `attempt` (from 1) failed; `random` is in [0, 1).

        A tenth of the ceiling is kept as the least wait, so that no retry comes at once.
        """
        ceiling = min(self.cap.total_seconds(), self.base.total_seconds() * 2.0 ** min(attempt - 1, 32))
        return timedelta(seconds=ceiling * (0.1 + 0.9 * random))

    def gives_up(self, attempt: int) -> bool:
        """Whether attempt number `attempt` (from 1) was the last one allowed."""
        return attempt > self.retries
