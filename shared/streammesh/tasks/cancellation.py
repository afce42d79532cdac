"""Cancels tasks: the caller of `cancel.lua`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from streammesh import lua, notifications
from streammesh.events.publisher import ms
from streammesh.keys import WORKERS, Keys
from streammesh.settings import MeshSettings
from streammesh.tasks.ledger import Failure
from streammesh.tasks.records import TaskRow

CANCELLED = Failure("it was cancelled", "Cancelled")
EXPIRED = Failure("it expired before it was started", "Expired")


def expired_after(attempts: int, reason: str) -> Failure:
    """What is told of a task whose next attempt would have come too late."""
    why = f": {reason}" if reason else ""
    return Failure(
        f"it expired before attempt {attempts + 1} was started; attempt {attempts} failed{why}", "Expired"
    )


@dataclass(frozen=True, slots=True)
class Cancelling:
    """What became of the wish: `cancelled` at once, `asked` (its worker stops it), `ended` before, or `gone`."""

    verdict: Literal["cancelled", "asked", "ended", "gone"]
    state: str = ""  # how it had ended


def cancel_call(keys: Keys, settings: MeshSettings, row: TaskRow) -> lua.Call[Cancelling]:
    """Cancel a task that was read; the script looks again at where it is now.

    What has not begun never starts. What runs is stopped by its worker, and ends as `cancelled` unless its
    handler was quicker or does not let itself be stopped; should the worker die meanwhile, it ends all the same.
    """
    event = row.event
    fragment = notifications.fragment(event)
    head, _ = notifications.task_fragments(row.id, row.name, row.service)
    outcome = orjson.dumps({"error": CANCELLED.to_dict()}).decode()
    return lua.Call(
        lua.script("cancel"),
        [
            *(keys.task(row.id), keys.event(event["id"]), keys.notifications()),
            keys.queue(row.place.queue, row.place.priority),
            *(keys.tasks_recent(), keys.open_tasks(row.service), keys.due(), keys.due_entries()),
            keys.held(row.name),
        ],
        [
            *(WORKERS, outcome, ms(settings.result_ttl), ms(settings.retention), settings.notifications_kept),
            *(f"{fragment}{head}", f'}},"data":{outcome}'),
            *(event["source"], event["id"], event["type"], event.get("subject") or ""),
            *(row.service, row.id, fragment, row.name, keys.control(row.service)),
        ],
        _parse,
    )


def _parse(answer: list[Any]) -> Cancelling:
    return Cancelling(answer[0].decode(), answer[1].decode("utf-8", "replace") if len(answer) > 1 else "")
