"""What a backfill would do, counted without doing it: so many events and a few seconds at most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streammesh.backfill.page_plan import PagePlanner, SoughtDeliveries
from streammesh.backfill.past import Past
from streammesh.backfill.places import before
from streammesh.subscriptions.manifest import Delivery, Routes
from streammesh.tasks.handoff import Encoded

MOST_EVENTS, MOST_SECONDS, PAGE = 100_000, 10.0, 500


@dataclass(slots=True)
class Forecast:
    """How many events it would look at and tasks it would make; `more`: it was not counted to the end.

    What its service is being given in its own time is counted too.
    """

    events: int = 0
    tasks: int = 0
    known: int = 0
    left_out: int = 0
    more: bool = False

    def __add__(self, other: Forecast) -> Forecast:
        """Return what both count together."""
        return Forecast(
            self.events + other.events,
            self.tasks + other.tasks,
            self.known + other.known,
            self.left_out + other.left_out,
            self.more or other.more,
        )


def not_encoded(delivery: Delivery, envelope: bytes, priority: int) -> Encoded:
    """In place of an encoder, where nothing is queued."""
    return Encoded(delivery, "", (), b"")


async def forecast(
    past: Past,
    planner: PagePlanner,
    routes: Routes,
    which: SoughtDeliveries,
    since_ms: int,
    *,
    most_events: int = MOST_EVENTS,
    most_seconds: float = MOST_SECONDS,
) -> Forecast:
    """Count. Raises HistoryAway."""
    found, place = Forecast(), before(max(1, since_ms))
    until = asyncio.get_running_loop().time() + most_seconds
    while True:
        page = await past.page(place)
        plan = await planner.plan(past, page, routes, which, PAGE * 1_000)
        found.events += plan.seen
        found.tasks += plan.tasks
        found.known += plan.known
        found.left_out += plan.left_out
        if plan.ends is None:
            return found
        if found.events >= most_events or asyncio.get_running_loop().time() > until:
            found.more = True
            return found
        place = plan.ends
