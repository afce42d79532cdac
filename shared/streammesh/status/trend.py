"""How what waits, and what Redis holds, change from one look at the mesh to the next. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streammesh.status.snapshot import ServiceState, Snapshot

WINDOW_SECONDS = 60.0  # over which a rate is told
LEAST_SECONDS = 0.5  # two looks that are nearer to each other tell nothing
MOST_LOOKS = 120


@dataclass(frozen=True, slots=True)
class Trend:
    """A number that changes: `per_second`, and in how many seconds it will have come to its end; None: not known."""

    per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    memory: int
    backlogs: Mapping[str, int]  # of each service whose backlog was counted to its end


class Trends:
    """The looks of the last minute."""

    def __init__(self) -> None:
        self._looks: deque[_Moment] = deque(maxlen=MOST_LOOKS)

    def note(self, at: float, found: Snapshot) -> None:
        """Keep a look of the moment `at`, in seconds of a clock that never goes back."""
        while self._looks and at - self._looks[0].at > WINDOW_SECONDS:
            self._looks.popleft()
        backlogs = {one.service: backlog_of(one) for one in found.services if one.lag_exact}
        self._looks.append(_Moment(at, found.redis.memory, backlogs))

    def spans(self, seconds: float) -> bool:
        """Whether there are looks that lie so far apart."""
        return bool(self._looks) and self._looks[-1].at - self._looks[0].at >= seconds

    def backlog(self, service: str) -> Trend:
        """How fast a service's backlog falls (below 0: grows), and when it will be gone at that rate."""
        looks = [look for look in self._looks if service in look.backlogs]
        if not looks or looks[-1] is not self._looks[-1]:
            return Trend()
        first, last = looks[0], looks[-1]
        left = last.backlogs[service]
        if last.at - first.at < LEAST_SECONDS:
            return Trend(None, 0.0 if left == 0 else None)
        falls = (first.backlogs[service] - left) / (last.at - first.at)
        return Trend(falls, 0.0 if left == 0 else left / falls if falls > 0 else None)

    def memory(self, limit: int) -> Trend:
        """How fast Redis's memory grows, and when it will have come to `limit` bytes (0: there is none)."""
        if not self._looks:
            return Trend()
        first, last = self._looks[0], self._looks[-1]
        full = 0.0 if limit and last.memory >= limit else None
        if last.at - first.at < LEAST_SECONDS:
            return Trend(None, full)
        grows = (last.memory - first.memory) / (last.at - first.at)
        if full is None and limit and grows > 0:
            full = (limit - last.memory) / grows
        return Trend(grows, full)


def backlog_of(state: ServiceState) -> int:
    """Events that were not handed over to a service, and tasks in its queue, running ones included."""
    return state.lag + state.queued
