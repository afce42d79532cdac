"""How the lines of subscriptions stand: who waits, who runs, whose turn is next, and what was set by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import redis.asyncio

from streammesh import lua
from streammesh.flow.limits import drop_ms, throttle_ms
from streammesh.keys import Keys
from streammesh.lua.flow import LookAtFlowScript, SetFlowScript
from streammesh.redisio.answers import there

LOOKS = 2_000  # members that one call looks at
SETTABLE = ("concurrency", "total", "throttle", "drop")


class KeyStanding(NamedTuple):
    """One key. `turn`: its place among the keys of which one could start, 0 for the next; None for none.

    `starts_ms`: when it may start again, by its rate or its quiet period; None for now.
    """

    key: str
    waiting: int
    running: int
    turn: int | None
    starts_ms: int | None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys, and where to go on (None at the end)."""

    keys: list[KeyStanding]
    next: str | None


@dataclass(frozen=True, slots=True)
class FlowStanding:
    """One subscription: tasks in line, tasks that have a place, tasks skipped and folded since it began, limits set by hand."""

    waiting: int = 0
    running: int = 0
    skipped: int = 0
    folded: int = 0
    slow: int = 0  # keys that wait for their rate, or for the end of their quiet period
    set: Mapping[str, Any] | None = None


def keys_call(keys: Keys, task: str, place: str | None, limit: int) -> lua.Call[KeyPage]:
    """`look_at_flow.lua`: the keys after a place. Raises ValueError for what is no place."""
    part, _, begin = (place or "line 2d").partition(" ")
    if part not in ("line", "places"):
        raise ValueError(f"{part!r:.20} is no part of a line")
    return LookAtFlowScript(
        line=keys.flow_line(task),
        places=keys.flow_places(task),
        ready=keys.flow_ready(task),
        slow=keys.flow_slow(task),
        part=part,
        begin=bytes.fromhex(begin),
        limit=limit,
        looks=LOOKS,
    ).call(_page)


def _page(answer: list[Any]) -> KeyPage:
    part, begin, *rest = answer
    found = [
        KeyStanding(
            key.decode("utf-8", "replace"),
            int(waiting),
            int(running),
            None if turn == b"" else int(turn),
            int(at) if at.isdigit() and len(at) < 15 else None,
        )
        for key, waiting, running, turn, at in zip(*[iter(rest)] * 5, strict=True)
    ]
    return KeyPage(found, f"{part.decode()} {begin.hex()}" if begin else None)


def set_call(keys: Keys, task: str, changes: Mapping[str, Any]) -> lua.Call[dict[str, Any]]:
    """`set_flow.lua`: set these limits (None: take it back); answers all that are set by hand."""
    told: dict[str, Any] = dict(changes)
    for name, as_ms in (("throttle", throttle_ms), ("drop", drop_ms)):
        if name in told:
            told[f"{name}_text"] = told[name]
            told[name] = None if told[name] is None else as_ms(told[name])
    return SetFlowScript(
        flow=keys.flow(task),
        flows=keys.flows(),
        name=task,
        changes=orjson.dumps(told),
        changed=keys.manifests_changed(),
    ).call(_set_by_hand)


def _set_by_hand(raw: bytes | None) -> dict[str, Any]:
    """What an operator set, as it was said; what cannot be read there does not count."""
    try:
        value = orjson.loads(raw or b"{}")
        found = {name: value.get(f"{name}_text", value.get(name)) for name in SETTABLE}
        return {name: one for name, one in found.items() if isinstance(one, int | str)}
    except (ValueError, AttributeError):
        return {}


async def read_standings(
    client: redis.asyncio.Redis, keys: Keys, tasks: Iterable[str] | None = None
) -> dict[str, FlowStanding]:
    """How these subscriptions stand, or all that have limits, by the names of their tasks."""
    if tasks is None:
        pipeline = client.pipeline(transaction=False)
        pipeline.smembers(keys.flows())
        [found] = await pipeline.execute(raise_on_error=False)
        tasks = sorted(name.decode("utf-8", "replace") for name in there(found, ()))
    tasks = list(tasks)
    pipeline = client.pipeline(transaction=False)
    for task in tasks:
        pipeline.zcard(keys.flow_line(task)).zcard(keys.flow_places(task)).zcard(keys.flow_slow(task))
        pipeline.hmget(keys.flow(task), "skipped", "folded", "set")
    answers = await pipeline.execute(raise_on_error=False) if tasks else []
    standings = {}
    for task, (line, places, slow, limits) in zip(tasks, zip(*[iter(answers)] * 4, strict=True), strict=True):
        skipped, folded, by_hand = there(limits, [None, None, None])
        standings[task] = FlowStanding(
            there(line, 0),
            there(places, 0),
            _count(skipped),
            _count(folded),
            there(slow, 0),
            _set_by_hand(by_hand),
        )
    return standings


def _count(raw: bytes | None) -> int:
    return int(raw) if raw and raw.isdigit() and len(raw) < 16 else 0


def key_of(flow: str) -> str:
    """The key in what a task's row says of its flow."""
    parts = flow.split("\0")
    return parts[1] if len(parts) == 3 else ""


async def before_in_line(
    client: redis.asyncio.Redis, keys: Keys, tasks: Mapping[str, str]
) -> dict[str, tuple[str, int]]:
    """The key of each of these tasks that waits in a line, and how many of that key are before it.

    `tasks`: id -> what its row says of its flow.
    """
    asked = {task_id: flow.split("\0") for task_id, flow in tasks.items() if flow.count("\0") == 2}
    pipeline = client.pipeline(transaction=False)
    for task_id, (name, key, rank) in asked.items():
        pipeline.zlexcount(keys.flow_line(name), f"[{key}\0", f"({key}\0{rank} {task_id}")
    answers = await pipeline.execute(raise_on_error=False) if asked else []
    return {
        task_id: (key, there(before, 0))
        for (task_id, (_, key, _)), before in zip(asked.items(), answers, strict=True)
    }
