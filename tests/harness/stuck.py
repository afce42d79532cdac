"""A worker whose consumer hangs soon after it is ready: `python -m tests.harness.stuck`."""

from __future__ import annotations

import time
from typing import Any

from celery import signals
from streammesh import Service

service = Service("stuck", pool="async")


@service.on("stuck.never")
async def never() -> None:
    """Give the worker something to be there for."""


@signals.worker_ready.connect(weak=False)
def _hang(sender: Any, **_: Any) -> None:
    sender.hub.call_later(0.5, time.sleep, 60)


if __name__ == "__main__":
    service.run()
