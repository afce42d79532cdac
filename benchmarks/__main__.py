"""`make bench`: run the suite, print the table, write var/bench/latest.json."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks import front_door, throughput
from benchmarks.measuring import Results

Part = Callable[[Results, int], Awaitable[None]]
PARTS: dict[str, tuple[Part, int]] = {  # name, and the size of a full run
    "publish": (front_door.publish, 10_000),
    "latency": (front_door.latency, 300),
    "handoff": (throughput.handoff, 60_000),
    "drain": (throughput.drains, 20_000),
}


async def measure(results: Results, names: list[str], runs: int, share: float, console: Console) -> None:
    """Every part, `runs` times, in turn, so that a change of the machine's speed falls on all alike."""
    for n in range(1, runs + 1):
        for name in names:
            part, size = PARTS[name]
            began = time.monotonic()
            await part(results, max(100, int(size * share)))
            console.print(f"run {n} of {runs}: {name} took {time.monotonic() - began:.1f} s")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured")
    parser.add_argument("--share", type=float, default=1.0, help="part of the full size, for a quick look")
    parser.add_argument(
        "--only", action="append", choices=sorted(PARTS), help="this part only; may be repeated"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("var/bench/latest.json"), help="where to write the figures"
    )
    chosen = parser.parse_args()
    console, results = Console(highlight=False), Results()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(results, chosen.only or list(PARTS), chosen.runs, chosen.share, console))
    results.show(console)
    results.write(chosen.json)
    console.print(f"written to {chosen.json}")


if __name__ == "__main__":
    main()
