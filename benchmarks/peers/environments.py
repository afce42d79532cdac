"""Every peer has an environment of its own, since they want different versions of the same packages."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
FOLDER = Path("var/bench/venvs")


class NoEnvironment(Exception):
    """A peer's packages cannot be installed here, for instance without a network; says why."""


def environment(name: str) -> Path:
    """The interpreter of an environment in `FOLDER`, made or brought up to date where it has to be.

    Raises NoEnvironment.
    """
    wanted = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    place = FOLDER.resolve() / name
    python, stamp = place / "bin" / "python", place / "made-of"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(place, ignore_errors=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    venv.create(place, with_pip=uv is None)
    pip = [uv, "pip", "install", "-q", "--python"] if uv else []
    tail = [] if uv else ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, str(python), *tail, "-r", str(wanted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        _, _, last_line = (done.stderr or done.stdout).strip().rpartition("\n")
        raise NoEnvironment(f"{name}: {last_line}")
    stamp.write_text(digest)
    return python
