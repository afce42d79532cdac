"""A backfill of a mesh of any number of shards: one in each under the same id, told of as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streammesh import names
from streammesh.backfill.record import COUNTS, LISTED, Backfill, Backfills, BackfillState


class BackfillParts:
    """As `Backfills`, over all shards. What it does in one after the other may be done again after a failure."""

    def __init__(self, parts: Sequence[Backfills]) -> None:
        self._parts = parts

    async def begin(
        self,
        service: str,
        pattern: str,
        since_ms: int,
        before_ms: int | None,
        rate: float | None,
        by: str,
        *,
        again: Sequence[str] = (),
        task: str = "*",
    ) -> Backfill:
        """Begin one in every shard, each at its share of the rate; where one refuses, those begun before are stopped.

        Raises UnknownService, and BackfillRunning where the service has another one in any of them.
        """
        count, id = len(self._parts), names.new_id()
        begun: list[Backfill] = []
        try:
            for part in self._parts:
                # The first says until when, where nobody does: it is the same time in all of them.
                before = begun[0].before if begun else before_ms
                share = None if rate is None else rate / count
                begun.append(
                    await part.begin(
                        service, pattern, since_ms, before, share, by, id, again=again, task=task
                    )
                )
        except Exception as error:
            why = f"another shard did not begin it: {error}"
            for part in self._parts[: len(begun)]:
                await part.stop(id, service, why)
            raise
        return joined(begun, count)

    async def get(self, backfill_id: str) -> Backfill | None:
        """Return one as all shards have it; None where none knows it."""
        found = [one for part in self._parts if (one := await part.get(backfill_id)) is not None]
        return joined(found, len(self._parts)) if found else None

    async def newest(self) -> list[Backfill]:
        """Return all that are known, the newest first."""
        by_id: dict[str, list[Backfill]] = {}
        for part in self._parts:
            for one in await part.newest():
                by_id.setdefault(one.id, []).append(one)
        found = [joined(some, len(self._parts)) for some in by_id.values()]
        if len(self._parts) > 1:
            found.sort(key=lambda one: one.created, reverse=True)
        return found[:LISTED]

    async def stop(self, backfill_id: str, service: str, reason: str) -> None:
        """Stop it in every shard. What it handed over stays."""
        for part in self._parts:
            await part.stop(backfill_id, service, reason)


def joined(parts: Sequence[Backfill], shards: int) -> Backfill:
    """Return the parts of one backfill as one: it runs while any does, is stopped where any was, and counts are added.

    Where whoever began it was killed in between, some shards have no part of it: it says so.
    """
    first = parts[0]
    if shards == 1:
        return first
    reason = next((one.reason for one in parts if one.reason), "")
    if len(parts) < shards and not reason:
        reason = f"only {len(parts)} of {shards} shards began it; begin another when this has ended"
    states = {one.state for one in parts}
    state = next(
        one for one in (BackfillState.RUNNING, BackfillState.STOPPED, BackfillState.DONE) if one in states
    )
    running = [one for one in parts if one.state is BackfillState.RUNNING]
    ended = [one.ended for one in parts if one.ended is not None]
    return replace(
        first,
        state=state,
        rate=None if first.rate is None else sum(one.rate or 0.0 for one in parts),
        position=min((one.position for one in running or parts), key=lambda place: place.at),
        ended=None if running else max(ended, default=None),
        reason=reason,
        waits=next((one.waits for one in running if one.waits), ""),
        parts=tuple(one.fraction for one in parts),
        **{name: sum(getattr(one, name) for one in parts) for name in COUNTS},
    )
