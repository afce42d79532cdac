"""Handlers that nothing stops but the end of their process."""

from __future__ import annotations

import asyncio
import time

from streammesh import Context

from tests.probe.record import record
from tests.probe.service import service


@service.on("probe.deaf")
async def deaf(ctx: Context) -> None:
    """Refuse every cancellation."""
    record(f"deaf {ctx.event.id}")
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            continue


@service.on("probe.blocking")
async def blocking(ctx: Context) -> None:
    """Keep the event loop to itself."""
    record(f"blocking {ctx.event.id}")
    time.sleep(600)  # noqa: ASYNC251 - that is the point
