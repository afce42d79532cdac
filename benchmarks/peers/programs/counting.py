"""Counts what a peer has run without asking its broker: each process adds up in a small file of its own."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path

_lock = threading.Lock()
_owner = 0
_total = 0
_file: mmap.mmap | None = None
os.register_at_fork(after_in_child=lambda: globals().__setitem__("_lock", threading.Lock()))


def hit() -> None:
    """One more was run here. From any thread, also after a fork."""
    global _total
    with _lock:
        if _owner != os.getpid():
            _begin()
        _total += 1
        if _file is not None:
            struct.pack_into("<Q", _file, 0, _total)


def _begin() -> None:
    global _owner, _total, _file
    path = Path(os.environ["BENCH_COUNTS"]) / str(os.getpid())
    path.write_bytes(bytes(8))
    with path.open("r+b") as opened:
        _file = mmap.mmap(opened.fileno(), 8)
    _owner, _total = os.getpid(), 0


def total(folder: Path) -> int:
    """What all processes together have run so far."""
    return sum(int.from_bytes(path.read_bytes(), "little") for path in folder.iterdir())
