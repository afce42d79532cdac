"""What an attempt knows of a durable handler's steps and waits; how they are made is `durable/`'s business. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from streammesh.tasks.task import LedgerAnswer, QueuePlace, TaskRef

if TYPE_CHECKING:
    from streammesh.lua import Call


class Suspended(BaseException):
    """Raised inside a handler that waits: its attempt ends, and the handler begins again when the wait is over.

    No Exception, so that `except Exception` in a handler lets it pass.
    """

    def __init__(self, call: Call[LedgerAnswer]) -> None:
        self.call = call  # what ends the attempt
        super().__init__("the handler waits; it is called again when the wait is over")


class DurableRun(Protocol):
    """One attempt of a run: it answers steps that were made before from their records.

    Each of these returns what an `async def` handler awaits, or the result itself in a `def` handler.
    """

    @property
    def version(self) -> int:
        """The version of the handler that this run goes on with."""

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        retries: int,
    ) -> Any:
        """`Context.step`."""

    def sleep(self, seconds: float, name: str | None) -> Any:
        """`Context.sleep`."""

    def wait_for(
        self, event_type: str, match: Mapping[str, Any], seconds: float | None, name: str | None
    ) -> Any:
        """`Context.wait_for`."""

    def expect(self, event_type: str, match: Mapping[str, Any], seconds: float) -> Any:
        """Wait for an event that is published within `seconds` after the run's own; None where none is."""

    def stream(self, name: str) -> Any:
        """`Context.stream`."""

    async def flush(self) -> None:
        """Return when all that was sent to its streams is written."""

    def drop(self) -> None:
        """Give up what waits to be written."""

    def ask(self, call: Call[Any]) -> Any:
        """Make a call as this attempt makes its own."""

    def wait_for_signal(self, name: str, seconds: float | None, about: Mapping[str, Any]) -> Any:
        """`Context.wait_for_signal`."""


OpenRun = Callable[
    [TaskRef, QueuePlace, int, Mapping[bytes, bytes]], DurableRun
]  # of a task's attempt, given its row
