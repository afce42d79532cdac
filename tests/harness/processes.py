"""Real processes of a mesh: started with the mesh's environment, logging to files, killed at will."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 40


class MeshProcess:
    """One process, for instance `python -m services.dispatcher`; its output goes to a file.

    It runs in `root`, whose `services` it imports.
    """

    def __init__(
        self,
        name: str,
        module: str,
        env: Mapping[str, str],
        folder: Path,
        args: Sequence[str] = (),
        root: Path = ROOT,
    ) -> None:
        self.name, self._root = name, root
        self._command = [sys.executable, "-m", module, *args]
        self._env = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1", **env}
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False  # to stop
        self.url = ""  # where it listens, for who wants to note it

    def start(self) -> MeshProcess:
        """Start it; does not wait until it is ready."""
        self._told = False
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, env=self._env, cwd=self._root, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, its children too."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process and self.running:
            self._told = self._told or number == signal.SIGTERM
            self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, where it was not sent yet, and wait; answers the exit code. Killed if it does not end.

        A second one could come when the interpreter is on its way out and has let go of its handlers.
        """
        if self._process is None:
            return 0
        if not self._told:
            self.signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def __enter__(self) -> MeshProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            tail = self.log.read_text("utf-8", "replace").splitlines()[-40:]
            print(f"--- end of {self.log}\n" + "\n".join(tail))
