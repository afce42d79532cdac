"""The file in which runs are recorded: one line each, appended in one write, so that processes may share it."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path


def record(line: str) -> None:
    """Append one line; it is in the file when this returns."""
    target = os.open(os.environ["PROBE_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, f"{time.time():.6f} {os.getpid()} {line}\n".encode())
    finally:
        os.close(target)


def switch(path: Path, name: str) -> Path:
    """The file beside the record that switches something on."""
    return path.with_name(f"switch-{name}")


def is_on(name: str) -> bool:
    """Whether a switch is on; asked by handlers."""
    return switch(Path(os.environ["PROBE_RECORD"]), name).exists()


def runs(path: Path) -> Counter[str]:
    """How often each line was recorded, without its time and process."""
    if not path.exists():
        return Counter()
    return Counter(line.split(" ", 2)[2] for line in path.read_text().splitlines())
