"""`claim.lua`: who may start an attempt, and what a claim answers that is made again because its reply was lost."""

from __future__ import annotations

import pytest
from streammesh import lua, names

from tests.harness.moves import Moves


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


def claim(moves, moved, worker="worker@test:1"):
    return moves.ledger.claim(moved.ref, moved.place, worker)


async def test_the_same_call_made_again_answers_the_same_and_counts_once(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    call = claim(moves, moved)
    first = await lua.run(moves.redis, call)

    assert await lua.run(moves.redis, call) == first
    assert (first.verdict, first.attempt, first.lost) == ("run", 1, 0)
    assert (await moves.told()).count("task.started") == 1


async def test_another_claim_of_the_entry_is_a_takeover(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    await lua.run(moves.redis, claim(moves, moved))
    second = await lua.run(moves.redis, claim(moves, moved))
    third = await lua.run(moves.redis, claim(moves, moved, "worker@test:2"))

    assert [(c.attempt, c.lost) for c in (second, third)] == [(2, 1), (3, 2)]


async def test_the_mark_of_a_claim_says_nothing_to_another_worker(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    call = claim(moves, moved)
    await lua.run(moves.redis, call)
    other = claim(moves, moved, "worker@test:2")
    other = other._replace(args=(*other.args[:-1], call.args[-1]))

    assert (await lua.run(moves.redis, other)).attempt == 2


async def test_made_again_after_the_end_it_starts_nothing(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    call = claim(moves, moved)
    attempt = (await lua.run(moves.redis, call)).attempt
    assert await moves.succeed(moved, attempt) == "done"

    assert (await lua.run(moves.redis, call)).state == names.TaskState.SUCCEEDED
