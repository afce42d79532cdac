"""What a call of the client can end in, beside MeshUnavailable: the API is not reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streammesh.errors import MeshError, MeshUnavailable


class ApiError(MeshError):
    """The API refused the request; nothing was changed. `problem` is its RFC 9457 document.

    `retry_after`: seconds after which it may be asked again, where it said so.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status, self.problem, self.retry_after = status, problem, retry_after
        errors = [e for e in problem.get("errors") or [] if isinstance(e, dict)]
        fields = "; ".join(f"{e.get('pointer')}: {e.get('detail')}" for e in errors)
        detail = (
            problem.get("detail") or problem.get("title") or "no reason given"
        )  # it tells the first error
        super().__init__(f"{status}: {detail}{f' ({fields})' if len(errors) > 1 else ''}")


class ApiUnavailable(ApiError, MeshUnavailable):
    """The API, or a proxy before it, answers 502, 503 or 504: not now. The same call may be made again."""


class InvalidAddress(MeshError, ValueError):
    """The URL or the key cannot be what they are given as; nothing was asked."""


class UnexpectedAnswer(MeshError):
    """What answers at the URL is not a mesh's API: a redirect, a page, no HTTP, a stream without an end."""


class NotEnded(MeshError, TimeoutError):
    """The event was published and has not ended in the time given; it goes on without whoever waited.

    `waiting` says of each of its tasks that has not ended where it stands, as far as that could be asked.
    """

    def __init__(self, event_id: str, source: str, seconds: float, waiting: Sequence[str] = ()) -> None:
        self.event_id, self.source, self.waiting = event_id, source, list(waiting)
        more = f": {'; '.join(waiting)}" if waiting else ""
        super().__init__(f"event {event_id} has not ended after {seconds:g} s{more}")
