"""A PostgreSQL of a test's own: Debian's, or one on PATH."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from streammesh.embedded import free_port
from streammesh.testing.conditions import wait_until_sync

PASSWORD = "p%40ss:word"


def folder_of_programs() -> Path | None:
    """Where `initdb` and `postgres` are, None where they are not."""
    found = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


class Postgres:
    """Runs for as long as the context is open. PostgreSQL refuses to run as root: then it runs as `nobody`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._root = Path(tempfile.mkdtemp(prefix="mesh-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As a setting has it."""
        return f"postgresql://mesh:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def _run_as(self) -> dict[str, Any]:
        if os.getuid() != 0:
            return {}
        nobody = pwd.getpwnam("nobody")
        os.chown(self._root, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid}

    def __enter__(self) -> Postgres:
        programs, who = folder_of_programs(), self._run_as()
        assert programs is not None
        secret = self._root / "password"
        secret.write_text("p@ss:word")
        secret.chmod(0o644)
        data = self._root / "data"
        subprocess.run(
            [programs / "initdb", "-D", str(data), "-U", "mesh", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"],
            check=True, capture_output=True, **who,
        )  # fmt: skip
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", str(data), "-p", str(self.port), "-k", str(self._root), "-c", "fsync=off"],
                stdout=log, stderr=log, **who,
            )  # fmt: skip
        ready: list[str | Path] = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until_sync("it answers", lambda: subprocess.run(ready, capture_output=True).returncode == 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # without waiting for its clients
        self._process.wait(20)
        shutil.rmtree(self._root, ignore_errors=True)
