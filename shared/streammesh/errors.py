"""Every error of the kit, named by what happens next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

LONGEST_PAUSE = timedelta(days=366)  # between two attempts


class MeshError(Exception):
    """Base of every error that the kit raises on purpose."""


class MeshUnavailable(MeshError):
    """Redis cannot be reached or refuses writes. Nothing was changed; the same call may be tried again."""


class MeshFull(MeshUnavailable):
    """Redis has no room for anything new. Nothing was stored; what was accepted is worked off, so try again later."""

    def __init__(self, used: int = 0, most: int = 0, mark: int = 0) -> None:
        self.used, self.most, self.mark = used, most, mark
        how = (
            f"{used:,} of {most:,} bytes are used, and publishing stops at {mark} %"
            if most
            else "maxmemory is reached"
        )
        super().__init__(f"Redis is full ({how})")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with an input: `pointer` is a JSON Pointer (RFC 6901) into it."""

    pointer: str
    detail: str


class InvalidEvent(MeshError):
    """The event can never be accepted as it is. `errors` says what is wrong where; nothing was stored."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.detail}" for e in errors))


class MalformedJson(InvalidEvent):
    """What should be JSON is none."""


class EventTooLarge(MeshError):
    """The event is larger than `MESH_MAX_EVENT_BYTES`. Nothing was stored."""


class ResultTooLarge(MeshError):
    """A handler's result has more than `MESH_MAX_RESULT_BYTES`, or too many values; it is not stored."""


class EventConflict(MeshError):
    """Another event with the same (source, id) but different content was published before.

    `index` is its position in the batch. Nothing of the batch was stored.
    """

    def __init__(self, index: int, source: str, event_id: str) -> None:
        self.index, self.source, self.event_id = index, source, event_id
        super().__init__(
            f"an event with source {source!r} and id {event_id!r} but different content exists;"
            " publish new facts under a new id"
        )


class InvalidManifest(MeshError):
    """A service asked for something it may not have; its manifest was not stored."""


class InvalidExpression(MeshError):
    """A filter written in CEL is none, or asks for what is not supported; the text says at which character."""


class InvalidSchedule(MeshError):
    """A schedule entry cannot be understood. It was not stored."""


class LeaseLost(MeshError):
    """This attempt is no longer the current one: another worker took the task over, or it ended.

    What the handler did is not recorded; whoever holds the task now decides its outcome.
    """


class Malformed(MeshError):
    """What lies in a stream or a queue is not what the mesh writes there; it is parked with this reason."""


class Reject(MeshError):
    """Raised by a handler: the event is at fault and can never succeed, so it is dead-lettered now, with this reason.

    It says nothing against the service: however many come in a row, the breaker does not count them.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Failed(MeshError):
    """Raised, or returned, by a handler of a batch: these of its events failed, and the others did not.

    `errors`: index in the list that it was given -> the error, or a text; a Reject or Fail gives that event up, a Retry says when.
    """

    def __init__(self, errors: Mapping[int, Exception | str]) -> None:
        self.errors = dict(errors)
        super().__init__(f"{len(self.errors)} events of the batch failed")

    def error(self, index: int) -> Exception:
        """Return why this event failed."""
        found = self.errors[index]
        return found if isinstance(found, Exception) else RuntimeError(str(found))


class Misfit(Reject):
    """The payload does not fit the handler's model. Told as a Reject, unless another edition of the service may read it."""


class Fail(MeshError):
    """Raised by a handler: the event is good, and trying again is of no use (a sender that the mail server does not
    take, a key that expired). Dead-lettered now; the breaker counts it, so that the next events wait."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Retry(MeshError):
    """Raised by a handler: try again `after` this long (seconds or timedelta, a year at most), whatever the backoff says."""

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        if not isinstance(after, timedelta | int | float | None):
            raise TypeError(f"Retry(after={after!r:.80}): should be seconds or a timedelta")
        self.reason = reason
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after
        if self.after is not None and self.after > LONGEST_PAUSE:
            raise ValueError(f"Retry(after={after!r:.80}): should be a year at most")
        super().__init__(reason or f"retry after {self.after}")


class IncompatibleLibrary(MeshError):
    """A library is installed or set so that the mesh cannot work with it. Nothing was begun."""


class InvalidApiKey(MeshError):
    """An API key cannot be what was asked for. Nothing was stored."""


class ApiKeyRevoked(MeshError):
    """This secret was revoked, and is not stored again. Nothing was changed."""


class ApiKeyExists(MeshError):
    """The name of an API key is taken. Nothing was stored."""


class InvalidWebhook(MeshError):
    """A webhook cannot be what was asked for, or what is stored is none. Nothing was changed."""


class Stopped(Exception):
    """The handler was stopped because its task is wanted cancelled."""
