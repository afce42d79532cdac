"""`breakpoint()` under `streammesh dev`: the debugger talks to the terminal of that command over a socket."""

from __future__ import annotations

import pdb
import socket
import sys
from pathlib import Path
from typing import Any

PLACE = Path("var/up/debugger.sock")


def place_of_socket(root: Path) -> Path:
    """Return where the socket is; from the folder itself by a short name, as sockets want it."""
    return PLACE if root == Path.cwd() else root / PLACE


class DeskDebugger(pdb.Pdb):
    """Python's debugger, until the handler goes on."""

    def __init__(self, line: socket.socket) -> None:
        # Two files: one for both would forget what it has read as soon as something is written.
        self._line, self._told = line, line.makefile("w", encoding="utf-8")
        super().__init__(stdin=line.makefile("r", encoding="utf-8"), stdout=self._told, nosigint=True)
        self.use_rawinput = False

    def set_continue(self) -> None:
        """Go on, and hang up."""
        super().set_continue()
        self._hang_up()

    def set_quit(self) -> None:
        """End the handler with BdbQuit, and hang up."""
        super().set_quit()
        self._hang_up()

    def _hang_up(self) -> None:
        self._told.flush()
        self._line.shutdown(socket.SHUT_RDWR)


def stop(*_: Any, **__: Any) -> None:
    """What `breakpoint()` calls. Where no `streammesh dev` listens, Python's own debugger."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(PLACE))
    except OSError:
        line.close()
        pdb.Pdb().set_trace(sys._getframe(1))
        return
    DeskDebugger(line).set_trace(sys._getframe(1))
