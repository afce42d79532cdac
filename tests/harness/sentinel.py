"""One Sentinel that decides alone, after three seconds."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from streammesh.embedded import EmbeddedServer, NoServer, find_server, free_port

START_SECONDS = 15


class Sentinel:
    """Watches over a primary and its replicas under the name `service`."""

    def __init__(self, folder: Path, service: str, primary: EmbeddedServer) -> None:
        self.folder, self.service, self.port = folder, service, free_port()
        self._primary = primary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The mesh's URL for what it watches."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.service}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A plain client of it."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        """Start it, and wait until it answers. Raises NoServer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self._primary.port} 1\n"
            f"sentinel down-after-milliseconds {self.service} 3000\n"
            f"sentinel failover-timeout {self.service} 5000\n"
        )
        with (self.folder / "sentinel.log").open("ab") as out:
            self._process = subprocess.Popen(
                [find_server(), str(config), "--sentinel"], stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise NoServer(f"Sentinel did not start, see {self.folder}/sentinel.log") from None
                    time.sleep(0.05)

    def has_heir(self) -> bool:
        """Whether there is a replica that follows and could take over."""
        with self.client() as client:
            found: Any = client.sentinel_slaves(self.service)
        return any(
            one["master-link-status"] == "ok" and one["flags"] == "slave" for one in map(_plain, found)
        )

    def stop(self) -> None:
        """SIGKILL; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What Sentinel says of a replica; redis-py takes its flags apart and leaves the text."""
    return {"flags": "", "master-link-status": "", **state}
