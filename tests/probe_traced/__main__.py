"""`python -m tests.probe_traced`."""

from __future__ import annotations

import structlog
from streammesh import Context, Service

service = Service("probe_traced")
log = structlog.get_logger("tests")


@service.on("traced.begun", retries=2, backoff=0.05)
async def begin(ctx: Context) -> None:
    """Fail once, then publish."""
    log.info("traced.said")
    if ctx.attempt == 1:
        raise RuntimeError("the first attempt fails")
    ctx.publish("traced.ended", {})


@service.on("traced.ended")
async def end() -> None:
    """Take what follows."""


service.run()
