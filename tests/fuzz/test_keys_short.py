"""The short form of the fuzz target `keys`, with a seed of its own; the long one runs with `make fuzz`."""

from __future__ import annotations

from tests.fuzz import keys


async def test_after_garbage_in_forty_keys_events_are_done_and_told_and_lists_are_answered(tmp_path):
    tally = await keys.run(seed=8, seconds=60, folder=tmp_path / "mesh", most=40)

    assert tally.requests == 40
    assert tally.passed, tally
