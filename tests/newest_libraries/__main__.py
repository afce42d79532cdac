"""`make newest-libraries`: whether the mesh fits the newest versions that its requirements allow, which may be newer
than those in `requirements.lock`.

They are installed into an environment of their own. What every process looks for at start is looked for, and the
tests that run Celery's, kombu's and redis-py's own code are run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "newest-libraries"
ROOMS = ("streammesh.redisio", "streammesh.transport", "streammesh.worker", "services.api")
TESTS = (
    "tests/architecture/test_internals.py",
    "tests/unit/test_queue_wire.py",
    "tests/unit/test_threads_pool.py",
    "tests/integration/transport",
    "tests/integration/test_multiplexed.py",
    "tests/integration/test_delivery.py",
    "tests/integration/test_prefork_pool.py",
    "services/api/tests/test_server.py",
)
SHOWN = ("celery", "kombu", "billiard", "redis", "hiredis", "uvicorn", "fastapi", "pydantic")


def installed(folder: Path) -> Path:
    """Make the environment anew; answers its Python."""
    uv, python = ROOT / ".venv" / "bin" / "uv", folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    wanted = folder / "wanted.txt"
    files = [*sorted(ROOT.glob("services/*/requirements.txt")), ROOT / "requirements-dev.txt"]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    wanted.write_text("\n".join(line for line in lines if not line.startswith("streammesh")), "utf-8")
    kit = f"{ROOT / 'shared'}[celery,http,mail,cli,testing]"
    command = [uv, "pip", "install", "-q", "--python", python, "--upgrade", "-e", kit, "-r", wanted]
    subprocess.run(list(map(str, command)), check=True)
    return python


def main(words: Sequence[str] | None = None) -> int:
    """Install, look, test; answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--look-only", action="store_true", help="look for the private names, and run no tests"
    )
    chosen = parser.parse_args(words)
    python = installed(FOLDER)
    print("newest:", subprocess.run(  # one line of versions, so that a report says what was tried
        [python, "-c", f"from importlib.metadata import version\nprint(*(f'{{n}} {{version(n)}}' for n in {SHOWN}))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip())  # fmt: skip
    look = "".join(f"import {room}.internals; {room}.internals.check()\n" for room in ROOMS)
    if code := subprocess.run([python, "-c", look], cwd=ROOT, check=False).returncode:
        return code
    if chosen.look_only:
        return 0
    return subprocess.run([python, "-m", "pytest", "-q", *TESTS], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
