"""The audit log: a file of JSON lines that is only ever appended to, by any number of processes."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """One file. Making it touches nothing; the first entry makes the file and its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any], *, look_first: bool = False) -> bool:
        """Add one entry and wait until it is on the disk; answers whether it was added.

        With `look_first` nothing is added when an entry with this `id` is there already. Raises OSError;
        what it leaves then is at most a part of a line, which the next entry does not continue.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also by a SIGKILL
            if look_first and any(found.get("id") == entry["id"] for found in self.entries()):
                return False
            line = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
            line = self._begin_of_line(file) + line
            if file.write(line) != len(line):
                raise OSError(f"{self.path}: only a part of a line could be written")
            os.fsync(file.fileno())
        return True

    def entries(self) -> list[dict[str, Any]]:
        """All entries in their order; a line that was cut off is left out."""
        if not self.path.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in self.path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    @staticmethod
    def _begin_of_line(file: Any) -> bytes:
        if file.seek(0, os.SEEK_END) == 0:
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"
