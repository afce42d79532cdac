"""A Context for calling handlers as the functions that they are, without a mesh."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from streammesh import names
from streammesh.durable.chunks import ChunkBounds, check_stream_name
from streammesh.events.envelope import build
from streammesh.events.publisher import most_bytes
from streammesh.settings import MeshSettings
from streammesh.tasks.context import Context
from streammesh.tasks.task import LedgerAnswer, TaskRef


class TrialStream:
    """A stream to clients, without a mesh: checks what is sent, and keeps it."""

    def __init__(self, name: str, sent: list[Any]) -> None:
        self._bounds, self._sent = ChunkBounds(check_stream_name(name)), sent

    def send(self, *chunks: Any) -> Any:
        """Keep what is sent."""
        self._bounds.pieces(chunks)
        self._sent += chunks
        return _answer(None)


class TrialRun:
    """Steps and waits of a durable handler, without a mesh."""

    def __init__(
        self, steps: dict[str, Any], answers: dict[str, Any], streamed: dict[str, list[Any]]
    ) -> None:
        self._steps, self._answers, self._streamed = steps, answers, streamed
        self._streams: dict[str, TrialStream] = {}
        self.version = 1

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        retries: int,
    ) -> Any:
        """Call the function, unless there is a result of this name."""
        if name not in self._steps:
            self._steps[name] = function(*args, **kwargs)
        value = self._steps[name]
        if not _on_loop():
            return value

        async def answer() -> Any:
            if inspect.isawaitable(self._steps[name]):
                self._steps[name] = await self._steps[name]
            return self._steps[name]

        return answer()

    def sleep(self, seconds: float, name: str | None) -> Any:
        """No time passes."""
        return _answer(None)

    def wait_for(
        self, event_type: str, match: Mapping[str, Any], seconds: float | None, name: str | None
    ) -> Any:
        """What the test says came."""
        return _answer(self._answers.get(event_type))

    def wait_for_signal(self, name: str, seconds: float | None, about: Mapping[str, Any]) -> Any:
        """What the test says was answered."""
        return _answer(self._answers.get(name))

    def expect(self, event_type: str, match: Mapping[str, Any], seconds: float) -> Any:
        """What the test says came."""
        return _answer(self._answers.get(event_type))

    def stream(self, name: str) -> TrialStream:
        """Return a stream that keeps what is sent."""
        if name not in self._streams:
            self._streams[name] = TrialStream(name, self._streamed.setdefault(name, []))
        return self._streams[name]

    async def flush(self) -> None:
        """Nothing waits."""

    def drop(self) -> None:
        """Nothing waits."""

    def ask(self, call: Any) -> Any:
        """Nobody is there to be asked."""
        raise NotImplementedError(call)


def _on_loop() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def _answer(value: Any) -> Any:
    if not _on_loop():
        return value

    async def answer() -> Any:
        return value

    return answer()


class TrialContext(Context):
    """One attempt at an event that the test makes up: `TrialContext("order.placed", {"n": 1}, subject="order/1")`.

    A durable handler's steps are called, and their results kept in `steps` by name; put one there beforehand, and it is
    answered from it. Its waits end at once, with what `answers` holds for the awaited type or the signal's name, else None.
    What the handler publishes is checked as the mesh would and kept in `follow_ups`, its progress in
    `progressed` as (fraction, text), what it streams in `streamed` by the stream's name. Nothing is sent anywhere. Raises InvalidEvent for an event that cannot be.
    """

    def __init__(
        self,
        event_type: str = "test.happened",
        data: Any = None,
        *,
        attempt: int = 1,
        task_id: str | None = None,
        service: str = "tests",
        **attributes: Any,
    ) -> None:
        event = build("tests", event_type, data, **attributes)
        ref = TaskRef(task_id or names.new_id(), f"{service}.handler", service, event)
        most = most_bytes(MeshSettings(_env_file=None))
        self.steps: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.streamed: dict[str, list[Any]] = {}
        super().__init__(
            ref,
            attempt,
            lambda *_: LedgerAnswer.DONE,
            most,
            structlog.get_logger("tests"),
            lambda: TrialRun(self.steps, self.answers, self.streamed),
        )
        self.progressed: list[tuple[float, str]] = []

    def progress(self, fraction: float, text: str = "") -> Awaitable[None]:
        """As the mesh's own, and remembers it."""
        done = super().progress(fraction, text)
        self.progressed.append((fraction, text))
        return done
