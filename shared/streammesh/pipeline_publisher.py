"""Publishes within a redis-py pipeline of a service's own, so that events and the service's own writes are one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streammesh import lua
from streammesh.events.encoded import seal
from streammesh.events.envelope import Event, build
from streammesh.events.publisher import Published, publish_call
from streammesh.events.traced import traced
from streammesh.keys import Keys
from streammesh.settings import MeshSettings


class Queued(NamedTuple):
    """Events that are published when a pipeline is executed; `place` is that of their answer."""

    call: lua.Call[list[Published]]
    place: int

    def published(self, answers: Sequence[Any]) -> list[Published]:
        """What became of them, from the answers of `execute`. Raises EventConflict, MeshFull: then none was stored."""
        answer = answers[self.place]
        if isinstance(answer, Exception):
            raise answer
        return self.call.read(answer)


class PipelinePublisher:
    """Publishes within a redis-py pipeline, sync or asyncio, together with the commands of the service's own.

    With `transaction=True` (MULTI/EXEC) Redis does all of them or none, whoever is killed when, and nobody sees a half. It
    rolls nothing back: where the mesh does not take the events (an identity with other content, a memory at its mark), the
    other commands are done all the same, and `Queued.published` raises.
    """

    def __init__(self, pipeline: Any, keys: Keys, settings: MeshSettings, source: str) -> None:
        self._pipeline, self._keys, self._settings, self.source = pipeline, keys, settings, source

    def publish(self, event_type: str, data: Any, **attributes: Any) -> Queued:
        """Publish one event; `attributes` as in `build`."""
        return self.publish_events([build(self.source, event_type, data, **attributes)])

    def publish_events(self, events: Sequence[Event]) -> Queued:
        """Publish a batch, all or nothing. Raises InvalidEvent and EventTooLarge at once, with nothing added."""
        pipeline = self._pipeline
        if getattr(pipeline, "watching", False) and not pipeline.explicit_transaction:
            raise ValueError("call multi() of the pipeline first: what follows WATCH is executed at once")
        if not events:
            raise ValueError("there is no event to publish")
        with traced([seal(event) for event in events]) as sealed:
            call = publish_call(self._keys, self._settings, sealed)
        queued = Queued(call, len(pipeline))
        # The text, and not its digest: a script that the server does not know would fail in the midst of a transaction.
        pipeline.execute_command(*call.eval(text=True))
        return queued
