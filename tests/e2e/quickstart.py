"""Plays a page of the documentation: its files are written, its commands run, what they print is compared.

`# name.py` in the first line of a Python block names its file. A command that says `# stays in this terminal` runs until
the page is through. In a block of the kind `console` the lines below a `$` are what it prints; `[…]` stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAYS = "# stays in this terminal"
BEFORE = ("python -m venv", "pip install")  # whoever plays the page has done that
CHANGES = re.compile(r"\d\d:\d\d:\d\d\.\d{3}|[0-9a-f]{8}-[0-9a-f-]{27}")
READY_SECONDS = 180


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each block."""
    for match in BLOCK.finditer(page.read_text("utf-8")):
        yield match[1], match[2]


def play(folder: Path, programs: Path, page: Path = PAGE) -> None:
    """Do in `folder` what the page says, with the programs of one environment. Raises AssertionError."""
    env = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MESH_", "API_", "PYTEST_"))
        },
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
        "API_PORT": "0",
    }
    staying: list[subprocess.Popen[bytes]] = []
    try:
        for kind, text in blocks(page):
            if kind == "python":
                name = text.partition("\n")[0].removeprefix("# ").strip()
                (folder / name).write_text(text)
            elif kind == "sh":
                for command in text.splitlines():
                    if command.endswith(STAYS):
                        staying.append(stay(command, folder, env))
                    elif not command.startswith(BEFORE):
                        run(command, folder, env)
            elif kind == "console":
                for command, told in told_in(text):
                    compare(command, told, run(command, folder, env))
    finally:
        for process in staying:
            process.send_signal(signal.SIGINT)
        for process in staying:
            assert process.wait(60) == 0, "it did not end as it should"


def stay(command: str, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start what stays, and wait until its mesh is ready."""
    with (folder / "terminal.log").open("wb") as log:
        process = subprocess.Popen(
            command.removesuffix(STAYS).split(),
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + READY_SECONDS
    while not (folder / "var" / "up" / "up.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"{command}: {(folder / 'terminal.log').read_text()[-3000:]}")
        time.sleep(0.05)
    return process


def run(command: str, folder: Path, env: dict[str, str]) -> str:
    """Run a command to its end; answers what it printed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "--wait" in command, f"{command}: {done.returncode}\n{said}"
    return said


def told_in(block: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a block with the lines that the page shows below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def compare(command: str, told: list[str], said: str) -> None:
    """Each line that the page shows is printed, but for times, ids and the width of columns."""
    printed = {plain(line) for line in said.splitlines()}
    for line in told:
        assert "[…]" in line or plain(line) in printed, (
            f"{command} does not print {line!r}; it prints:\n{said}"
        )


def plain(line: str) -> str:
    """A line without what is different each time."""
    return " ".join(CHANGES.sub("…", line).split())
