"""`make bench`: measure the mesh and its peers in one run, print the table, write var/bench/latest.json."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks import (
    flatness,
    flow,
    front_door,
    history,
    idleness,
    latency,
    push,
    scale,
    shards,
    telemetry,
    throughput,
    webhooks,
)
from benchmarks.measuring import Results
from benchmarks.peers.beside import measure as measure_peer
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import NoEnvironment, environment
from benchmarks.targets import verdicts

LEAST = 50  # events of any measurement, however small the share


@dataclass(frozen=True)
class Part:
    """One part of the suite: our measurement, its size in a full run, and how often at most it is worth repeating."""

    ours: Callable[[Results, int], Awaitable[None]]
    size: int
    most_runs: int = 100
    by_name_only: bool = False  # it takes minutes, and is measured where it is asked for


PARTS: dict[str, Part] = {
    "publish": Part(front_door.publish, 10_000),
    "latency.low": Part(latency.low, 300),
    "latency.half": Part(latency.half, 5_000),
    "handoff.1p": Part(throughput.handoff, 60_000),
    **{name: Part(drain, 20_000) for name, drain in throughput.DRAINS.items()},
    "drain.telemetry": Part(telemetry.telemetry, 20_000, most_runs=3),
    "archive": Part(history.archive, 20_000),
    "bytes": Part(history.sizes, 5_000, most_runs=1),
    "memory.flat": Part(flatness.flat, 300_000, most_runs=1, by_name_only=True),
    "flow.fair": Part(flow.fair, 100_000, most_runs=1),
    "flow.throttle": Part(flow.throttle, 3_000, most_runs=1),
    "flow.keys": Part(flow.keys, 1_000_000, most_runs=1, by_name_only=True),
    "sleeping": Part(flow.sleeping, 100_000, most_runs=1),
    "idle": Part(idleness.idle, 20_000),
    "push.filters": Part(push.filters, 5_000, most_runs=3),
    "push.broadcast": Part(push.broadcast, 5_000, most_runs=3),
    "push.many": Part(push.many, 20_000, most_runs=1),
    "push.storm": Part(push.storm, push.BEHIND, most_runs=3),
    "push.slow": Part(push.slow, 1_000, most_runs=3),
    "scale.backlog": Part(scale.backlog, 1_000_000, most_runs=3),
    "webhooks": Part(webhooks.webhooks, 20_000),
    "scale.services": Part(scale.services, 50_000, most_runs=3),
    "scale.shards": Part(shards.shards, 8_000, most_runs=1),
    "schedules.late": Part(scale.schedules, 10_000, most_runs=3),
    "route.1of100": Part(scale.route, 20_000, most_runs=3),
}


@dataclass(frozen=True)
class Plan:
    """What one call of the suite measures."""

    parts: Mapping[str, Part]
    peers: Mapping[str, Path]  # name -> interpreter
    runs: int
    share: float

    async def measure(self, results: Results, console: Console) -> None:
        """Every part in turn, ours and directly after it every peer, and all of that again `runs` times.

        So a slow while of the machine falls on all alike.
        """
        for run in range(1, self.runs + 1):
            for name, part in self.parts.items():
                if run > part.most_runs:
                    continue
                began = time.monotonic()
                await part.ours(results, max(LEAST, int(part.size * self.share)))
                beside = [peer for peer in self.peers if name in PEERS[peer].sizes]
                for peer in beside:
                    try:
                        await measure_peer(results, PEERS[peer], self.peers[peer], name, self.share)
                    except (RuntimeError, TimeoutError) as error:
                        console.print(f"{peer} could not be measured at {name}: {error}")
                took = f"{time.monotonic() - began:.0f} s"
                console.print(
                    f"run {run} of {self.runs}: {name}, beside {', '.join(beside) or 'no peer'}: {took}"
                )


def environments(names: list[str], console: Console) -> dict[str, Path]:
    """The peers' interpreters; a peer that cannot be installed here is left out, and that is said."""
    found = {}
    for name in names:
        try:
            found[name] = environment(PEERS[name].environment)
        except NoEnvironment as error:
            console.print(f"left out: {error}")
    return found


def peers(text: str) -> list[str]:
    """`all`, `none`, or names with commas between them. Raises ArgumentTypeError."""
    chosen = {"all": list(PEERS), "none": []}.get(text) or [
        name for name in text.split(",") if name != "none"
    ]
    unknown = set(chosen) - set(PEERS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}"
        )
    return chosen


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured")
    parser.add_argument("--share", type=float, default=1.0, help="part of the full size, for a quick look")
    parser.add_argument(
        "--only", action="append", choices=sorted(PARTS), help="this part only; may be repeated"
    )
    parser.add_argument("--peers", type=peers, default="all", help="all, none, or names with commas between")
    parser.add_argument("--json", type=Path, default=Path("var/bench/latest.json"), help="where to write")
    chosen = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    results = Results()
    parts = {
        name: part
        for name, part in PARTS.items()
        if (name in chosen.only if chosen.only else not part.by_name_only)
    }
    plan = Plan(parts, environments(chosen.peers, console), chosen.runs, chosen.share)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(plan.measure(results, console))
    finally:
        results.show(console)
        for line in verdicts(results.as_measured()):
            console.print(line)
        results.write(chosen.json)
        console.print(f"written to {chosen.json}")


if __name__ == "__main__":
    main()
