"""Which scenarios are tried, and how often relative to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import small
from tests.simulation.scenarios import Scenario, whole_mesh


@dataclass(frozen=True)
class Entry:
    """A scenario and its share of the schedules."""

    name: str
    scenario: Callable[[], Scenario]
    weight: int


PORTFOLIO = (
    Entry("two dispatchers", small.two_dispatchers, 30),
    Entry("publishing again", small.publishing_again, 20),
    Entry("one client resuming", small.one_client_resuming, 20),
    Entry("two beats", small.two_beats, 15),
    Entry("two workers", small.two_workers, 12),
    Entry("the whole mesh", whole_mesh, 3),
)
