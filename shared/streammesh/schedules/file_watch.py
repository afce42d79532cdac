"""Notices that a file was changed, once it is whole."""

from __future__ import annotations

import time
from pathlib import Path

SETTLED_SECONDS = 1.0  # an editor that writes in place leaves half a file for a moment


class FileWatch:
    """Reads a file when it is first asked and again whenever it was changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._missing = False

    def changed(self) -> str | None:
        """The file's text if it is not what was read last, else None.

        A file that is missing, or is still being written, counts as unchanged. Raises OSError (once, until
        it is there again) when it cannot be read, UnicodeDecodeError when it is not UTF-8.
        """
        try:
            found = self.path.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark == self._seen:
                return None
            if self._seen is not None and 0 <= time.time() - found.st_mtime < SETTLED_SECONDS:
                return None
            raw = self.path.read_bytes()
            self._missing = False
        except OSError:
            if self._missing:
                return None
            self._missing = True
            raise
        self._seen = mark
        return raw.decode("utf-8")
