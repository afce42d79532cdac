"""What every scenario is given, and the course that most of them take: load, trouble, quiet, check."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.arena import API_KEY, Arena
from tests.faults.checker import Findings, check
from tests.faults.load import Forgotten, History, Load, Sent
from tests.faults.mix import KINDS, Kind, wishes
from tests.faults.processes import Forks, Part
from tests.faults.report import Row
from tests.faults.sharded_arena import CLUSTER, ShardedArena
from tests.faults.witness import Facts

Trouble = Callable[[asyncio.Event], Awaitable[None]]
MOST_NAMED = 8  # things that were left when it should have been quiet


@dataclass(slots=True)
class Stage:
    """Where and how large a scenario is played."""

    forks: Forks
    folder: Path
    seed: int
    size: str  # short (in `make test`), quick or normal
    env: Mapping[str, str] = field(default_factory=dict)  # of every process
    shards: int = 1
    over: str = CLUSTER  # what they lie on

    def pick(self, **sizes: Any) -> Any:
        """The value for this size."""
        return sizes[self.size]

    def arena(self, *, fsync: str = "everysec", prefix: tuple[str, ...] = (), **env: str) -> Arena:
        """A mesh of this scenario's own; `prefix` is put before the server's command."""
        about: dict[str, Any] = {"fsync": fsync, "prefix": prefix, **self.env, **env}
        if self.shards > 1:
            return self.sharded_arena(self.over, **about)
        return Arena(self.forks, self.folder, self.seed, **about)

    def sharded_arena(self, over: str, **about: Any) -> ShardedArena:
        """A mesh of several shards, over a cluster, a server for each, or one."""
        return ShardedArena(self.forks, self.folder, self.seed, shards=self.shards, over=over, **about)


@dataclass(slots=True)
class Played:
    """How it went."""

    history: History
    facts: Facts
    findings: Findings
    settled: bool
    unsettled: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def row(self, name: str, kills: int, slowest: float, *, within: float | None = None) -> Row:
        """Its row: passed when nothing was lost or doubled, all became quiet, and nobody took longer than `within`."""
        remarks = list(self.remarks)
        if not self.settled:
            left = "; ".join(self.unsettled[:MOST_NAMED])
            remarks.append(f"it did not become quiet in time: {len(self.unsettled)} things left: {left}")
        if within is not None and slowest > within:
            remarks.append(f"the slowest took {slowest:.2f} s where {within:.1f} s are allowed")
        if self.findings.forgotten:
            remarks.append(
                f"{len(self.findings.forgotten)} things that the server itself forgot as it was killed"
            )
        if self.findings.repeated:
            remarks.append(f"{self.findings.repeated} runs of handlers were interrupted or done again")
        passed = self.findings.clean and self.settled and (within is None or slowest <= within)
        found = self.findings
        return Row(
            name, kills, found.events, len(found.lost), len(found.doubled), round(slowest, 3), passed, remarks,
            [*found.lost, *found.doubled],
        )  # fmt: skip


async def play(
    arena: Arena,
    count: int,
    seconds: float,
    trouble: Trouble,
    *,
    kinds: Sequence[Kind] = KINDS,
    strict: bool = False,
    patience: float = 60,
    gives_up: bool = True,
    also: Callable[[], list[Sent]] = list,
    forgetful: Sequence[Forgotten] = (),
) -> Played:
    """Publish `count` events within about `seconds` while `trouble` does what it does, wait for quiet, check.

    `trouble` is given an event that is set when all is published, and puts everything in order before it ends.
    `also` answers what others published meanwhile. `forgetful` are the times (filled in by `trouble`)
    before a server was killed that may have forgotten what it was told then.
    """
    rng = random.Random(arena.rng.getrandbits(64))
    load = Load(arena.url, API_KEY, rng, wishes(rng, count, kinds), seconds, gives_up=gives_up)
    published = asyncio.Event()

    async def publish() -> None:
        try:
            await load.run()
        finally:
            published.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        group.create_task(trouble(published))  # type: ignore[arg-type]
    load.history.sent += also()
    settled = await arena.settle(load.history, patience, forgetful)
    facts = await asyncio.to_thread(arena.facts)
    findings = check(load.history, facts, arena.runs(), strict=strict, kills=arena.kills, forgetful=forgetful)
    _write_findings(arena, findings)
    return Played(load.history, facts, findings, settled, arena.unsettled)


def _write_findings(arena: Arena, findings: Findings) -> None:
    """For who wants to know more than the table says."""
    lines = [f"lost: {text}" for text in findings.lost] + [f"doubled: {text}" for text in findings.doubled]
    (arena.folder / "findings.txt").write_text("".join(f"{line}\n" for line in lines))
    kills = [
        f"{kill.at:.3f} {kill.name} {kill.pid} {'alone' if kill.alone else 'whole'}\n" for kill in arena.kills
    ]
    (arena.folder / "kills.txt").write_text("".join(kills))


async def kill_in_turn(
    arena: Arena, parts: Sequence[Part], kills: int, seconds: float, published: asyncio.Event
) -> None:
    """SIGKILL one of `parts` at random and start it again, `kills` times, at random moments within `seconds`.

    Goes on after all is published until all kills are done.
    """
    mean = seconds / kills
    for _ in range(kills):
        await asyncio.sleep(arena.rng.uniform(0.0, 2 * mean))
        victim = arena.rng.choice(parts)
        await victim.kill()
        await victim.start()
