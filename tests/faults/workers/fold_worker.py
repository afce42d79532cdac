"""`python -m tests.faults.workers.fold_worker`: a handler that runs once for each quiet period of a key, and writes that down."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from streammesh import Context, Service

from tests.faults.records import write_line

QUIET, MAX_WAIT = 0.5, 2.0  # seconds
service = Service("fault_fold", prefetch=4)


@service.on(
    "fault.saved",
    retries=20,
    backoff=0.02,
    backoff_cap=0.2,
    key="data.key",
    debounce=QUIET,
    max_wait=MAX_WAIT,
)
async def saved(data: dict[str, Any], ctx: Context) -> int:
    """Only the last of a period."""
    write_line(f"ran {data['key']} {data['number']} {ctx.task_id}")
    await asyncio.sleep(random.uniform(0, 0.01))
    return int(data["number"])


if __name__ == "__main__":
    service.run()
