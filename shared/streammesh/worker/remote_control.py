"""Celery's remote control of a service: it reaches that service's workers, and no other team's.

All workers of a mesh hear the same exchange, so that one Flower can show them all. The names of a service's workers
begin with its own, and by that a command says whom it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from celery.app.control import Control


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
        return super().broadcast(
            command, arguments, destination, *args, pattern=pattern, matcher=matcher, **options
        )
