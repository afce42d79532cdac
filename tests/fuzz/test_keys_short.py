"""The short form of the fuzz target `keys`, with a seed of its own; the long one runs with `make fuzz`."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import keys


async def test_after_garbage_in_a_dozen_keys_events_are_done_and_told_and_lists_are_answered(
    tmp_path: Path,
) -> None:
    tally = await keys.run(seed=8, seconds=60, folder=tmp_path / "mesh", most=12)

    assert tally.requests == 12
    assert tally.passed, tally
