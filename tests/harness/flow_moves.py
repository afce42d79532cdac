"""Moves of a service with flow control, and how its tasks stand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streammesh import lua
from streammesh.durable.calls import DurableCalls
from streammesh.lines.upkeep import Tended, tend_call
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.task import Failure, LedgerAnswer

from tests.harness.moves import Moved, Moves

NO_LUCK = Failure("no luck", "RuntimeError")


async def states(moves: Moves, *moved: Moved) -> list[str]:
    """The states of these tasks."""
    return [(await moves.row(one)).state.value for one in moved]


async def run(moves: Moves, moved: Moved) -> Any:
    """Begin a task that was queued."""
    moved.place = await moves.place(moved.ref.task_id)
    await moves.deliver()
    return await moves.claim(moved)


async def places(moves: Moves) -> list[str]:
    """The tasks that have a place."""
    found = await moves.redis.zrange(moves.keys.flow_places(moves.wants.task), 0, -1)
    return [member.decode().split("\0")[1] for member in found]


async def leftovers(moves: Moves) -> list[str]:
    """What is left of the flow but its limits."""
    _, *rest = moves.keys.of_a_flow(moves.wants.task)
    return [key for key in rest if await moves.redis.exists(key)]


async def tend(moves: Moves, declared: bytes | None = None, **how: Any) -> Tended:
    """Look after the subscription once, as a dispatcher does."""
    return await lua.run(moves.redis, tend_call(moves.keys, moves.wants.task, declared, **how))


async def three(moves: Moves) -> list[Moved]:
    """Hand over three of one key."""
    return [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]


async def promote(moves: Moves) -> None:
    """Move back what is due in the next minutes."""
    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + 100_000)


async def retry(moves: Moves, moved: Moved) -> LedgerAnswer:
    """Have its first attempt failed, and a next one made."""
    call = moves.ledger.retry_later(moved.ref, moved.place, 1, timedelta(0), NO_LUCK)
    return await lua.run(moves.redis, call)


async def suspend(moves: Moves, moved: Moved, attempt: int = 1, name: str = "signal:w") -> LedgerAnswer:
    """Have its handler wait for a signal, for a minute."""
    calls = DurableCalls(moves.keys, moves.settings)
    call = calls.suspend(moved.ref, moved.place, attempt, 1, name, 60, {"for": "signal"}, "")
    return await lua.run(moves.redis, call)
