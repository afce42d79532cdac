"""`python -m tests.faults.workers.cancel_worker`: builds that an event cancels; each writes down when it began."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from streammesh import Context, Service

from tests.faults.records import write_line

service = Service("fault_cancel")


@service.on("fault.build", retries=8, backoff=0.2, cancel_on={"fault.scrapped": "data.key"})
async def build(data: dict[str, Any], ctx: Context) -> str:
    """Take a while; wait in the midst of it, or fail the first time, now and then."""
    write_line(f"began {ctx.task_id} {time.time():.3f}")
    await asyncio.sleep(random.uniform(0, 0.2))
    if data["number"] % 5 == 0:
        await ctx.sleep(0.5)
    if data["number"] % 5 == 1 and ctx.attempt == 1:
        raise ConnectionError("not yet")
    return "built"


if __name__ == "__main__":
    service.run()
