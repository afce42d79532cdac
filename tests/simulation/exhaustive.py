"""The small cases exhaustively, within a bound: every single fault, of every kind, at every command; and every single
change of the order in which tasks run. What runs is otherwise asyncio's own order, with the shortest latencies.

That is some 7,000 schedules. Two deviations together would be some millions; for those there is chance (`explorer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import detangle
from detangle._choices import DATA, SCHED, Decision
from detangle.strategies import Strategy

from tests.simulation import small
from tests.simulation.explorer import OPTIONS, quietly, to_its_end
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.scenarios import Scenario
from tests.simulation.world import World

KINDS_HERE = tuple(kind for kind in KINDS if kind != FORGETS)
CASES: dict[str, Scenario] = {
    "2 dispatchers, 3 events": small.two_dispatchers(budget=1, kinds=KINDS_HERE),
    "2 workers, 2 tasks": small.two_workers(budget=1, kinds=KINDS_HERE),
    "1 client resuming, 2 events": small.one_client_resuming(budget=1, events=2, kinds=KINDS_HERE),
    "2 Beats, 2 ticks": small.two_beats(budget=1, kinds=KINDS_HERE),
}


@dataclass(frozen=True)
class Part:
    """What one process tries: deviations whose position has this remainder."""

    remainder: int = 0
    of: int = 1


class OneAfterAnother(Strategy):
    """Each sequence of choices with at most one deviation: a fault with its kind is one, another task first is one.

    A fault is two choices, whether and which; the second is free after the first.
    """

    name = "one deviation"

    def __init__(self, part: Part) -> None:
        self._part = part
        self._plan: list[tuple[int, int, int]] = []  # position, value there, value after it
        self._forced: dict[int, int] = {}
        self._position = 0
        self._begun = self._over = False

    def start(self, run_index: int) -> None:
        """Begin a schedule: the first without a deviation, each other with the next one."""
        self._position = 0
        self._forced = {}
        if self._begun:
            position, value, then = self._plan.pop()
            self._forced = {position: value, position + 1: then}

    def _next(self, n: int) -> int:
        value = min(self._forced.get(self._position, 0), n - 1)
        self._position += 1
        return value

    def schedule(self, lanes: Sequence[Any]) -> int:
        """Return which task runs next."""
        return self._next(len(lanes))

    def choose(self, n: int, kind: str) -> int:
        """Return a choice."""
        return self._next(n)

    def flip(self, p: float, kind: str) -> bool:
        """Return whether something with a probability happens."""
        return bool(self._next(2))

    def finish(self, decisions: Sequence[Decision], failed: bool) -> None:
        """Plan all deviations from the first schedule."""
        if self._begun:
            return
        self._begun = True
        for position, decision in enumerate(decisions):
            if position % self._part.of != self._part.remainder:
                continue
            if decision.kind == SCHED:
                self._plan += [(position, other, 0) for other in range(1, decision.n)]
            elif decision.kind == DATA and decision.n == 2:
                self._plan += [(position, 1, which) for which in range(len(KINDS_HERE))]

    @property
    def exhausted(self) -> bool:
        """Whether all were tried."""
        return self._begun and not self._plan


def enumerate_all(name: str, part: Part) -> tuple[int, str]:
    """Try all of a case; return how many schedules that were, and what was found."""
    World.aims = ()
    strategy = OneAfterAnother(part)
    with quietly():
        try:
            stats = detangle.explore(
                to_its_end(CASES[name]),
                runs=10**9,
                strategy=strategy,
                shrink=False,
                database=False,
                **OPTIONS,
            )
        except detangle.BugFound as bug:
            return bug.report.runs, f"{bug.report.failure.headline()} {bug.report.token}"
    return stats.runs, ""
