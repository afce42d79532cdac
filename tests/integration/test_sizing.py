"""`streammesh sizing`: what it reckons with is what rows take, and a day at 500 events/s fits 4 GB."""

from __future__ import annotations

import pytest
import typer
from streammesh.cli import memory_need as sizing

from tests.harness.moves import Moves

HOUR = 3_600


def test_a_day_at_500_events_a_second_fits_4_gb():
    assert sum(need.bytes for need in sizing.needs(500, 1, 200, HOUR / 6, 24 * HOUR)) <= 4e9


async def test_what_it_reckons_with_is_what_rows_take(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    ids = [f"01a2141f-b13d-7c7c-80e0-167c658f{n:04x}" for n in range(100)]
    for event_id in ids:
        moved = await moves.hand_over(event_id, {"n": 1, "text": "x" * 185})
        await moves.deliver()
        await moves.succeed(moved, (await moves.claim(moved)).attempt)
    keys, size = mesh_keys, lambda key: mesh_redis.memory_usage(key, samples=0)

    found = {
        "event": await size(keys.events("order")) / 100,
        "ended": await size(keys.tasks_recent()) / 100,
        "notification": await size(keys.notifications()) / await mesh_redis.xlen(keys.notifications()),
        "event row": await size(keys.event(ids[-1])),
        "task row": await size(keys.task(moved.ref.task_id)),
    }
    reckoned = dict(
        zip(
            found,
            (sizing.EVENT, sizing.ENDED, sizing.NOTIFICATION, sizing.EVENT_ROW, sizing.TASK_ROW),
            strict=True,
        )
    )
    for kind, taken in found.items():
        assert 0.5 * reckoned[kind] <= taken <= 1.35 * reckoned[kind], kind


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 1e30])
def test_a_rate_that_is_none_is_refused(rate, capsys):
    with pytest.raises(typer.Exit):
        sizing.sizing(rate, json=True)
    assert "--rate: should be at most" in capsys.readouterr().err
