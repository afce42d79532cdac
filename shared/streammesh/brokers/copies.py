"""What other brokers carry: tasks on their way to workers, as they are written there and read again.

A message with a tag is a copy of a queue entry, which stands for a delivery and stays in the queue until that has
ended. One without has no entry: a plain Celery task, which is the broker's alone.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson

from streammesh.brokers.connection import HIGHEST_PRIORITY
from streammesh.tasks.dead_letter import Fields
from streammesh.transport.codec import BODY, HEAD, SINCE, encode, parse_tag

TAG = "mesh_tag"  # header: the delivery tag of the queue entry that a message stands for
SINCE_HEADER = "mesh_since"  # header: since when (ms) no worker was found that knows the task
KEPT = ("correlation_id", "reply_to")  # properties that mean something to Celery
MIDDLE = 5


def tag_of(message: Any) -> str | None:
    """Where the queue entry of a message lies: its delivery tag says so, or a header where another broker brought it.

    None for a task that has no entry.
    """
    if hasattr(message.channel, "keeper"):
        return str(message.delivery_tag)
    tag = (message.headers or {}).get(TAG)
    try:
        parse_tag(str(tag))
    except ValueError:
        return None  # somebody else's
    return str(tag)


def fields_of(message: Any) -> Fields:
    """The fields that a queue entry for this message would have; whatever it is, something can be shown of it."""
    headers = dict(message.headers or {})
    since = headers.pop(SINCE_HEADER, None)
    headers.pop(TAG, None)
    stored = message.properties or {}
    properties = {name: stored[name] for name in KEPT if stored.get(name) is not None}
    if isinstance(stored.get("priority"), int):
        properties["priority"] = priority_here(stored["priority"], message.channel)
    try:
        fields = encode(
            {
                "headers": headers,
                "properties": properties,
                "body": message.body or b"",
                "content-type": message.content_type,
                "content-encoding": message.content_encoding,
            }
        )
    except (TypeError, ValueError, RecursionError):
        fields = {HEAD: orjson.dumps({"headers": repr(headers)}), BODY: bytes(repr(message.body), "utf-8")}
    if isinstance(since, int | str) and str(since).isdigit():
        fields[SINCE] = str(since).encode()
    return fields


def name_of(message: Any) -> str:
    """What a dead letter about it is told apart by: the task's id, where there is one."""
    task_id = (message.headers or {}).get("id")
    return str(task_id)[:256] if task_id else uuid4().hex


def priority_there(ours: int | None, channel: Any) -> int:
    """Ours go from 0 (low) to 9 (high), as RabbitMQ's do; kombu's lists have it the other way round."""
    level = min(HIGHEST_PRIORITY, max(0, MIDDLE if ours is None else ours))
    return level if knows_confirms(channel) else HIGHEST_PRIORITY - level


def priority_here(theirs: int, channel: Any) -> int:
    """The way back."""
    return priority_there(theirs, channel)


def knows_confirms(channel: Any) -> bool:
    """Whether the channel is one of RabbitMQ's."""
    return hasattr(channel, "confirm_select")
