"""Has a lease keeper watched from outside its process, where handlers may keep the interpreter from its thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

import structlog

from streammesh.transport import lease_watch
from streammesh.transport.scripts import QueueCalls

CLOSE_SECONDS = 2.0  # how long closing waits for the watching process to end
log = structlog.get_logger(__name__)


class LeaseGuard:
    """The watching process of one consumer, and the memory shared with it."""

    def __init__(self, signs: lease_watch.Signs, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.give, self.rest, self.silence = signs.give, signs.rest, signs.silence

    def close(self) -> None:
        """Nothing is held any more: the process ends."""
        assert self._process.stdin is not None
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(CLOSE_SECONDS)


def start_guard(
    url: str, options: dict[str, Any], calls: QueueCalls, streams: Sequence[str]
) -> LeaseGuard | None:
    """Start watching over what the consumer of `calls` holds in `streams`; None where that cannot be done.

    `url` and `options` (redis-py's connection arguments) say how to get there.
    """
    about = {
        "url": url,
        "options": {name: value for name, value in options.items() if _is_plain(value)},
        "namespace": calls.keys.namespace,
        "consumer": calls.consumer,
        "streams": [*streams],
    }
    lease = calls.lease_ms / 1000
    try:
        with _memory() as memory:
            memory.write(bytes(lease_watch.ABOUT) + json.dumps(about).encode())
            memory.flush()
            signs, fd = lease_watch.Signs(memory.fileno()), memory.fileno()
            command = [sys.executable, "-P", lease_watch.__file__, str(fd), str(os.getpid()), str(lease)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(fd,))
    except OSError as error:
        log.warning("lease.unguarded", consumer=calls.consumer, reason=str(error))
        return None
    return LeaseGuard(signs, process)


def _memory() -> IO[bytes]:
    """A file without a name, since a password may be in it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("leases"), "w+b")
    return tempfile.TemporaryFile()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
