"""Several processes of one service under a small parent: `python -m streammesh.process_group ABOUT`.

`Service.run(processes=4)` becomes this parent, which knows neither Celery nor the team's code. It starts the command
that it came from so many times, starts those again that end, and answers `/livez`, `/readyz` and `/metrics` for all.

A socket joins it to each child. What the child knows of its health comes in; its end on the parent's side is the order
to drain. So children are told in the same way by a parent that stops and by one that was killed, and none is left over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn
from urllib.request import urlopen

import structlog

from streammesh import logs
from streammesh.errors import InvalidManifest
from streammesh.group_place import GroupPlace, environment_of, group_place
from streammesh.health import Health, serve_health
from streammesh.settings import MeshSettings, load_settings

SILENT_SECONDS = 10.0  # without a report, after which a child counts as not ready
START_SECONDS = 120.0  # that a child may take until its first one
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0  # seconds before a child that ended is started again
STEADY_SECONDS = 60.0  # a child that ran for so long begins with the shortest wait again
END_SECONDS = 15.0  # that a child has to end beyond its drain
LOOK_SECONDS = 1.0
MEASURES_SECONDS = 5.0  # that a child has to tell its metrics
REPORT_BYTES = 1 << 16
MOST = 256  # processes
EX_USAGE = 2  # of a child whose settings or arguments are wrong: starting it again does not mend that
PARTS_OF_SETTINGS = ("health_host", "health_port", "log_format", "log_level")
DURATIONS_OF_SETTINGS = ("drain", "stuck_after")
log = structlog.get_logger(__name__)


class Child:
    """One process of the group, however often it is started anew."""

    def __init__(
        self, place: GroupPlace, command: Sequence[str], settings: MeshSettings, shard: int | None = None
    ) -> None:
        self.number, self._place, self._command, self.shard = place.number, place, command, shard
        self._drain, self._stuck = settings.drain.total_seconds(), settings.stuck_after.total_seconds()
        self._process: Process | None = None
        self._state = "it is starting"  # while it does not run
        self._report: dict[str, Any] | None = None
        self._heard_at = 0.0
        self._was_ready = False
        self.is_beginning = False

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    async def keep(self, stop: asyncio.Event) -> int:
        """Run it until the group is to stop, again whenever it ends; answers its last exit code."""
        tries = 0
        while True:
            began = monotonic()
            code = await self._run(stop)
            if stop.is_set():
                return code
            if code == EX_USAGE and not self._was_ready:
                log.error("process.refused", process=self.number, code=code)
                return code
            tries = 1 if monotonic() - began > STEADY_SECONDS else tries + 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1))
            self._state = f"it ended with exit code {code}; it is started again in {wait:g} s at most"
            log.error("process.ended", process=self.number, code=code, wait=wait)
            if await _is_set(stop, wait):
                return 0

    async def _run(self, stop: asyncio.Event) -> int:
        """Run it once; answers its exit code."""
        self.is_beginning = True
        ours, theirs = socket.socketpair()
        with theirs:
            env = environment_of(replace(self._place, fd=theirs.fileno()))
            if self.shard is not None:
                env["MESH_SHARD"] = str(self.shard)
            process = await asyncio.create_subprocess_exec(
                *self._command, env=env, pass_fds=[theirs.fileno()]
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=REPORT_BYTES)
        self._report, self._heard_at, self._process = None, monotonic(), process
        self.is_beginning = False
        log.info("process.started", process=self.number, pid=process.pid)
        listening = asyncio.create_task(self._listen(reader))
        ended = asyncio.create_task(process.wait())
        to_end = asyncio.create_task(self._until_it_should_end(stop))
        try:
            await asyncio.wait((ended, to_end), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(process, writer, ended)
            return ended.result()
        finally:
            self._process = None
            to_end.cancel()
            writer.close()  # the child, should this be cancelled, is told to drain by it
            listening.cancel()

    async def _end(self, process: Process, writer: asyncio.StreamWriter, ended: asyncio.Task[int]) -> None:
        with suppress(OSError):  # it is ending by itself
            writer.write_eof()
        seconds = self._drain + END_SECONDS
        _, late = await asyncio.wait((ended,), timeout=seconds)
        if late:
            log.error("process.killed", process=self.number, pid=process.pid, seconds=seconds)
            process.kill()
            await ended

    async def _until_it_should_end(self, stop: asyncio.Event) -> None:
        while not await _is_set(stop, LOOK_SECONDS):
            if reason := self.dead():
                log.error("process.dead", process=self.number, reason=reason)
                return

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                if not (line := await reader.readline()):
                    return
                report = json.loads(line)
            except ValueError:  # part of a report, or too long a one
                continue
            except OSError:
                return
            if isinstance(report, dict):
                self._report, self._heard_at = report, monotonic()
                self._was_ready = self._was_ready or not self.unready()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; harmless when it does not run."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def dead(self) -> str | None:
        """Return why it should be ended and started anew; None while it lives, or is being started anew."""
        if self._process is None:
            return None
        silence = monotonic() - self._heard_at
        if silence > max(self._stuck, START_SECONDS if self._report is None else SILENT_SECONDS):
            return f"it has told nothing of itself for {silence:.0f} s"
        return (self._report or {}).get("dead")

    def unready(self) -> str | None:
        """Return why it does no work now; None where it does."""
        if self._process is None:
            return self._state
        if self._report is None:
            return "it is starting"
        silence = monotonic() - self._heard_at
        if silence > SILENT_SECONDS:
            return f"it has told nothing of itself for {silence:.0f} s"
        return self._report.get("unready")

    def measures(self) -> str:
        """Return its metrics as it tells them; nothing where it tells none. Raises OSError when it does not answer."""
        port = (self._report or {}).get("port")
        if self._process is None or not port:
            return ""
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=MEASURES_SECONDS) as answer:
            told: bytes = answer.read()
        return told.decode()


class GroupHealth(Health):
    """The health of all children together."""

    def __init__(self, children: Sequence[Child]) -> None:
        super().__init__()
        self._children = children
        for child in children:
            name = f"process {child.number}" + ("" if child.shard is None else f" (shard {child.shard})")
            self.lives_while(name, child.dead)
            self.works_while(name, child.unready)

    def measures(self) -> bytes:
        """Return the metrics of all that answer, each with the number of its process as the label `process`."""
        told = {}
        for child in self._children:
            try:
                told[child.number] = child.measures()
            except OSError as error:
                log.warning("metrics.not_measured", process=child.number, reason=str(error))
        return merged(told)


def merged(told: Mapping[int, str]) -> bytes:
    """Return expositions as one, in which the lines of a metric stand together, as Prometheus wants them."""
    headers: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = defaultdict(list)
    for number, text in told.items():
        metric = ""
        for line in text.splitlines():
            if line.startswith("#"):
                metric = line.split(" ", 3)[2]
                about = headers.setdefault(metric, [])
                if line not in about:
                    about.append(line)
            elif line:
                samples[metric].append(_labelled(line, f'process="{number}"'))
    return "".join(
        f"{line}\n" for metric, about in headers.items() for line in (*about, *samples[metric])
    ).encode()


def _labelled(sample: str, label: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


class ProcessGroup:
    """All processes of a service on this machine; with `shards` each serves one of these, in turn."""

    def __init__(self, command: Sequence[str], count: int, settings: MeshSettings, shards: int = 1) -> None:
        self._children = [
            Child(
                *(GroupPlace(number, count, -1), command, settings),
                (number - 1) % shards if shards > 1 else None,
            )
            for number in range(1, count + 1)
        ]
        self._stop = asyncio.Event()
        self.health = GroupHealth(self._children)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, and until all have drained; answers the exit code.

        A second one, or SIGQUIT, has them end at once and give back what they run.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._told, number)
        reaping = asyncio.create_task(self._reap()) if os.getpid() == 1 else None
        codes: list[int] = []
        for ended in asyncio.as_completed([child.keep(self._stop) for child in self._children]):
            codes.append(await ended)
            self._stop.set()  # none ends for good before it is to, unless it refuses to start
        if reaping:
            reaping.cancel()
        log.info("group.stopped", codes=codes)
        return max((code if code >= 0 else 128 - code for code in codes), default=0)

    async def _reap(self) -> None:
        """As process 1 of a container it inherits what killed children have left, and has to bury it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not any(child.is_beginning for child in self._children):
                reap_strangers({child.pid for child in self._children})

    def _told(self, number: signal.Signals) -> None:
        again = self._stop.is_set()
        self._stop.set()
        log.info("group.stopping", signal=number.name, processes=len(self._children))
        if again or number is signal.SIGQUIT:
            for child in self._children:
                child.signal(signal.SIGQUIT)


def reap_strangers(ours: Collection[int | None]) -> None:
    """Take the exit codes of children that are not `ours`, as far as none of those has ended before them."""
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in ours:
                return  # asyncio takes it in a moment
            os.waitpid(ended.si_pid, 0)


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for it so long; answers whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def become_group(service: str, pool: str, asked: int | None, settings: MeshSettings) -> None:
    """Become the parent of as many processes as are wanted; return where that is one, or this is one of them.

    `asked` goes before the setting. Raises InvalidManifest where it cannot be so, or this program has no command.
    """
    if group_place() is not None:
        return
    if asked is not None and (not isinstance(asked, int) or not 1 <= asked <= MOST):
        raise InvalidManifest(f"processes={asked!r}: should be a whole number from 1 to {MOST}")
    count, shards = settings.processes if asked is None else asked, shards_to_serve()
    if shards > 1:
        _become(service, shards if pool == "prefork" else max(count, shards), settings, shards)
    if count > 1 and pool == "prefork":
        reason = (
            f"the pool of {service} is prefork, whose MESH_CONCURRENCY are processes under one parent already"
        )
        if asked is not None:
            raise InvalidManifest(f"processes={asked}: {reason}")
        logs.configure(settings, service)
        log.warning("processes.ignored", wanted=count, reason=reason)
    elif count > 1:
        _become(service, count, settings)


def shards_to_serve() -> int:
    """Return how many shards a process that was started on its own has to serve: all, unless `MESH_SHARD` names one."""
    whole = load_settings(MeshSettings, whole=True)
    return whole.shards if whole.shard is None else 1


def serve_all_shards(role: str, settings: MeshSettings) -> None:
    """Become the parent of a process for each shard; return where there is one, or this is one of them.

    Raises InvalidManifest where this program has no command that could be started again.
    """
    if group_place() is None and (shards := shards_to_serve()) > 1:
        _become(role, shards, settings, shards)


def _become(service: str, count: int, settings: MeshSettings, shards: int = 1) -> NoReturn:
    about = {
        "service": service,
        "count": count,
        "shards": shards,
        "command": own_command(),
        "settings": {name: getattr(settings, name) for name in PARTS_OF_SETTINGS}
        | {name: getattr(settings, name).total_seconds() for name in DURATIONS_OF_SETTINGS},
    }
    sys.stdout.flush()
    sys.stderr.flush()
    # In place of this program: its memory is free, and what it may have begun at import has ended.
    os.execv(sys.executable, [sys.executable, "-m", __name__, json.dumps(about)])  # noqa: S606


def own_command() -> list[str]:
    """Return the command that starts this program once more. Raises InvalidManifest where there is none."""
    options = [f"-W{option}" for option in sys.warnoptions]
    options += [
        f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()
    ]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        module = spec.parent if spec.name.rpartition(".")[2] == "__main__" else spec.name
        return [sys.executable, *options, "-m", module, *sys.argv[1:]]
    if not Path(sys.argv[0]).is_file():
        raise InvalidManifest("processes: this program is no file or module that could be started again")
    return [sys.executable, *options, *sys.argv]


def main() -> None:
    """The parent."""
    about = json.loads(sys.argv[1])
    settings = MeshSettings(**about["settings"])
    logs.configure(settings, about["service"])

    async def run() -> int:
        group = ProcessGroup(about["command"], about["count"], settings, about["shards"])
        serve_health(group.health, settings.health_host, settings.health_port)
        log.info("group.started", processes=about["count"], pid=os.getpid())
        return await group.run()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    main()
