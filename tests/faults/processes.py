"""The processes of a run, as those who kill them see them: started through the fork server, by its id or name."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness.processes import ROOT

START_SECONDS = 60
END_SECONDS = 40


class Forks:
    """The fork server of a run; an async context manager. When it ends, so has everything that it started."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[int] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.fork_server"),
            stdin=PIPE, stdout=PIPE, stderr=None, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout
        async with asyncio.timeout(START_SECONDS):
            assert b"ready" in await self._process.stdout.readline()
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process and self._process.stdin and self._reader
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            told = json.loads(line)
            if "started" in told:
                self._ended[told["started"]] = asyncio.get_running_loop().create_future()
                self._answers.put_nowait(told["started"])
            else:
                self._ended[told["ended"]].set_result(told["code"])

    async def _say(self, order: Mapping[str, Any]) -> None:
        assert self._process and self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()

    async def start(self, module: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        """Start `python -m module`; answers its process id at once."""
        async with self._turn:
            await self._say({"start": module, "argv": list(argv), "env": dict(env), "log": str(log)})
            return await self._answers.get()

    async def signal(self, pid: int, number: signal.Signals, *, group: bool = False) -> None:
        """Signal a process that this run started, or all of its session; harmless when it has ended."""
        await self._say({"signal": pid, "number": int(number), "group": group})

    async def ended(self, pid: int) -> int:
        """Wait for its end; answers its exit code."""
        return await asyncio.shield(self._ended[pid])

    def has_ended(self, pid: int) -> bool:
        """Whether it is over."""
        return self._ended[pid].done()

    async def guard(self, pid: int) -> None:
        """Have another process of this run killed, should the run be interrupted."""
        await self._say({"guard": pid})

    async def release(self, pid: int) -> None:
        """It ended in the ordinary way."""
        await self._say({"release": pid})


@dataclass(slots=True)
class Killed:
    """One kill: who, when (seconds since the epoch), and whether its children were spared."""

    name: str
    pid: int
    at: float
    alone: bool


class Part:
    """One process of the mesh under test, which is started again and again."""

    def __init__(
        self,
        forks: Forks,
        role: str,
        name: str,
        module: str,
        env: Mapping[str, str],
        folder: Path,
        argv: Sequence[str] = (),
    ) -> None:
        self.role, self.name, self.module = role, name, module
        self.log = folder / f"{name}.log"
        self._forks, self._env, self._argv = forks, dict(env), argv
        self.pid: int | None = None
        self.kills: list[Killed] = []

    async def start(self) -> Self:
        """Start it; does not wait until it is ready."""
        self.pid = await self._forks.start(self.module, self._argv, self._env, self.log)
        return self

    def become(self, module: str, argv: Sequence[str] = ()) -> None:
        """Have another module run when it is started again."""
        self.module, self._argv = module, argv

    def serves(self, shard: int) -> bool:
        """Whether it serves a shard: that which it is pinned to, or all; Beat is in the first one."""
        if self.role == "beat":
            return shard == 0
        return self._env.get("MESH_SHARD", str(shard)) == str(shard)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.pid is not None and not self._forks.has_ended(self.pid)

    async def kill(self, *, alone: bool = False) -> Killed:
        """SIGKILL with all its children, or `alone`; answers when it has ended."""
        assert self.pid is not None
        await self._forks.signal(self.pid, signal.SIGKILL, group=not alone)
        killed = Killed(self.name, self.pid, time.time(), alone)
        await self._forks.ended(self.pid)
        self.kills.append(killed)
        return killed

    async def stop(self) -> int:
        """SIGTERM; answers the exit code, -9 when it had to be killed after all."""
        if self.pid is None or not self.running:
            return 0 if self.pid is None else await self._forks.ended(self.pid)
        await self._forks.signal(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self._forks.ended(self.pid)
        except TimeoutError:
            await self.kill()
            return -9

    async def send(self, number: signal.Signals) -> None:
        """Any other signal."""
        assert self.pid is not None
        await self._forks.signal(self.pid, number)
