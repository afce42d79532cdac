"""What joins a process to the parent of its group: its health goes out, and the order to drain comes in.

The order is the end of what can be read, so it comes from a parent that was killed, too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from streammesh.group_place import GroupPlace, group_place
from streammesh.health import Health, serve_health
from streammesh.settings import MeshSettings

REPORT_SECONDS = 1.0
END_SECONDS = 12.0  # beyond the drain: the worker's own deadlines have come and gone
log = structlog.get_logger(__name__)


class GroupLink:
    """A thread that reports, and listens. It ends with the process.

    `measured`: the process answers `/metrics` on a port of this machine, of which its parent is told. `end` ends a
    process that has not drained in time.
    """

    def __init__(
        self,
        place: GroupPlace,
        health: Health,
        drain: float,
        end: Callable[[str, int], None],
        *,
        measured: bool,
    ) -> None:
        self._socket, self._health, self._drain = socket.socket(fileno=place.fd), health, drain
        self._port = serve_health(health, "127.0.0.1", 0, measured=True).port if measured else None
        self._stops, self._end = threading.Event(), end
        threading.Thread(target=self._run, name="group-link", daemon=True).start()

    def stopping(self, **_: Any) -> None:
        """Hear that the process drains already, and needs not be told to."""
        self._stops.set()

    def _run(self) -> None:
        self._socket.settimeout(REPORT_SECONDS)
        while self._goes_on():
            self._report()
        log.info("process.told_to_drain", by="its group's parent, or by its end")
        if not self._stops.is_set():  # Ctrl-C reaches all of a terminal's processes
            os.kill(os.getpid(), signal.SIGTERM)
        ends_at = time.monotonic() + self._drain + END_SECONDS
        while time.monotonic() < ends_at:
            self._report()
            time.sleep(REPORT_SECONDS)
        self._end("it did not end within the time that a stopping worker has", 1)

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


def tell_health(health: Health, settings: MeshSettings) -> None:
    """Answer `/livez`, `/readyz` and `/metrics` of a role's process from now on, in a group by way of its parent."""
    if place := group_place():
        GroupLink(place, health, settings.drain.total_seconds(), _end, measured=settings.metrics)
    else:
        serve_health(health, settings.health_host, settings.health_port, measured=settings.metrics)


def _end(reason: str, code: int) -> None:
    log.critical("process.ends", reason=reason)
    os._exit(code)
