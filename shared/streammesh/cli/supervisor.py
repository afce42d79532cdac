"""Runs several programs side by side, their lines in one terminal, each with its own coloured prefix."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
RESTART_SECONDS = 1.0  # a service that ended by itself is started again after this
LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """One program to run; `env` is added to ours."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Starts programs, shows what they print, starts those again that fall, and stops all of them."""

    def __init__(self, programs: Sequence[Program], *, console: Console | None = None) -> None:
        self._programs = programs
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._width = max(len(p.name) for p in programs)
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False

    def say(self, name: str, line: str, colour: str = "white") -> None:
        """Print one line behind a prefix."""
        text = Text(f"{name:<{self._width}} | ", style=f"bold {colour}")
        text.append_text(Text.from_ansi(line))
        self._console.print(text)

    async def run(self, stop: asyncio.Event, *, grace: float) -> None:
        """Run all programs until `stop` is set, then SIGTERM, and SIGKILL those left after `grace` seconds."""
        tasks = [
            asyncio.create_task(self._keep(program, COLOURS[i % len(COLOURS)]))
            for i, program in enumerate(self._programs)
        ]
        await stop.wait()
        self._stopping = True
        for process in list(self._running.values()):
            _signal_group(process, signal.SIGTERM)
        _, late = await asyncio.wait(tasks, timeout=grace)
        if late:
            for name, process in list(self._running.items()):
                self.say(name, f"did not stop within {grace:.0f} s and is killed", "red")
                _signal_group(process, signal.SIGKILL)
            await asyncio.wait(tasks, timeout=10)
        for task in tasks:
            task.cancel()

    async def _keep(self, program: Program, colour: str) -> None:
        while not self._stopping:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                env={**os.environ, **program.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
                limit=LINE_LIMIT,
            )
            self._running[program.name] = process
            assert process.stdout
            async for raw in process.stdout:
                self.say(program.name, raw.decode("utf-8", "replace").rstrip(), colour)
            code = await process.wait()
            self._running.pop(program.name, None)
            if self._stopping:
                return
            self.say(program.name, f"ended with code {code}; it is started again", "red")
            await asyncio.sleep(RESTART_SECONDS)


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A program's children (a worker's pool) go with it when it is killed; a polite signal goes to it alone."""
    try:
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return
