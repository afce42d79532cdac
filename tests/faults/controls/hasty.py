"""`python -m tests.faults.controls.hasty`: the dispatcher, acknowledging what it read before it hands it over."""

from __future__ import annotations

import asyncio

from streammesh import lua
from streammesh.lua import signature
from streammesh.lua.tasks import HandoffScript

from services.dispatcher import lanes
from services.dispatcher.__main__ import main
from services.dispatcher.lane import Batch, Lane
from tests.faults.controls.ungated import without_gates

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


if __name__ == "__main__":
    vars(lanes)["Lane"] = HastyLane
    broken, whole = without_gates(HandoffScript.script()), lua.script
    vars(signature)["script"] = lambda name: broken if name == "handoff" else whole(name)
    main()
