"""Many schedules of many scenarios, and the controls, in several processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.simulation import mutants, table
from tests.simulation.exhaustive import CASES, Part, enumerate_all
from tests.simulation.explorer import Finding, Met, explore, record
from tests.simulation.playback import CannotPlay, build_clock, differences, real_server, servers
from tests.simulation.portfolio import BY_NAME, Entry, recordable

ROUNDS = 8  # after each it is looked at anew which pairs are still to be met
MOST_FOR_A_CONTROL = 500
PARTS = 16  # of a small case, for the processes


def try_all(pool: ProcessPoolExecutor, chosen: list[Entry], schedules: int, seed: int) -> Met:
    """Try schedules of each scenario, in rounds; what one round met, the next one knows."""
    weights = sum(entry.weight for entry in chosen)
    runs = {entry.name: max(1, schedules * entry.weight // weights) for entry in chosen}
    met, found = Met(), set()
    for number in range(ROUNDS):
        jobs = []
        for entry in chosen:
            share = runs[entry.name] * (number + 1) // ROUNDS - runs[entry.name] * number // ROUNDS
            if share and entry.name not in found:
                jobs.append(pool.submit(job, entry.name, share, seed * ROUNDS + number, met))
        for one in [future.result() for future in jobs]:
            met.add(one)
            for finding in one.findings:
                found.add(finding.scenario)
                print(f"{finding.scenario}: FOUND after {finding.schedules} schedules: {finding.what}")
                print(f"  make simulate ARGS='--replay {finding.token}'", flush=True)
        so_far = f"{met.schedules:,} schedules, {100 * table.share(met):.1f} % of the table"
        print(f"round {number + 1} of {ROUNDS}: {so_far}", flush=True)
    return met


def job(name: str, runs: int, seed: int, met: Met) -> Met:
    """Try schedules of one scenario, in a process of the pool."""
    return explore(name, BY_NAME[name].scenario(), runs, seed, met)


def small_cases(pool: ProcessPoolExecutor) -> list[str]:
    """Try the small cases exhaustively within the bound; return in which something was found."""
    jobs = {
        name: [pool.submit(enumerate_all, name, Part(number, PARTS)) for number in range(PARTS)]
        for name in CASES
    }
    found = []
    for name, parts in jobs.items():
        answers = [part.result() for part in parts]
        tried = (
            sum(runs for runs, _ in answers) - PARTS + 1
        )  # each part begins with the one without a deviation
        wrong = [what for _, what in answers if what]
        print(f"{name}: {tried:,} schedules, each with one deviation, {len(wrong)} findings", flush=True)
        for what in wrong[:3]:
            print(f"  {what}", flush=True)
        found += [name] if wrong else []
    return found


def compare(chosen: list[Entry], each: int, seed: int) -> int:
    """Play `each` schedules of every scenario to the real servers of this machine; return how many answers differ."""
    wrong = 0
    with TemporaryDirectory() as name:
        try:
            clock = build_clock(Path(name))
        except CannotPlay as error:
            print(f"not compared with real servers: {error}")
            return 0
        tapes = [record(recordable(entry), f"{seed}:{n}") for entry in chosen for n in range(each)]
        for server, program in servers().items():
            compared = 0
            with real_server(program, clock, Path(name) / server) as running:
                for tape in tapes:
                    answers, found = differences(tape, running)
                    compared += answers
                    wrong += len(found)
                    for line in found[:3]:
                        print(f"{server}: {line}", flush=True)
            version = running.version
            print(
                f"{len(tapes)} schedules played to {server} {version}: {compared:,} answers compared",
                flush=True,
            )
    return wrong


def controls(pool: ProcessPoolExecutor, seed: int) -> list[str]:
    """Try each mutant; return the names of those that were not found."""
    jobs = {name: pool.submit(control, name, seed) for name in mutants.CONTROLS}
    missed = []
    for name, future in jobs.items():
        found = future.result()
        after = f"found after {found.schedules} schedules" if found else "NOT FOUND"
        print(f"without {name}: {after}", flush=True)
        missed += [] if found else [name]
    return missed


def control(name: str, seed: int) -> Finding | None:
    """Return what was found without one safeguard; None when it was not missed."""
    mutant = mutants.BY_NAME[name]
    with mutant.alive():
        met = explore(name, mutant.scenario, MOST_FOR_A_CONTROL, seed, shrink=False)
    return met.findings[0] if met.findings else None


def write_tokens(pool: ProcessPoolExecutor, seed: int) -> list[str]:
    """Write the tokens of what was found once and mended anew; return the names of what was not found."""
    jobs = {mutant.name: pool.submit(control, mutant.name, seed) for mutant in mutants.MENDED}
    found = {name: future.result() for name, future in jobs.items()}
    lines = [f"{name}\t{finding.token}\n" for name, finding in found.items() if finding]
    mutants.TOKENS.write_text("".join(lines))
    return [name for name, finding in found.items() if not finding]
