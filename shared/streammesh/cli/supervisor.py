"""Runs several programs side by side, their lines in one terminal, each with its own coloured prefix."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
RESTART_SECONDS = 1.0  # a service that ended by itself is started again after this, twice as long each time
LONGEST_RESTART = 30.0
STEADY_SECONDS = 20.0  # one that ran for so long begins with the shortest wait again
LINE_LIMIT = 16_384  # bytes of a line that are shown; the rest is counted
CHUNK = 1 << 16


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
        self.broken: dict[str, str] = {}  # programs that ended by themselves again and again: why

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
        tries = 0
        while not self._stopping:
            began, last = time.monotonic(), ""
            process = await asyncio.create_subprocess_exec(
                *program.command,
                env={**os.environ, **program.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
            )
            self._running[program.name] = process
            assert process.stdout
            async for line in lines(process.stdout):
                self.say(program.name, line, colour)
                last = line.strip() or last
            code = await process.wait()
            self._running.pop(program.name, None)
            if self._stopping:
                return
            tries = 1 if time.monotonic() - began > STEADY_SECONDS else tries + 1
            wait = min(LONGEST_RESTART, RESTART_SECONDS * 2 ** (tries - 1))
            why = f"ended with code {code}{f': {last[:200]}' if last else ''}"
            if tries > 1:
                self.broken[program.name] = why
            self.say(program.name, f"{why}; it is started again in {wait:g} s", "red")
            await asyncio.sleep(wait)


async def lines(stream: asyncio.StreamReader, limit: int = LINE_LIMIT) -> AsyncIterator[str]:
    """Give the lines of a program's output; of one longer than `limit` bytes its beginning and how much was left out."""
    kept, left_out = bytearray(), 0
    while chunk := await stream.read(CHUNK):
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            left_out += _keep_some(kept, part, limit)
            yield _shown(kept, left_out)
            kept.clear()
            left_out = 0
        left_out += _keep_some(kept, rest, limit)
    if kept:
        yield _shown(kept, left_out)


def _keep_some(kept: bytearray, part: bytes, limit: int) -> int:
    room = limit - len(kept)
    kept += part[:room]
    return max(0, len(part) - room)


def _shown(kept: bytearray, left_out: int) -> str:
    text = kept.decode("utf-8", "replace").rstrip()
    return f"{text} ({left_out:,} bytes more)" if left_out else text


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A program's children (a worker's pool) go with it when it is killed; a polite signal goes to it alone."""
    try:
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return
