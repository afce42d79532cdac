"""A private RabbitMQ node: its own processes, ports, folder and name server; ended with the tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from kombu import Connection
from streammesh.embedded import free_port
from streammesh.testing.conditions import wait_until_sync

START_SECONDS = 90
VHOSTS = 40  # made at the start: a vhost each for as many meshes, since queues are named after services alone


def program() -> Path | None:
    """RabbitMQ's start script, where it is on PATH."""
    found = shutil.which("rabbitmq-server") or shutil.which("/usr/sbin/rabbitmq-server")
    if found is None:
        return None
    # Debian's is a wrapper that changes the user and the folders; the script it calls lies beside it.
    beside = Path(found).resolve().parent / "rabbitmq-server"
    return beside if beside.exists() else Path(found)


class RabbitServer:
    """Listens on 127.0.0.1 only; `guest` may do everything, as RabbitMQ allows over loopback."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._vhosts = iter(range(VHOSTS))
        self._names = free_port()  # of epmd, which Erlang nodes find each other by
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """The URL of a vhost that nobody else uses."""
        return f"{self._root}v{next(self._vhosts)}"

    @property
    def _root(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> RabbitServer:
        """Start it, on the same port as before, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        script = program()
        assert script is not None
        env = {**os.environ, **self._settings()}
        with (self._folder / "node.log").open("ab") as out:
            quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            quiet["start_new_session"] = True
            epmd = shutil.which("epmd")
            assert epmd is not None, "epmd comes with Erlang"
            if self._epmd is None:
                command = [epmd, "-port", str(self._names), "-address", "127.0.0.1"]
                self._epmd = subprocess.Popen(command, env=env, **quiet)
            self._node = subprocess.Popen([script], env=env, cwd=self._folder, **quiet)
        wait_until_sync("RabbitMQ answers", self._answers, seconds=START_SECONDS, every=0.2)
        return self

    def _settings(self) -> dict[str, str]:
        config, definitions = self._folder / "rabbitmq.conf", self._folder / "definitions.json"
        vhosts = [f"v{n}" for n in range(VHOSTS)]
        may = {"user": "guest", "configure": ".*", "write": ".*", "read": ".*"}
        user = {"name": "guest", "password": "guest", "tags": "administrator"}
        definitions.write_text(
            json.dumps(
                {
                    "users": [user],
                    "vhosts": [{"name": name} for name in ("/", *vhosts)],
                    "permissions": [{**may, "vhost": name} for name in ("/", *vhosts)],
                }
            )
        )
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nload_definitions = {definitions}\n")
        (self._folder / "plugins").write_text("[].\n")
        return {
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_NODENAME": f"mesh-tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
        }

    def _answers(self) -> bool:
        assert self._node is not None
        assert self._node.poll() is None, (self._folder / "node.log").read_text()
        try:
            with Connection(f"{self._root}v{VHOSTS - 1}", connect_timeout=5) as connection:
                connection.connect()
        except (*Connection(self._root).connection_errors, *Connection(self._root).channel_errors):
            return False
        return True

    def kill(self) -> None:
        """SIGKILL; what was written down stays."""
        _end(self._node, signal.SIGKILL)
        self._node = None

    def wipe(self) -> None:
        """Forget everything; it must not run."""
        assert self._node is None
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def stop(self) -> None:
        """SIGTERM, to its name server too."""
        _end(self._node, signal.SIGTERM)
        _end(self._epmd, signal.SIGTERM)
        self._node = self._epmd = None

    def __enter__(self) -> RabbitServer:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is None:
        return
    try:
        os.killpg(process.pid, how)
        process.wait(20)
    except ProcessLookupError:
        pass
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
