"""The fuzz target over HTTP for a second; `make fuzz` goes on for minutes."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import http_requests


async def test_a_second_of_garbage_is_answered_well(tmp_path: Path) -> None:
    tally = await http_requests.run(11, 1.0, tmp_path)

    assert tally.passed, tally.failures
