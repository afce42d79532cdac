"""What the mesh is meant to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict


class Measured(TypedDict):
    """One figure as `latest.json` has it; `value` is the median of `runs`."""

    name: str
    system: str
    value: float
    unit: str
    runs: list[float]


OURS = "streammesh"


@dataclass(frozen=True)
class Target:
    """At least or at most so much; for rates also at least so many times the best peer."""

    name: str
    least: float | None = None
    most: float | None = None
    times_best_peer: float | None = None
    times: float | None = None  # at least so many times another figure of ours
    other: str = ""

    @property
    def text(self) -> str:
        """As people read it."""
        if self.times is not None:
            return f"≥ {self.times:g} × {self.other}"
        said = f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:g}"
        return f"{said} and ≥ {self.times_best_peer:g} × the best peer" if self.times_best_peer else said

    def verdict(self, ours: float, best_peer: float | None, other: float | None = None) -> str:
        """`met`, or by how much it is missed; `other`: what the figure it is measured by came to."""
        missed = []
        if self.times and other and ours < self.times * other:
            missed.append(f"{ours / other:.2f} × {self.other}")
        if self.least is not None and ours < self.least:
            missed.append(f"{1 - ours / self.least:.0%} below")
        if self.most is not None and ours > self.most:
            missed.append(f"{ours / self.most - 1:.0%} above")
        if self.times_best_peer and best_peer and ours < self.times_best_peer * best_peer:
            missed.append(f"{ours / best_peer:.2f} × the best peer")
        return "missed: " + ", ".join(missed) if missed else "met"


TARGETS = (
    Target("drain.noop.async.2p", least=8_000, times_best_peer=1.5),
    Target("drain.noop.async.1p", least=4_000),
    Target("drain.noop.sync.2p", least=2_500, times_best_peer=1.2),
    Target("drain.noop.prefork.2p", least=2_500, times_best_peer=1.5),
    Target("drain.io10ms.1p", least=4_000),
    Target("steps.2p", least=4_000),
    Target("steps.2p", times=0.33, other="drain.noop.async.2p"),
    Target("drain.flow.async.2p", times=0.7, other="drain.noop.async.2p"),
    Target("flow.fair.p99", most=2),
    Target("flow.throttle.error", most=2),
    Target("flow.keys.waiting", most=300),
    Target("flow.keys.idle", most=0),
    Target("sleeping.bytes", most=1_536),
    Target("sleeping.held", most=0),
    Target("drain.metrics", least=0.97),
    Target("drain.traces", least=0.9),
    Target("handoff.1p", least=15_000),
    Target("publish.http.single", least=4_000),
    Target("publish.http.batch", least=40_000),
    Target("webhooks", least=1_000),
    Target("latency.low.p50", most=8),
    Target("latency.low.p99", most=20),
    Target("scale.backlog.ratio", most=1.1),
    Target("scale.shards.cpu", most=1.1),
    Target("scale.shards.publish", least=0.85),
    Target("scale.shards.handoff", least=0.85),
    Target("scale.shards.drain", least=0.85),
    Target("route.1of100.ratio", most=2),
    Target("schedules.late.2p.p99", most=2_000),
    Target("memory.flat.ratio", most=1.05),
    Target("idle.cpu", most=3),
    Target(
        "idle.redis", most=60
    ),  # 40 while a queue was one stream; ten priorities are ten streams to look at
)


def best_peer(measured: Sequence[Measured], target: Target) -> Measured | None:
    """The peer that does best at what the target is about; None where no peer was measured."""
    beside = [m for m in measured if m["name"] == target.name and m["system"] != OURS]
    if not beside:
        return None
    return (max if target.least is not None else min)(beside, key=lambda m: m["value"])


def of_ours(measured: Sequence[Measured]) -> Mapping[str, Measured]:
    """The mesh's own figures by name."""
    return {m["name"]: m for m in measured if m["system"] == OURS}


def verdicts(measured: Sequence[Measured]) -> list[str]:
    """A line for each target that was measured."""
    ours, lines = of_ours(measured), []
    for target in TARGETS:
        if target.name in ours:
            peer, other = best_peer(measured, target), ours.get(target.other)
            said = target.verdict(
                ours[target.name]["value"], peer["value"] if peer else None, other["value"] if other else None
            )
            lines.append(f"{target.name}: {target.text}: {said}")
    return lines
