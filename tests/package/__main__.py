"""`make package-test`: the wheels in an empty environment, in a folder that knows nothing of this repository.

A client alone: neither Celery nor a Redis client comes along, and what is missing is named. Then the quickstart, from its
`pip install` to the test, by the page's own blocks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.quickstart import play

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"


def run(*command: str | Path, cwd: Path = ROOT, code: int = 0) -> str:
    """Run a command and return what it said. Raises SystemExit for another exit code than expected."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))
    }
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=clean, check=False
    )
    if done.returncode != code:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment(folder: Path, wheels: Path, what: str) -> Path:
    """Make an environment with `what` in it; returns the folder of its programs."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    run(UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--find-links", wheels, what)
    return folder / "bin"


def client_alone(folder: Path, wheels: Path) -> None:
    """The smallest installation."""
    there = environment(folder / "client", wheels, "streammesh[client]")
    there_is = run(UV, "pip", "list", "--python", there / "python")
    assert "celery" not in there_is and "\nredis" not in there_is, there_is
    run(there / "python", "-c", "import streammesh.client; streammesh.client.MeshClient", cwd=folder)
    said = run(there / "python", "-c", "import streammesh; streammesh.Service", cwd=folder, code=1)
    assert "pip install 'streammesh[worker]'" in said, said
    said = run(there / "streammesh", "status", cwd=folder, code=2)
    assert "pip install 'streammesh[cli]'" in said, said
    print("a client alone: done")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a folder with both wheels; else they are built")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = args.wheels or folder / "wheels"
        if not args.wheels:
            for source in ("shared", "services"):
                build = ("--quiet", "--no-build-isolation", "--python", sys.executable)
                run(UV, "build", *build, source, "--out-dir", wheels)
        client_alone(folder, wheels.resolve())
        began = time.monotonic()
        (folder / "empty").mkdir()
        bin_ = environment(folder / "venv", wheels.resolve(), "streammesh[mesh,testing]")
        play(folder / "empty", bin_)
        print(f"the quickstart, played literally, took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
