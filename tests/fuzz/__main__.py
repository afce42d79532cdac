"""`make fuzz`: throw garbage at the mesh for some minutes; the last line says what came of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.fuzz import http_requests, keys, raw_sockets
from tests.fuzz.tally import Tally, together
from tests.harness.processes import ROOT

Target = Callable[[int, float, Path], Awaitable[Tally]]  # seed, seconds, an empty folder of its own
TARGETS: dict[str, Target] = {
    "keys": keys.run,
    "lists": keys.run_over_lists,
    "http": http_requests.run,
    "sockets": raw_sockets.run,
}
FOLDER = ROOT / "var" / "fuzz"


async def _play(name: str, seed: int, seconds: float) -> Tally:
    folder = FOLDER / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return await TARGETS[name](seed, seconds, folder)
    except Exception as error:
        return Tally(name, failures=[f"it broke off: {error!r}"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what random choices are made of (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long each target goes on (default 60)"
    )
    parser.add_argument(
        "--only", action="append", choices=list(TARGETS), metavar="NAME",
        help=f"this target only; may be repeated; one of {', '.join(TARGETS)}",
    )  # fmt: skip
    chosen = parser.parse_args()
    tallies = []
    for name in chosen.only or TARGETS:
        tally = asyncio.run(_play(name, chosen.seed, chosen.seconds))
        tallies.append(tally)
        for failure in tally.failures[:20]:
            print(f"  {name}, seed {chosen.seed}: {failure}")
        print(tally.line(), flush=True)
    total = together(tallies)
    print(total.line())
    sys.exit(0 if all(tally.passed for tally in tallies) else 1)


if __name__ == "__main__":
    main()
