"""`make faults`: play the scenarios, print the table, write var/faults/latest.json; exit code 1 if any row failed."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.faults.processes import Forks
from tests.faults.report import Row, show, together, write
from tests.faults.scenarios import (
    api_kills,
    beats,
    clock_steps,
    cut_connections,
    dispatcher_kills,
    mixed,
    negative_controls,
    poisoned,
    redis_faults,
    rolling,
    worker_kills,
)
from tests.faults.stage import Stage
from tests.harness.processes import ROOT

Scenario = Callable[[Stage], Awaitable[Row]]
SCENARIOS: dict[str, Scenario] = {
    "mixed": mixed.run,
    "dispatcher": dispatcher_kills.run,
    "worker": worker_kills.run,
    "api": api_kills.run,
    "rolling": rolling.run,
    "redis-everysec": redis_faults.restarts_everysec,
    "redis-always": redis_faults.restarts_always,
    "redis-paused": redis_faults.pauses,
    "connections": cut_connections.run,
    "beats": beats.run,
    "poison": poisoned.run,
    "clock": clock_steps.run,
    "ungated": negative_controls.ungated,
    "hasty": negative_controls.hasty,
}
CONTROLS = ("ungated", "hasty")  # once is enough
LONG = 4  # seeds
FOLDER = ROOT / "var" / "faults"


async def play_all(names: Sequence[str], size: str, seeds: Sequence[int], console: Console) -> list[Row]:
    """The scenarios one after the other, each with every seed."""
    rows = []
    async with Forks() as forks:
        for name in names:
            played = []
            for seed in seeds[:1] if name in CONTROLS else seeds:
                played.append(await _play(Stage(forks, FOLDER / f"{name}-{seed}", seed, size), name, console))
            rows.append(together(played, seeds[: len(played)]))
    return rows


async def _play(stage: Stage, name: str, console: Console) -> Row:
    began = time.monotonic()
    try:
        row = await SCENARIOS[name](stage)
    except Exception as error:
        console.print_exception()
        row = Row(name, 0, 0, 0, 0, 0.0, False, [f"it broke off: {error!r}"])
    if row.passed:
        shutil.rmtree(
            stage.folder / "redis", ignore_errors=True
        )  # what a failed run wrote is kept to be looked at
    console.print(
        f"{name}, seed {stage.seed}: {'passed' if row.passed else 'FAILED'} after {time.monotonic() - began:.0f} s"
        f" ({row.kills:,} kills, {row.events:,} events, {row.lost} lost, {row.doubled} doubled)",
        highlight=False,
    )
    return row


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_const", const="quick", dest="size", help="small, in about three minutes"
    )
    size.add_argument("--long", action="store_true", help=f"with {LONG} seeds, one after the other")
    parser.add_argument("--seed", type=int, default=1, help="what random choices are made of (default 1)")
    parser.add_argument(
        "--only", action="append", choices=list(SCENARIOS), metavar="NAME",
        help=f"this scenario only; may be repeated; one of {', '.join(SCENARIOS)}",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, default=FOLDER / "latest.json", help="where to write the rows")
    chosen = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    seeds = range(chosen.seed, chosen.seed + (LONG if chosen.long else 1))
    rows = asyncio.run(play_all(chosen.only or list(SCENARIOS), chosen.size or "normal", seeds, console))
    show(console, rows)
    write(chosen.json, rows)
    console.print(f"written to {chosen.json}", highlight=False)
    sys.exit(0 if all(row.passed for row in rows) else 1)


if __name__ == "__main__":
    main()
