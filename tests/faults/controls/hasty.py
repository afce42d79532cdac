"""`python -m tests.faults.controls.hasty`: the dispatcher, acknowledging what it read before it hands it over."""

from __future__ import annotations

import asyncio

from streammesh.routed import RoutedBatch

from services.dispatcher import lanes
from services.dispatcher.__main__ import main
from services.dispatcher.lane import Batch, Lane
from services.dispatcher.router import EventRouter, RoutePlan
from tests.faults.controls.ungated import GATES, ROUTE_GATES, break_scripts

THOUGHT = 0.02  # seconds between the two


class HastyLane(Lane):
    """At most once, in two steps."""

    async def _act(self, batch: Batch) -> bool:
        """Acknowledge, then hand over."""
        for domain, plan in batch.plans.items():
            for handover in plan.handovers:
                await self._client.xack(self._keys.events(domain), self.service, handover.entry)
        await asyncio.sleep(THOUGHT)
        return await super()._act(batch)


class HastyRouter(EventRouter):
    """The same: the position is moved first."""

    async def _route(self, plan: RoutePlan) -> RoutedBatch:
        """Move on, then hand over."""
        if plan.handovers:
            place = self._keys.routed(plan.batch.domain)
            await self._client.hset(place, ":at", plan.handovers[-1].entry)
            await asyncio.sleep(THOUGHT)
        return await super()._route(plan)


if __name__ == "__main__":
    vars(lanes).update(Lane=HastyLane, EventRouter=HastyRouter)
    break_scripts({"handoff": GATES, "route": ROUTE_GATES})
    main()
