"""How much one key may do: a token bucket per key, in the memory of this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from streammesh.api_keys import ApiKey
from streammesh.events.envelope import MAX_BATCH

from services.api.problems import Problem

MOST_BUCKETS = 10_000  # one per name of a key; names of revoked ones would stay for ever


class RateLimit:
    """Events a second. A full bucket always holds a whole batch, so that none is refused for ever."""

    def __init__(self, default: int, now: Callable[[], float] = monotonic) -> None:
        self._default, self._now = default, now
        self._buckets: dict[str, tuple[float, float]] = {}  # name -> (tokens, when)

    def spend(self, key: ApiKey, events: int) -> None:
        """Take tokens for `events`. Raises Problem (429, with `Retry-After`) when there are not enough."""
        rate = key.rate or self._default
        if not rate:
            return
        full = max(rate, MAX_BATCH)
        now = self._now()
        tokens, then = self._buckets.get(key.name, (full, now))
        tokens = min(full, tokens + (now - then) * rate)
        if tokens < events:
            wait = max(1, math.ceil((events - tokens) / rate))
            self._keep(key.name, tokens, now)
            raise Problem(
                "too-many-requests",
                f"The key {key.name!r} may publish {rate:,} events a second.",
                headers={"retry-after": str(wait)},
            )
        self._keep(key.name, tokens - events, now)

    def _keep(self, name: str, tokens: float, now: float) -> None:
        if name not in self._buckets and len(self._buckets) >= MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = (tokens, now)
