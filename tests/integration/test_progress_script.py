"""How far a delivery is never goes back, in whatever order the parts of its workflow end."""

from __future__ import annotations

import orjson
import pytest
from streammesh import lua

from tests.harness.moves import Moves


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


async def test_the_fraction_told_and_kept_is_the_largest_so_far_and_the_text_is_the_newest(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    for fraction, text in [
        (0.25, "part 1"),
        (0.35, "part 2"),
        (0.25, 'late "part" é'),
        (1e-05, ""),
        (1, "end"),
    ]:
        call = moves.ledger.progress(moved.ref, attempt, fraction, text)
        assert await lua.run(moves.redis, call) == "done"

    told = [
        orjson.loads(b"{%b}" % fields[b"b"])["data"]
        for _, fields in await moves.redis.xrange(moves.keys.notifications())
        if fields[b"t"] == b"task.progress"
    ]

    assert [(one["progress"], one["text"]) for one in told] == [
        (0.25, "part 1"), (0.35, "part 2"), (0.35, 'late "part" é'), (0.35, ""), (1, "end"),
    ]  # fmt: skip
    assert orjson.loads(await moves.redis.hget(moves.keys.task(moved.ref.task_id), "progress")) == told[-1]


async def test_a_worker_that_lost_the_task_says_nothing(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    await moves.claim(moved)

    assert await lua.run(moves.redis, moves.ledger.progress(moved.ref, 7, 0.5, "")) == "lost"
