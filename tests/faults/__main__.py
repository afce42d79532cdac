"""`make faults`: play the scenarios, print the table, write var/faults/latest.json; exit code 1 if any row failed."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from streammesh.durations import parse_duration

from tests.faults.processes import Forks
from tests.faults.report import Row, show, together, write
from tests.faults.scenarios import (
    api_kills,
    archiver_kills,
    backfills,
    beats,
    cancels,
    clock_steps,
    cluster_failover,
    cut_connections,
    disk,
    dispatcher_kills,
    durable,
    flow,
    folds,
    memory_full,
    mixed,
    negative_controls,
    pairs,
    poisoned,
    reconnects,
    redis_faults,
    rolling,
    shard_troubles,
    shards,
    silent_connections,
    upgrade,
    webhooks,
    worker_kills,
)
from tests.faults.sharded_arena import CLUSTER, OVER
from tests.faults.stage import Stage
from tests.harness.processes import ROOT

Scenario = Callable[[Stage], Awaitable[Row]]
SCENARIOS: dict[str, Scenario] = {
    "mixed": mixed.run,
    "dispatcher": dispatcher_kills.run,
    "worker": worker_kills.run,
    "threads": worker_kills.in_threads,
    "worker-lease": worker_kills.with_the_lease_of_production,
    "api": api_kills.run,
    "archiver": archiver_kills.run,
    "backfill": backfills.run,
    "rolling": rolling.run,
    "upgrade": upgrade.run,
    "redis-everysec": redis_faults.restarts_everysec,
    "redis-always": redis_faults.restarts_always,
    "redis-paused": redis_faults.pauses,
    "memory-full": memory_full.run,
    "refusals": redis_faults.refusals,
    "disk-cut": disk.cut,
    "disk-full": disk.full,
    "disk-bit": disk.bit,
    "cluster": cluster_failover.run,
    "connections": cut_connections.run,
    "silent": silent_connections.run,
    "reconnects": reconnects.run,
    "webhooks": webhooks.killed,
    "dead-urls": webhooks.dead_urls,
    "durable": durable.run,
    "pairs": pairs.run,
    "shards": shards.run,
    "flow": flow.run,
    "fold": folds.run,
    "cancels": cancels.run,
    "beats": beats.run,
    "poison": poisoned.run,
    "clock": clock_steps.run,
    "ungated": negative_controls.ungated,
    "hasty": negative_controls.hasty,
}
# Of a mesh of several shards. What is about one server, its disk and its memory is not among them, as each shard has a
# server of its own; nor is what sets up a mesh of its own.
WITH_SHARDS: dict[str, Scenario] = {
    **{
        name: SCENARIOS[name]
        for name in (
            "mixed",
            "dispatcher",
            "worker",
            "threads",
            "worker-lease",
            "api",
            "rolling",
            "webhooks",
            "durable",
            "cancels",
            "pairs",
            "beats",
            "clock",
        )
    },
    "failover": shard_troubles.failover,
    "moved-slot": shard_troubles.moved_slot,
    "sentinel": shard_troubles.sentinel,
    "one-away": shard_troubles.one_away,
    **{name: SCENARIOS[name] for name in ("shards", "ungated", "hasty")},
}
LONG_SEEDS = {"dispatcher": 4, "worker": 4, "durable": 8, "ungated": 1, "hasty": 1}  # of the long form
OTHERS_LONG_SEEDS = 2
FOLDER = ROOT / "var" / "faults"


@dataclass(frozen=True, slots=True)
class Course:
    """How each scenario is played."""

    size: str
    shards: int
    over: str

    @property
    def scenarios(self) -> Mapping[str, Scenario]:
        """All that can be played so."""
        return SCENARIOS if self.shards == 1 else WITH_SHARDS

    def stage(self, forks: Forks, name: str, seed: int) -> Stage:
        """Where one is played."""
        suffix = "" if self.shards == 1 else f"-{self.shards}-shards"
        return Stage(
            forks, FOLDER / f"{name}-{seed}{suffix}", seed, self.size, shards=self.shards, over=self.over
        )


async def play_all(
    names: Sequence[str], course: Course, first: int, long: bool, console: Console
) -> list[Row]:
    """The scenarios one after the other, each with its seeds, which begin at `first`."""
    rows = []
    async with Forks() as forks:
        for name in names:
            played = []
            seeds = range(first, first + (LONG_SEEDS.get(name, OTHERS_LONG_SEEDS) if long else 1))
            for seed in seeds:
                played.append(await _play(course, course.stage(forks, name, seed), name, console))
            rows.append(together(played, seeds))
    return rows


async def soak(
    names: Sequence[str], course: Course, first: int, seconds: float, console: Console
) -> list[Row]:
    """Play the scenarios again and again, each round with the next seed, for so long; the first failure ends it."""
    until, seed = time.monotonic() + seconds, first
    played: dict[str, list[Row]] = {name: [] for name in names}
    async with Forks() as forks:
        while time.monotonic() < until:
            for name in names:
                if time.monotonic() >= until:
                    break
                stage = course.stage(forks, name, seed)
                played[name].append(await _play(course, stage, name, console))
                if not played[name][-1].passed:
                    until = 0.0
                else:
                    shutil.rmtree(stage.folder, ignore_errors=True)
            seed += 1
    return [together(rows, range(first, first + len(rows))) for rows in played.values() if rows]


async def _play(course: Course, stage: Stage, name: str, console: Console) -> Row:
    began = time.monotonic()
    try:
        row = await course.scenarios[name](stage)
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
        "--quick", action="store_const", const="quick", dest="size", help="small, in about four minutes"
    )
    size.add_argument(
        "--long", action="store_true",
        help="in about half an hour: the dispatcher's and the workers' kills with four seeds (at least 1,000 and 300"
        f" kills), everything else with {OTHERS_LONG_SEEDS}, the controls with one",
    )  # fmt: skip
    parser.add_argument(
        "--soak", type=parse_duration, metavar="2h",
        help="go on for so long (90m, 2h), round after round, each with the next seed, until something fails",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="what random choices are made of (default 1)")
    parser.add_argument(
        "--only", action="append", choices=list({**SCENARIOS, **WITH_SHARDS}), metavar="NAME",
        help=f"this scenario only; may be repeated; one of {', '.join(SCENARIOS)};"
        f" with shards of {', '.join(WITH_SHARDS)}",
    )  # fmt: skip
    parser.add_argument(
        "--shards", type=int, default=1, choices=range(1, 9), metavar="N",
        help="play those that can be in a mesh of N shards, by default on a cluster of N primaries and N replicas",
    )  # fmt: skip
    parser.add_argument(
        "--over", choices=OVER, default=CLUSTER,
        help="what the shards lie on: a cluster, a server for each, or one server (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, default=FOLDER / "latest.json", help="where to write the rows")
    chosen = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    course = Course(chosen.size or "normal", chosen.shards, chosen.over)
    names = chosen.only or list(course.scenarios)
    if unfit := [name for name in names if name not in course.scenarios]:
        parser.error(f"not with --shards {course.shards}: {', '.join(unfit)}")
    if chosen.soak:
        rows = asyncio.run(soak(names, course, chosen.seed, chosen.soak.total_seconds(), console))
    else:
        rows = asyncio.run(play_all(names, course, chosen.seed, chosen.long, console))
    show(console, rows)
    write(chosen.json, rows)
    console.print(f"written to {chosen.json}", highlight=False)
    sys.exit(0 if all(row.passed for row in rows) else 1)


if __name__ == "__main__":
    main()
