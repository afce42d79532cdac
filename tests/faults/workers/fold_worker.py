"""`python -m tests.faults.workers.fold_worker`: a run for each quiet period of a key, and runs that are given several events."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from streammesh import Context, Event, Failed, Service

from tests.faults.records import write_line

QUIET, MAX_WAIT = 0.5, 2.0  # seconds
BATCH, LINGER = 20, 0.3
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


@service.on(
    "fault.added", retries=20, backoff=0.02, backoff_cap=0.2, key="data.key", batch=BATCH, linger=LINGER
)
async def added(events: list[Event], ctx: Context) -> int:
    """Some of them fail, and now and then all do."""
    write_line(f"batch {len(events)} {ctx.task_id} {','.join(one.id for one in events)}")
    await asyncio.sleep(random.uniform(0, 0.01))
    if random.random() < 0.02:
        raise ValueError("no luck this time")
    if wrong := {number: "no luck" for number in range(len(events)) if random.random() < 0.01}:
        raise Failed(wrong)
    return len(events)


if __name__ == "__main__":
    service.run()
