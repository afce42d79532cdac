"""The events that a load is made of, and what should come of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from streammesh.clock import rfc3339

Data = Callable[[random.Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of event: which tasks it becomes and how they end."""

    type: str
    tasks: Mapping[str, str]  # name -> the state in which it ends
    share: float = 0.0  # of a mixed load
    data: Data = lambda _: {}
    follows: str | None = None  # the type that every success of it publishes
    held: bool = False  # delivered a moment later
    workflow: bool = False
    attempts: int = 1  # runs of its handler when nothing goes wrong


def seconds(low: float, high: float) -> Data:
    """Data that tells a handler how long to take, at random between two numbers."""
    return lambda r: {"seconds": round(r.uniform(low, high), 3)}


NOTED = {"fault_async.note": "succeeded", "fault_sync.note": "succeeded"}
KINDS = (
    Kind("fault.noted", NOTED, 0.30),
    Kind("fault.noted", NOTED, 0.05, held=True),
    Kind("fault.slow", {"fault_async.slow": "succeeded"}, 0.16, seconds(0.01, 0.3)),
    Kind("fault.worked", {"fault_sync.work": "succeeded"}, 0.16, seconds(0.0, 0.04)),
    Kind("fault.flaky", {"fault_async.flaky": "succeeded"}, 0.10, attempts=2),
    Kind("fault.followed", {"fault_async.follow": "succeeded"}, 0.12, follows="fault.after"),
    Kind("fault.rejected", {"fault_async.reject": "failed"}, 0.03),
    Kind("fault.typed", {"fault_async.typed": "succeeded"}, 0.03),
    Kind("fault.woven", {"fault_sync.weave": "succeeded"}, 0.02, workflow=True),
    Kind("fault.unwanted", {}, 0.03),
)
FOLLOWING = Kind("fault.after", {"fault_sync.after": "succeeded"})
TICK = Kind("fault.ticked", {"fault_async.tick": "succeeded"})
BY_THE_MESH = {FOLLOWING.type, TICK.type}  # no publisher of the load sends these
BY_TYPE = {kind.type: kind for kind in (*KINDS[::-1], FOLLOWING, TICK)}
DELIVERIES = {name for kind in BY_TYPE.values() for name in kind.tasks}
HOLD = (0.3, 2.0)  # seconds for which a held event waits


def kind_of(name: str, share: float) -> Kind:
    """The kind of `fault.<name>` in another proportion."""
    return replace(BY_TYPE[f"fault.{name}"], share=share)


@dataclass(frozen=True, slots=True)
class Wish:
    """An event to be published."""

    id: str
    kind: Kind
    data: Mapping[str, Any]
    hold: float = 0.0

    def attributes(self) -> dict[str, Any]:
        """What stands beside `type` and `data`; a hold counts from now."""
        if not self.hold:
            return {}
        return {"deliverat": rfc3339(datetime.now(UTC) + timedelta(seconds=self.hold))}


def wishes(rng: random.Random, count: int, kinds: Sequence[Kind] = KINDS) -> list[Wish]:
    """`count` events in random order, each kind in proportion to its share."""
    whole = sum(kind.share for kind in kinds)
    numbers = [max(1, round(count * kind.share / whole)) for kind in kinds]
    numbers[0] += count - sum(numbers)
    made = [kind for kind, number in zip(kinds, numbers, strict=True) for _ in range(number)]
    rng.shuffle(made)
    run = f"{rng.getrandbits(40):010x}"
    return [
        Wish(f"{run}-{n}", kind, {"n": n, **kind.data(rng)}, rng.uniform(*HOLD) if kind.held else 0.0)
        for n, kind in enumerate(made)
    ]
