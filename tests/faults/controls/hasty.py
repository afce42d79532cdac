"""`python -m tests.faults.controls.hasty`: the dispatcher, acknowledging what it read before it hands it over."""

from __future__ import annotations

from collections.abc import Sequence

from streammesh import lua
from streammesh.streams.read import Entry

from services.dispatcher.__main__ import main
from services.dispatcher.lane import Lane
from tests.faults.controls.ungated import without_gates


class HastyLane(Lane):
    """At most once, in two steps."""

    async def hand_over(self, entries: Sequence[Entry]) -> int | None:
        """Acknowledge, then hand over."""
        for entry in entries:
            await self._client.xack(self._keys.events(entry.domain), self.service, entry.position)
        return await super().hand_over(entries)


if __name__ == "__main__":
    import services.dispatcher.lanes as lanes

    lanes.Lane = HastyLane  # type: ignore[misc]
    broken, whole = without_gates(lua.script("handoff")), lua.script
    lua.script = lambda name: broken if name == "handoff" else whole(name)  # type: ignore[assignment]
    main()
