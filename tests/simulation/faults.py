"""Faults at every command: which, where, how often; and the table of what was struck how."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import detangle
from streammesh import lua

from tests.simulation.determinism import skew
from tests.simulation.server import Command, SimulatedServer
from tests.simulation.sometimes import declare, sometimes

KINDS = (
    *("die before", "die after", "reply lost", "short freeze", "long freeze", "restart"),
    *("last second lost", "NOSCRIPT", "OOM", "READONLY", "LOADING", "clock step"),
)
FORGETS = "last second lost"
REFUSALS = {
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
}
# What a server without room, or a replica, refuses beside scripts.
WRITES = {
    *(
        "XADD",
        "XACK",
        "XDEL",
        "XTRIM",
        "XGROUP",
        "XCLAIM",
        "XAUTOCLAIM",
        "XREADGROUP",
        "SET",
        "DEL",
        "EXPIRE",
    ),
    *("HSET", "HDEL", "ZADD", "ZREM", "ZREMRANGEBYSCORE", "SADD", "SREM"),
}
SHAKES_HANDS = {"HELLO", "CLIENT", "SUBSCRIBE", "UNSUBSCRIBE", "SELECT", "AUTH"}
coverage: Counter[tuple[str, str]] = Counter()  # (script or command, kind) -> how often it was struck
seen: Counter[str] = Counter()  # scripts and commands that a fault could have struck
scripts: dict[bytes, str] = {}
Aim = tuple[str, str]  # a script, and the kind of fault that is wanted there
declare(*(f"a process met: {kind}" for kind in KINDS))


def name_of(command: Command) -> str:
    """Return what a command is called in the table: the script's name for a script."""
    verb = command[0].decode().upper()
    if verb in {"EVAL", "EVALSHA"}:
        return scripts.get(command[1], "script ?")
    return verb


def know_scripts() -> None:
    """Learn the names of the kit's scripts by their text and their SHA-1."""
    for module in pkgutil.iter_modules(lua.__path__, f"{lua.__name__}."):
        importlib.import_module(
            module.name
        )  # what scripts take is declared there, and is a part of their text
    for file in resources.files(lua).iterdir():
        if file.name.endswith(".lua") and not file.name.startswith("_"):
            script = lua.script(file.name.removesuffix(".lua"))
            scripts[script.sha.encode()] = scripts[script.text] = script.name


@dataclass
class Striker:
    """Strikes hosts' commands, `budget` times in one schedule at most; `spared` hosts never."""

    budget: int
    crash: Callable[[str], None]
    restart: Callable[[SimulatedServer, bool], Coroutine[Any, Any, None]]  # `with_loss`
    kinds: tuple[str, ...] = KINDS
    one_in: int = 12
    spared: frozenset[str] = frozenset()
    short: float = 0.1
    long: float = 3.0
    aims: list[Aim] = field(default_factory=list)
    struck: int = 0
    frozen: dict[str, float] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    background: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Leave forgetting to some of the schedules: they end in another way."""
        self.aims = [aim for aim in self.aims if aim[1] in self.kinds]
        aimed = any(kind == FORGETS for _, kind in self.aims)
        if FORGETS in self.kinds and not aimed and not detangle.flip(0.15):
            self.kinds = tuple(kind for kind in self.kinds if kind != FORGETS)

    def may_forget(self) -> bool:
        """Return whether the server may come back without its last second."""
        return FORGETS in self.kinds

    def forgets_no_more(self) -> None:
        """Let the server keep what it has from now on."""
        self.kinds = tuple(kind for kind in self.kinds if kind != FORGETS)
        self.aims = [aim for aim in self.aims if aim[1] != FORGETS]

    async def __call__(
        self,
        host: str,
        command: Command,
        act: Callable[[], Awaitable[bytes]],
        queued: bool,
        server: SimulatedServer,
    ) -> bytes | None:
        """Let the command through, or let one fault happen at it. None: the connection breaks without an answer.

        `queued`: it is a part of a transaction, which is refused as a whole or not at all.
        """
        name = name_of(command)
        until = self.frozen.get(host, 0.0)
        if until > detangle.now():
            await asyncio.sleep(until - detangle.now())
        if host in self.spared or name in SHAKES_HANDS:
            return await act()
        seen[name] += 1
        if server.lacks(command):  # it has no effect, so the next one is struck, which brings the text
            coverage[name, "NOSCRIPT"] += 1
            return await act()
        # "Nothing" is the first choice, so that shrinking takes faults away.
        aim = next((aim for aim in self.aims if aim[0] == name), None)
        if aim is not None and detangle.flip(0.5):
            kind = aim[1]
            self.aims.remove(aim)
        elif self.kinds and self.struck < self.budget and detangle.flip(1 / self.one_in):
            kind = detangle.choice(self.kinds)
        else:
            return await act()
        if kind == "NOSCRIPT" and command[0].upper() != b"EVALSHA":
            return await act()  # it came with its text
        if kind in REFUSALS and (queued or not self._refusable(name, kind)):
            return await act()
        self.struck += 1
        coverage[name, kind] += 1
        sometimes(f"a process met: {kind}")
        self.history.append(f"{detangle.now():.3f} {host}: {kind} at {name}")
        return await self._strike(kind, host, act, server)

    @staticmethod
    def _refusable(name: str, kind: str) -> bool:
        if name in {"MULTI", "EXEC", "DISCARD"}:
            return False
        return kind == "LOADING" or name in WRITES or name in scripts.values()

    async def _strike(
        self, kind: str, host: str, act: Callable[[], Awaitable[bytes]], server: SimulatedServer
    ) -> bytes | None:
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
        if kind in {"restart", FORGETS}:
            task = asyncio.get_running_loop().create_task(self.restart(server, kind == FORGETS))
            self.background.add(task)
            task.add_done_callback(self.background.discard)
            return None
        if kind == "NOSCRIPT":
            return b"-NOSCRIPT No matching script.\r\n"
        if kind in REFUSALS:
            return REFUSALS[kind]
        await act()
        if kind == "die after":
            self.crash(host)
        return None  # and "reply lost"


def known_scripts() -> list[str]:
    """Return the names of the kit's scripts."""
    know_scripts()
    return sorted(set(scripts.values()))
