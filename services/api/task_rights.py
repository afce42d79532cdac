"""Who may act on a task: whoever may publish events of its type."""

from __future__ import annotations

from streammesh.api_keys import ApiKey
from streammesh.tasks.records import TaskRow

from services.api.problems import Problem
from services.api.state import Wiring

LONGEST_ID = 64


async def task_to_act_on(wiring: Wiring, key: ApiKey, task_id: str, deed: str) -> TaskRow:
    """The task, where this key may do that: `deed` is the end of "may not publish it, nor ...".

    Raises Problem: 404 for a task that is not known or not to be seen by this key, 403 for one that it may only see.
    """
    row = await wiring.rows.task(task_id) if len(task_id) <= LONGEST_ID else None
    event_type = str(row.event.get("type", "")) if row else ""
    if row is None or not (key.may_subscribe(event_type) or key.may_publish(event_type)):
        raise Problem(
            "not-found",
            f"There is no task {task_id[:LONGEST_ID]!r}; it never was, or its record was dropped.",
        )
    if not key.may_publish(event_type):
        raise Problem("forbidden", f"The key {key.name!r} may not publish {event_type!r}, nor {deed}.")
    return row
