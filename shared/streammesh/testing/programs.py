"""Runs services as processes of their own in tests, and ends them with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

STOP_SECONDS = 30.0


class Programs:
    """Starts `python -m <module>` in one environment; each one's output is `<module>.log` in `folder`."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._env, self._folder = env, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, module: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a service, for instance `services.dispatcher`; does not wait until it is ready."""
        path = os.pathsep.join(filter(None, (str(Path.cwd()), self._env.get("PYTHONPATH"))))
        with self.log(module).open("ab") as out:
            process = self._running[module] = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**self._env, "PYTHONPATH": path, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return process

    def log(self, module: str) -> Path:
        """Where a service's output goes."""
        return self._folder / f"{module}.log"

    def stop(self) -> dict[str, int]:
        """SIGTERM to all, SIGKILL to those that stay; answers the exit codes."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        return {module: _end(process) for module, process in self._running.items()}

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
