"""`streammesh dev`: one worker that starts anew whenever a file is saved, beside a whole mesh; its events are shown.

A line such as `order.placed {"order_id": 7}` publishes an event. `breakpoint()` in a handler stops there, and what is typed
goes to the debugger until the handler goes on; see `desk_debugger.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from watchfiles import PythonFilter, awatch

from streammesh.cli.api_call import REFUSED, fail
from streammesh.cli.desk_debugger import place_of_socket
from streammesh.cli.found_programs import FoundProgram, NothingToRun, find_workers
from streammesh.cli.supervisor import lines
from streammesh.cli.up import RunningMesh, module_path, up

STOP_SECONDS = 5.0  # that a worker has to drain before it is started anew
Say = Callable[[str, str, str], None]


def dev(
    name: Annotated[str | None, typer.Argument(help="The worker, where the folder has several.")] = None,
    folder: Annotated[Path, typer.Option(help="Where data, mails and reports are kept.")] = Path("var/up"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API.")] = None,
) -> None:
    """Run one worker beside a whole mesh, anew whenever a file is saved. Ctrl-C stops both."""
    root = Path.cwd()
    try:
        found = {one.name: one for one in find_workers(root)}
    except NothingToRun as error:
        fail(error, REFUSED)
    if name is None and len(found) != 1:
        what = (
            f"several workers: {', '.join(found)}; name one"
            if found
            else "no worker: no worker.py, no package"
        )
        fail(f"the folder has {what}", REFUSED)
    worker = found.get(name or next(iter(found)))
    if worker is None:
        fail(f"the folder has no worker {name!r}, but {', '.join(found) or 'none'}", REFUSED)
    desk = Desk(worker, root)
    up(root, folder.resolve(), None, port=port, apart=[worker.name], beside=desk.run)


class Desk:
    """The worker, what is shown of its events, and what is typed."""

    def __init__(self, worker: FoundProgram, root: Path) -> None:
        self._worker, self._root = worker, root
        self._env: Mapping[str, str] = {}
        self._debugger: asyncio.StreamWriter | None = None
        self._say: Say = lambda *_: None

    async def run(self, ready: asyncio.Task[None], place: RunningMesh, say: Say) -> None:
        """Wait for the mesh; then run until cancelled."""
        self._say = say
        self._env = {
            **os.environ,
            **place.environment,
            "PYTHONPATH": module_path(self._worker.path),
            "MESH_TAKEOVER": "true",  # what was saved is what runs, whatever the version before had
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONBREAKPOINT": "streammesh.cli.desk_debugger.stop",
            "FORCE_COLOR": "1" if sys.stdout.isatty() else "",
        }
        await ready
        say("dev", 'publish with a line such as:  order.placed {"order_id": 7}', "bright_white")
        socket = place_of_socket(self._root)
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._debug, socket)
        try:
            async with server, asyncio.TaskGroup() as group:
                group.create_task(self._keep())
                group.create_task(self._show("events", "watch"))
                group.create_task(self._listen())
        finally:
            socket.unlink(missing_ok=True)

    async def _keep(self) -> None:
        """Run the worker; when a file was saved, drain it and start it anew. One that fell waits for the next save."""
        changes = awatch(self._root, watch_filter=PythonFilter(), stop_event=None, debounce=200)
        saved = asyncio.create_task(anext(changes))
        while True:
            process = await asyncio.create_subprocess_exec(
                *self._worker.command,
                cwd=self._root,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            shown = asyncio.create_task(self._lines(process, self._worker.name, "green"))
            ended = asyncio.create_task(process.wait())
            try:
                await asyncio.wait((saved, ended), return_when=asyncio.FIRST_COMPLETED)
                if not saved.done():
                    self._say(
                        "dev", f"the worker ended with code {ended.result()}; save a file to start it", "red"
                    )
                found = await saved
                files = sorted({Path(path).name for _, path in found})
                self._say("dev", f"saved: {', '.join(files[:5])}; the worker starts anew", "yellow")
            finally:
                await _end(process, ended)
                shown.cancel()
            saved = asyncio.create_task(anext(changes))

    async def _lines(self, process: asyncio.subprocess.Process, name: str, colour: str) -> None:
        assert process.stdout
        async for line in lines(process.stdout):
            self._say(name, line, colour)

    async def _show(self, name: str, *command: str) -> None:
        """Run one of our own commands, and show what it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streammesh.cli", *command),
            cwd=self._root,
            env={**self._env, "COLUMNS": "160"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            await self._lines(process, name, "bright_cyan")
        finally:
            with suppress(ProcessLookupError):
                process.kill()

    async def _listen(self) -> None:
        """Publish what is typed, or give it to the debugger while a handler has stopped."""
        typed = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
        except (ValueError, OSError):  # nothing to read from
            return
        while line := await typed.readline():
            if self._debugger is not None:
                self._debugger.write(line)
                continue
            event_type, _, data = line.decode("utf-8", "replace").strip().partition(" ")
            if event_type:
                await self._show("publish", "publish", event_type, *([data] if data.strip() else []))

    async def _debug(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._debugger = writer
        self._say("dev", "breakpoint: what you type goes to the debugger; `c` goes on", "yellow")
        try:
            while told := await reader.read(1 << 16):
                sys.stdout.write(told.decode("utf-8", "replace"))
                sys.stdout.flush()
        finally:
            self._debugger = None
            writer.close()


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    """Have a worker drain; end it where that takes too long."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    _, late = await asyncio.wait((ended,), timeout=STOP_SECONDS)
    if late:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await ended
