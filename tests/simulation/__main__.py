"""`python -m tests.simulation`: many schedules of every scenario, the controls, and the table of what was struck."""

from __future__ import annotations

import argparse
import os
import sys
import time

# Sets of text have an order that comes from the process unless this is fixed; a token must replay anywhere.
if os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

from tests.simulation import faults, sometimes
from tests.simulation.explorer import Finding, explore, replay
from tests.simulation.mutants import MUTANTS
from tests.simulation.portfolio import PORTFOLIO


def main() -> int:
    """Run as asked; the exit code is 1 when something was found, or a control was not."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="everything follows from it")
    parser.add_argument("--only", help="scenarios whose name has this in it")
    parser.add_argument("--replay", help="a token: play this one schedule of --only again")
    parser.add_argument("--no-controls", action="store_true", help="leave the controls out")
    wanted = parser.parse_args()
    chosen = [entry for entry in PORTFOLIO if not wanted.only or wanted.only in entry.name]
    if wanted.replay:
        print(replay(chosen[0].scenario(), wanted.replay))
        return 1
    began, found, done = time.monotonic(), 0, 0
    share = sum(entry.weight for entry in chosen)
    print(f"seed {wanted.seed}")
    for entry in chosen:
        runs = max(1, wanted.schedules * entry.weight // share)
        finding = explore(entry.name, entry.scenario(), runs, wanted.seed)
        done += finding.schedules if isinstance(finding, Finding) else runs
        if isinstance(finding, Finding):
            found += 1
            print(
                f"{entry.name}: FOUND after {finding.schedules} schedules\n  {finding.what}\n  {finding.again}"
            )
        else:
            print(f"{entry.name}: {runs} schedules, nothing found")
    missed = [] if wanted.no_controls or wanted.only else controls(wanted.seed)
    struck, cells, of = faults.table()
    never = sometimes.never_reached() if not wanted.only else []
    print(
        f"\nstruck: {struck} faults; {cells} of {of} pairs of script and fault ({100 * cells / max(of, 1):.0f} %)"
    )
    if never:
        print(f"never reached: {', '.join(never)}")
    seconds = time.monotonic() - began
    print(
        f"{done} schedules, {struck} faults, {found} findings, {len(missed)} controls missed, {seconds:.0f} s"
    )
    return int(bool(found or missed or never))


def controls(seed: int) -> list[str]:
    """Try each mutant; return the names of those that 500 schedules did not find."""
    missed = []
    for mutant in MUTANTS:
        with mutant.alive():
            finding = explore(mutant.name, mutant.scenario, 500, seed, shrink=False)
        if isinstance(finding, Finding):
            print(f"without {mutant.name}: found after {finding.schedules} schedules")
        else:
            print(f"without {mutant.name}: NOT FOUND")
            missed.append(mutant.name)
    return missed


if __name__ == "__main__":
    sys.exit(main())
