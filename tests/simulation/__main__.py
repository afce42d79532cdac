"""`python -m tests.simulation`: many schedules of every scenario, the controls, and the table of what was struck."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import count
from multiprocessing import get_context

# Sets of text have an order that comes from the process unless this is fixed; a token must replay anywhere.
if os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

from tests.simulation import faults, mutants, sometimes, table
from tests.simulation.campaign import compare, controls, small_cases, try_all, write_tokens
from tests.simulation.explorer import parse, replay
from tests.simulation.portfolio import BY_NAME, PORTFOLIO


def main() -> int:
    """Run as asked; the exit code is 1 when something was found, a control was not, or the table has too many gaps."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many in all")
    parser.add_argument(
        "--hours", type=float, help="a soak: go on for so long, each 10,000 with the next seed"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()), help="everything follows from it")
    parser.add_argument(
        "--only", help="scenarios whose name has this in it; nothing is asked of the table then"
    )
    parser.add_argument("--replay", metavar="TOKEN", help="play one schedule again, and show its trace")
    parser.add_argument(
        "--without", metavar="CONTROL", default="", help="with --replay: the product without this safeguard"
    )
    parser.add_argument(
        "--tokens", action="store_true", help="write the tokens of what was found once anew, and end"
    )
    parser.add_argument(
        "--compared",
        type=int,
        default=8,
        help="schedules of each scenario that are played to real servers too",
    )
    parser.add_argument(
        "--no-small", action="store_true", help="leave out the small cases, tried exhaustively"
    )
    parser.add_argument("--no-controls", action="store_true", help="leave the controls out")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at once")
    wanted = parser.parse_args()
    if wanted.replay:
        name, aims, token = parse(wanted.replay)
        mutant = mutants.BY_NAME.get(wanted.without or name)
        scenario = mutant.scenario if mutant else BY_NAME[name].scenario()
        with mutant.alive() if mutant and wanted.without else nullcontext():
            found = replay(scenario, aims, token)
        print(found[1] if found else "nothing was found")
        return int(found is not None)
    if wanted.tokens:
        with ProcessPoolExecutor(wanted.processes, get_context("spawn")) as pool:
            missed = write_tokens(pool, wanted.seed)
        print(f"not found: {', '.join(missed)}" if missed else f"{mutants.TOKENS.name} is written")
        return int(bool(missed))
    until = time.monotonic() + (wanted.hours or 0) * 3600
    for seed in count(wanted.seed):
        if code := run(wanted, seed):
            return code
        if time.monotonic() >= until:
            return 0
    return 0


def run(wanted: argparse.Namespace, seed: int) -> int:
    """Run once with a seed; return the exit code."""
    began = time.monotonic()
    print(f"seed {seed}", flush=True)
    chosen = [entry for entry in PORTFOLIO if not wanted.only or wanted.only in entry.name]
    whole = not wanted.only
    with ProcessPoolExecutor(wanted.processes, get_context("spawn")) as pool:
        met = try_all(pool, chosen, wanted.schedules, seed)
        met_in_small = small_cases(pool) if whole and not wanted.no_small else []
        missed = controls(pool, seed) if whole and not wanted.no_controls else []
        wrong = pool.submit(compare, chosen, wanted.compared, seed).result() if wanted.compared else 0
    never = sometimes.never_reached(met.reached) if whole else []
    for line in table.lines(met):
        print(line)
    share = table.share(met)
    print(f"never reached: {', '.join(never)}" if never else f"{len(met.reached)} states were reached")
    seconds = time.monotonic() - began
    print(
        f"{met.schedules:,} schedules, {sum(met.struck.values()):,} faults, {100 * share:.1f} % of the table,"
        f" {len(met.findings)} findings, {len(missed)} controls missed, {wrong} answers otherwise than of real servers,"
        f" {seconds:,.0f} s"
    )
    enough = share >= table.WANTED or not whole or wanted.schedules < 10_000
    return int(
        bool(met.findings or met_in_small or missed or wrong or (never and wanted.schedules >= 1_000))
        or not enough
    )


if __name__ == "__main__":
    faults.know_scripts()
    sys.exit(main())
