"""Ends this process where it cannot go on working: at once, so that it is started again and nobody waits for it."""

from __future__ import annotations

import os
import threading

import structlog

from streammesh.telemetry import spans
from streammesh.transport.lease_renewer import give_all_back

EX_SOFTWARE = 70
GIVE_BACK_SECONDS = 3.0
log = structlog.get_logger(__name__)


def end_process(reason: str, code: int = EX_SOFTWARE) -> None:
    """Give back what this process holds, if that goes quickly, and exit without waiting for any thread."""
    log.critical("worker.ends", reason=reason)
    giving = threading.Thread(target=give_all_back, name="give-back", daemon=True)
    giving.start()
    giving.join(GIVE_BACK_SECONDS)
    spans.end()
    os._exit(code)
