"""Lets go of what is in the history: the caller of `archived.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streammesh import lua
from streammesh.events.publisher import ms
from streammesh.identity import forgotten_at, identity_of, part_of
from streammesh.keys import ARCHIVER, Keys
from streammesh.lua.history import ArchivedEvent, ArchivedScript, ArchivedTask
from streammesh.settings import MeshSettings


class Ended(NamedTuple):
    """An event of which everything has ended, as its row said when it was archived."""

    id: str
    source: str
    digest: str
    published: int
    ended: int
    done: str


def archived_call(
    keys: Keys,
    settings: MeshSettings,
    stream: str,
    positions: Sequence[str],
    tasks: Sequence[tuple[str, int]] = (),
    events: Sequence[Ended] = (),
) -> lua.Call[int]:
    """`archived.lua` for entries of one stream, with the tasks (id, when it ended) and the events that they tell of.

    Answers how many rows will leave Redis.
    """
    window, leaving = settings.dedup_window, []
    for event in events:
        bucket, name, content = identity_of(event.source, event.id, event.digest)
        part = part_of(event.published, window)
        leaving.append(
            ArchivedEvent(
                row=keys.event(event.id),
                identity=keys.identity(part, bucket),
                source=event.source,
                done=event.done,
                ended=event.ended,
                name=name,
                content=content,
                forgotten_at=forgotten_at(part, window),
            )
        )
    return ArchivedScript(
        stream=stream,
        group=ARCHIVER,
        hot=ms(settings.hot_kept),
        positions=positions,
        tasks=[ArchivedTask(row=keys.task(id), ended=ended) for id, ended in tasks],
        events=leaving,
    ).call(int)
