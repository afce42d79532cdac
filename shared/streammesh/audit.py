"""What operators did: a stream of a bounded number of entries, in which an action stands before it is done.

Whoever acts notes the action first, does it, and notes its outcome in place of that. So nothing is done that is not
noted; an entry without an outcome is an action whose process ended in its midst, or one that goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis.asyncio
import structlog

from streammesh import lua, plain_json
from streammesh.clock import rfc3339_ms
from streammesh.keys import Keys
from streammesh.lua.services import NoteActionScript
from streammesh.redisio.answers import only, there

KEPT = 10_000  # entries, about
LAST_MS = 253_402_300_799_999  # the year 9999 ends; a position may lie beyond, put there by hand
_TEXTS = ("actor", "action", "about", "request_id")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that somebody did, or tried.

    `about` is what it was done to, `said` what was asked for. `status` is the HTTP status of the answer, and None
    while there is none; `answer` is what it said.
    """

    actor: str  # name of the API key
    action: str
    about: str = ""
    request_id: str = ""
    said: Any = None
    status: int | None = None
    answer: Any = None

    def to_json(self) -> bytes:
        """As it is stored."""
        value = {name: getattr(self, name) for name in (*_TEXTS, "said", "status", "answer")}
        return plain_json.dumps_plain(value, finite=True)


@dataclass(frozen=True, slots=True)
class NotedAction:
    """An action as the stream has it, with its position."""

    position: str
    action: Action

    def document(self) -> dict[str, Any]:
        """As the API tells it."""
        did = self.action
        return {
            "id": self.position,
            "at": rfc3339_ms(min(int(self.position.partition("-")[0]), LAST_MS)),
            **{name: getattr(did, name) for name in (*_TEXTS, "said", "status", "answer")},
        }


@dataclass(frozen=True, slots=True)
class ActionPage:
    """Actions, newest first, and the position to go on from; None at the end."""

    actions: list[NotedAction] = field(default_factory=list)
    next: str | None = None


def note_call(keys: Keys, action: Action, begun: str = "") -> lua.Call[str]:
    """`note_action.lua`: note an action, in place of the entry `begun` that stood for its beginning."""
    return NoteActionScript(audit=keys.audit(), begun=begun, action=action.to_json(), kept=KEPT).call(
        lambda position: str(position.decode())
    )


async def read_actions(
    client: redis.asyncio.Redis, keys: Keys, *, before: str | None, since_ms: int, limit: int
) -> ActionPage:
    """Actions before a position (None: the newest) and not older than `since_ms`; unreadable ones are left out."""
    pipeline = client.pipeline(transaction=False)
    pipeline.xrevrange(keys.audit(), f"({before}" if before else "+", str(since_ms), limit)
    entries = there(await only(pipeline), [])
    found = [
        noted
        for position, fields in entries
        if (noted := _noted(position.decode(), fields or {})) is not None
    ]
    more = entries[-1][0].decode() if len(entries) == limit else None
    return ActionPage(found, more)


def _noted(position: str, fields: Mapping[bytes, bytes]) -> NotedAction | None:
    try:
        value = plain_json.loads(fields[b"a"])
        status = value["status"]
        if status is not None and not (isinstance(status, int) and 100 <= status < 600):
            raise ValueError("its status is none")
        texts = {name: value[name] for name in _TEXTS}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("its actor or action is no text")
        return NotedAction(
            position, Action(**texts, said=value.get("said"), status=status, answer=value.get("answer"))
        )
    except (ValueError, KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        log.error("audit.unreadable", position=position, reason=repr(error)[:200])
        return None
