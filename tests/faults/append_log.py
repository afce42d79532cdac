"""Reads what a server wrote into its append-only file: every write that ever took effect, in order.

This is the witness of the suite. It does not depend on the mesh's own books, and unlike a reader at the side
of a stream it cannot miss an entry that was deleted again at once. The file must never be rewritten during a run
(`--auto-aof-rewrite-percentage 0`). What one script or transaction wrote stands between MULTI and EXEC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

Command = list[bytes]


class Rewritten(Exception):
    """The file does not reach back to the beginning, so it proves nothing."""


def _number(text: bytes) -> int:
    """Return a length as the server reads it, which does not look at what comes after its digits: a bit may be wrong."""
    found = re.match(rb"\d+", text)
    return int(found[0]) if found else 0


def transactions(folder: Path, *, since_sync: bool = False) -> Iterator[list[Command]]:
    """The commands of a server whose data lies in `folder`, those of one script or transaction together.

    `since_sync`: of a replica whose file began anew, once, as it first synchronised with its master.

    A last transaction that was not written to its end is left out, as the server does when it loads.
    """
    files = sorted((folder / "appendonlydir").glob("*.incr.aof"))
    wanted = "appendonly.aof.2.incr.aof" if since_sync else "appendonly.aof.1.incr.aof"
    if [file.name for file in files] != [wanted]:
        raise Rewritten(f"{[file.name for file in files]}")
    held: list[Command] | None = None
    for command in _commands(files[0].read_bytes()):
        name = command[0].upper()
        if name == b"MULTI":
            held = []
        elif name == b"EXEC":
            yield held or []
            held = None
        elif held is not None:
            held.append(command)
        else:
            yield [command]


def _commands(text: bytes) -> Iterator[Command]:
    at, size = 0, len(text)
    while at < size:
        end = text.find(b"\n", at)
        if end < 0:
            return
        if text[at : at + 1] == b"#":  # an annotation with the time
            at = end + 1
            continue
        if text[at : at + 1] != b"*":
            raise ValueError(f"no command at byte {at}")
        count, at = _number(text[at + 1 : end]), end + 1
        command = []
        for _ in range(count):
            end = text.find(b"\n", at)
            if end < 0:
                return
            length = _number(text[at + 1 : end])
            at = end + 1 + length + 2
            if at > size:
                return
            command.append(text[end + 1 : end + 1 + length])
        yield command
