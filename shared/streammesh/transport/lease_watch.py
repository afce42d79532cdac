"""Watches from outside whether a worker still renews its leases: a program of its own, which needs little.

A handler in native code that keeps the interpreter keeps it from every thread, that of the lease keeper as well.
Then this program makes itself into the one that renews in the worker's stead (`lease_stand_in.py`), and that one
into this again when the worker goes on. It ends with the worker, whose end of the pipe closes then.

    python -P lease_watch.py <fd of the shared memory> <process id of the worker> <lease in seconds>
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import sys
import time

LOOKS_PER_LEASE = 8
SILENT_LEASES = 0.4  # the keeper renews after a quarter; what is left is for the stand-in to load and connect
STAND_IN = "streammesh.transport.lease_stand_in"
_SIGN = struct.Struct("<d")  # time of the last sign of life, 0 while nothing is held
ABOUT = _SIGN.size  # where in the shared memory it begins to say what is held, as JSON


class Signs:
    """The memory that a worker's lease keeper shares with who watches it. The clock is the machine's."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 0)

    def give(self) -> None:
        """The leases of what is held are renewed at this moment."""
        _SIGN.pack_into(self._memory, 0, time.monotonic())

    def rest(self) -> None:
        """Nothing is held."""
        _SIGN.pack_into(self._memory, 0, 0.0)

    def silence(self) -> float:
        """Seconds since the last sign; 0 while nothing is held."""
        (last,) = _SIGN.unpack_from(self._memory, 0)
        return time.monotonic() - last if last else 0.0

    def about(self) -> bytes:
        """What was written beside the sign."""
        return self._memory[ABOUT:]


class Watch:
    """One worker's keeper, as this program sees it."""

    def __init__(self, fd: int, worker: int, lease: float) -> None:
        self.signs, self.worker, self.lease = Signs(fd), worker, lease

    def wait(self) -> bool:
        """Wait until it is time to look again; answers False when the worker is gone."""
        closed, _, _ = select.select([0], [], [], self.lease / LOOKS_PER_LEASE)
        return not closed and os.getppid() == self.worker

    def is_silent(self) -> bool:
        """Whether the worker should have renewed by now. One that was stopped from outside does not count as living."""
        return self.signs.silence() > self.lease * SILENT_LEASES and not _is_stopped(self.worker)


def _is_stopped(worker: int) -> bool:
    try:
        with open(f"/proc/{worker}/stat", "rb") as file:  # noqa: PTH123 - pathlib is more than this needs
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t", b"Z", b"X")
    except OSError:  # no such folder on this system
        return False


def main() -> None:
    """Watch, and become the stand-in when the worker is silent."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # meant for the worker, which may go on working for a while
        signal.signal(number, signal.SIG_IGN)
    watch = Watch(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    while watch.wait():
        if watch.is_silent():
            os.execv(sys.executable, [sys.executable, "-P", "-m", STAND_IN, *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
