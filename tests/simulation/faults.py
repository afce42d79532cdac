"""Faults at every command: which, where, how often; and the table of what was struck how."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import detangle
from streammesh import lua

from tests.simulation.determinism import skew
from tests.simulation.server import Command
from tests.simulation.sometimes import declare, sometimes

KINDS = (
    *("die before", "die after", "reply lost", "short freeze", "long freeze", "restart"),
    *("NOSCRIPT", "OOM", "READONLY", "LOADING", "clock step"),
)
REFUSALS = {
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
}
READS = {
    "XRANGE",
    "XREVRANGE",
    "XINFO",
    "XLEN",
    "ZRANGE",
    "HGETALL",
    "TIME",
    "PING",
    "XREAD",
    "SMEMBERS",
    "HLEN",
}
SHAKES_HANDS = {"HELLO", "CLIENT", "SUBSCRIBE", "UNSUBSCRIBE", "SELECT", "AUTH"}
coverage: Counter[tuple[str, str]] = Counter()
seen: Counter[str] = Counter()
scripts: dict[bytes, str] = {}
declare(*(f"a process met: {kind}" for kind in KINDS))


def name_of(command: Command) -> str:
    """Return what a command is called in the table: the script's name for a script."""
    verb = command[0].decode().upper()
    if verb in {"EVAL", "EVALSHA"}:
        return scripts.get(command[1], "script ?")
    return verb


def know_scripts() -> None:
    """Learn the names of the kit's scripts by their text and their SHA-1."""
    from importlib import resources

    for file in resources.files(lua).iterdir():
        if file.name.endswith(".lua") and not file.name.startswith("_"):
            script = lua.script(file.name.removesuffix(".lua"))
            scripts[script.sha.encode()] = scripts[script.text] = script.name


@dataclass
class Striker:
    """Strikes hosts' commands, `budget` times in one schedule at most; `spared` hosts never."""

    budget: int
    crash: Callable[[str], None]
    restart: Callable[[], Awaitable[None]]
    kinds: tuple[str, ...] = KINDS
    one_in: int = 12
    spared: frozenset[str] = frozenset()
    short: float = 0.1
    long: float = 3.0
    struck: int = 0
    frozen: dict[str, float] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    background: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __call__(
        self, host: str, command: Command, act: Callable[[], Awaitable[bytes]]
    ) -> bytes | None:
        """Let the command through, or let one fault happen at it. None: the connection breaks without an answer."""
        name = name_of(command)
        seen[name] += 1
        until = self.frozen.get(host, 0.0)
        if until > detangle.now():
            await asyncio.sleep(until - detangle.now())
        # The last choice is "nothing", first in order, so that shrinking takes faults away.
        if self.struck >= self.budget or host in self.spared or name in SHAKES_HANDS:
            return await act()
        if not detangle.flip(1 / self.one_in):
            return await act()
        kind = detangle.choice(self.kinds)
        self.struck += 1
        coverage[name, kind] += 1
        sometimes(f"a process met: {kind}")
        self.history.append(f"{detangle.now():.3f} {host}: {kind} at {name}")
        return await self._strike(kind, host, command, act)

    async def _strike(
        self, kind: str, host: str, command: Command, act: Callable[[], Awaitable[bytes]]
    ) -> bytes | None:
        name = name_of(command)
        if kind == "die before":
            self.crash(host)
            return None
        if kind in {"short freeze", "long freeze"}:
            seconds = self.short if kind == "short freeze" else self.long
            self.frozen[host] = detangle.now() + seconds
            await asyncio.sleep(seconds)
            return await act()
        if kind == "clock step":
            skew[host] = detangle.choice([-3600.0, 3600.0, -5.0, 5.0])
            return await act()
        if kind == "restart":
            task = asyncio.get_running_loop().create_task(self.restart())
            self.background.add(task)
            task.add_done_callback(self.background.discard)
            return None
        if kind == "NOSCRIPT":
            return b"-NOSCRIPT No matching script.\r\n" if command[0].upper() == b"EVALSHA" else await act()
        if kind in REFUSALS:
            return REFUSALS[kind] if name not in READS or kind == "LOADING" else await act()
        await act()
        if kind == "die after":
            self.crash(host)
        return None  # and "reply lost"


def table() -> tuple[int, int, int]:
    """Return how many faults struck, how many pairs of a script that ran and a kind were met, and of how many."""
    ran = {name for name in seen if name in set(scripts.values())}
    met = {(name, kind) for name, kind in coverage if name in ran}
    return sum(coverage.values()), len(met), len(ran) * len(KINDS)
