"""What joins a worker to the parent of its group: its health goes out, and the order to drain comes in.

The order is the end of what can be read, so it comes from a parent that was killed, too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import structlog
from celery import signals

from streammesh.group_place import GroupPlace
from streammesh.health import Health, serve_health
from streammesh.worker.process_end import end_process

REPORT_SECONDS = 1.0
END_SECONDS = 12.0  # beyond the drain: the worker's own deadlines have come and gone
log = structlog.get_logger(__name__)


class GroupLink:
    """A thread that reports, and listens. It ends with the process.

    `measured`: the process answers `/metrics` on a port of this machine, of which its parent is told.
    """

    def __init__(self, place: GroupPlace, health: Health, drain: float, *, measured: bool) -> None:
        self._socket, self._health, self._drain = socket.socket(fileno=place.fd), health, drain
        self._port = serve_health(health, "127.0.0.1", 0, measured=True).port if measured else None
        self._stops = threading.Event()
        signals.worker_shutting_down.connect(self._stopping, weak=False)
        threading.Thread(target=self._run, name="group-link", daemon=True).start()

    def _stopping(self, **_: Any) -> None:
        self._stops.set()

    def _run(self) -> None:
        self._socket.settimeout(REPORT_SECONDS)
        while self._goes_on():
            self._report()
        log.info("worker.told_to_drain", by="its group's parent, or by its end")
        if not self._stops.is_set():  # Ctrl-C reaches all of a terminal's processes
            os.kill(os.getpid(), signal.SIGTERM)
        ends_at = time.monotonic() + self._drain + END_SECONDS
        while time.monotonic() < ends_at:
            self._report()
            time.sleep(REPORT_SECONDS)
        end_process("it did not end within the time that a stopping worker has", 1)

    def _goes_on(self) -> bool:
        """Wait for a moment; answers whether the parent is there and wants nothing."""
        try:
            return self._socket.recv(1) != b""
        except TimeoutError:
            return True
        except OSError:
            return False

    def _report(self) -> None:
        dead, unready = _wrong(self._health.live()), _wrong(self._health.ready())
        report = {"dead": dead, "unready": unready, "port": self._port}
        with suppress(OSError):  # the parent is stopped or gone
            self._socket.send(json.dumps(report).encode() + b"\n", socket.MSG_DONTWAIT)


def _wrong(document: dict[str, Any]) -> str | None:
    """What does not work, of the parts of a health document."""
    ill = [f"{name}: {part['detail']}" for name, part in document["parts"].items() if not part["ok"]]
    return "; ".join(ill)[:2000] or None
