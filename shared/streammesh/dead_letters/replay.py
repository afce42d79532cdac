"""Gives dead letters another life, at once or spread over time: the caller of `replay_dead_letter.lua`.

Each letter is one script whose gate is the letter's removal, so a replay that is cut short, or made
twice, replays each letter once. With a rate the tasks wait in the due set, in nobody's memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis.asyncio

from streammesh import lua, notifications
from streammesh.dead_letters.letters import DeadLetter
from streammesh.keys import Keys
from streammesh.lua.services import ReplayDeadLetterScript, ReplayedTask
from streammesh.redisio.client import is_unavailable
from streammesh.settings import MeshSettings

CHUNK = 100  # letters replayed in one round trip


@dataclass(slots=True)
class Replayed:
    """What became of the letters: how many were replayed, and why the others were not."""

    replayed: int = 0
    left: Counter[str] = field(default_factory=Counter)


class Replaying:
    """Replays dead letters of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys, self._settings = client, keys, settings

    async def replay(
        self,
        letters: Sequence[DeadLetter],
        *,
        rate: float | None = None,
        told: Callable[[int], None] = lambda _: None,
    ) -> Replayed:
        """Replay letters in their order; `rate` is how many tasks start in a second.

        What never became a task goes back at once, whatever the rate. `told` is called with how many were
        dealt with, now and then.
        """
        done = Replayed()
        paced = 0
        for first in range(0, len(letters), CHUNK):
            chunk = letters[first : first + CHUNK]
            calls = []
            for letter in chunk:
                calls.append(self.call(letter, round(paced / rate * 1000) if rate else 0))
                paced += letter.form == "task"
            for answer in await lua.run_many(self._client, calls):
                if isinstance(answer, Exception):
                    if is_unavailable(answer):
                        raise answer
                    done.left[f"Redis refuses it: {answer}"[:200]] += 1
                elif answer == "replayed":
                    done.replayed += 1
                else:
                    done.left[answer] += 1
            told(len(chunk))
        return done

    def call(self, letter: DeadLetter, wait_ms: int = 0) -> lua.Call[str]:
        """`replay_dead_letter.lua`: answers `replayed`, or why not."""
        keys = self._keys
        if letter.form == "event":
            target = keys.events(letter.domain)
        else:
            target = keys.queue(letter.queue, letter.priority)
        return ReplayDeadLetterScript(
            dead=keys.dead(letter.service),
            index=keys.dead_index(letter.service),
            entries=keys.dead_entries(letter.service),
            target=target,
            id=letter.id,
            form=letter.form,
            tasks=[self._task(letter, wait_ms)] if letter.form == "task" else [],
        ).call(_verdict)

    def _task(self, letter: DeadLetter, wait_ms: int) -> ReplayedTask:
        keys, event = self._keys, letter.event or {}
        return ReplayedTask(
            row=keys.task(letter.id),
            event_row=keys.event(event.get("id", "")),
            notifications=keys.notifications(),
            open_tasks=keys.open_tasks(letter.service),
            due=keys.due(),
            due_entries=keys.due_entries(),
            cancellable=keys.cancellable(letter.task or ""),
            wait=wait_ms,
            kept=self._settings.notifications_bound,
            changed=keys.manifests_changed(),
            body=_body(letter),
            source=str(event.get("source") or ""),
            event=str(event.get("id") or ""),
            event_type=str(event.get("type") or ""),
            subject=str(event.get("subject") or ""),
            service=letter.service,
        )


def _body(letter: DeadLetter) -> str:
    about = letter.event or {}
    head, _ = notifications.task_fragments(letter.id, letter.task or "", letter.service)
    return f"{notifications.fragment(about)}{head}0}}"


def _verdict(answer: list[bytes]) -> str:
    words = {
        "gone": "it is not there any more",
        "nothing": "nothing to put back was kept",
        "busy": "its task has another life already",
    }
    said = answer[0].decode()
    return words.get(said, said)
