"""Celery's remote control of a service: it reaches that service's workers, and no other team's.

All workers of a mesh hear the same exchange, so that one Flower can show them all. The names of a service's workers
begin with its own, and by that a command says whom it means. Each shard has an exchange of its own; a process that is not
bound to one shard speaks to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

import structlog
from celery.app.control import Control

log = structlog.get_logger(__name__)


class MeshControl(Control):
    """Celery's remote control; that of a service's app is for its own workers."""

    def broadcast(
        self,
        command: str,
        arguments: Any = None,
        destination: Sequence[str] | None = None,
        *args: Any,
        pattern: str | None = None,
        matcher: str | None = None,
        **options: Any,
    ) -> Any:
        """As Celery's. Raises ValueError for a destination that is another service's worker."""
        plumbing = self.app.plumbing
        if plumbing is not None:
            ours = f"{plumbing.service}-*"
            strangers = [name for name in destination or () if not fnmatchcase(name, ours)]
            if strangers:
                raise ValueError(
                    f"{', '.join(strangers)}: no worker of {plumbing.service}; its are named {ours}"
                )
            if not destination and not pattern:
                pattern, matcher = ours, "glob"
        others = self.app.other_shards
        if not others or options.get("connection") or options.get("channel") or args:
            return super().broadcast(
                command, arguments, destination, *args, pattern=pattern, matcher=matcher, **options
            )
        if callback := options.get("callback"):
            options["callback"] = _one_at_a_time(callback)

        def told(app: Any) -> Any:
            return Control.broadcast(
                app.control, command, arguments, destination, pattern=pattern, matcher=matcher, **options
            )

        return _joined(
            [self.app, *others], told, reply=bool(options.get("reply")), limit=options.get("limit")
        )


def _one_at_a_time(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    lock = Lock()

    def called(body: Any) -> Any:
        with lock:
            return callback(body)

    return called


def _joined(apps: Sequence[Any], tell: Callable[[Any], Any], *, reply: bool, limit: int | None) -> Any:
    """Tell all shards at once. What some answer counts where another one is away, which is said; without answers it is raised,
    after all others were told.
    """
    with ThreadPoolExecutor(len(apps)) as pool:
        calls = [pool.submit(tell, app) for app in apps]
    failed = [error for call in calls if (error := call.exception())]
    if failed and (not reply or len(failed) == len(apps)):
        raise failed[0]
    for error in failed:
        log.error("control.shard_away", reason=repr(error)[:200])
    if not reply:
        return None
    answers = [answer for call in calls if not call.exception() for answer in call.result() or ()]
    return answers[:limit] if limit else answers
