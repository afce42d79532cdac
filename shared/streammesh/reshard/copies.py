"""What is written into a new shard: keys as they are, names of queues, webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import redis

from streammesh import lua, plain_json
from streammesh.errors import InvalidWebhook
from streammesh.keys import Keys
from streammesh.redisio.answers import there
from streammesh.reshard.survey import PAGE
from streammesh.webhooks.definition import from_json
from streammesh.webhooks.store import store_call


def answered(client: redis.Redis, command: str, key: str | bytes, *args: Any) -> Any:
    """What Redis answers; None where something of another type lies there, which is copied and not understood."""
    pipe = client.pipeline(transaction=False)
    pipe.execute_command(command, key, *args)
    return there(pipe.execute(raise_on_error=False)[0], None)


def copy_page(
    source: redis.Redis, target: redis.Redis, names: Sequence[bytes], old: bytes, new: bytes
) -> None:
    """Copy these keys, what they hold byte for byte."""
    pipe = source.pipeline(transaction=False)
    for name in names:
        pipe.dump(name)
        pipe.pttl(name)
    answers = pipe.execute()
    writes = target.pipeline(transaction=False)
    for name, dump, left in zip(names, answers[::2], answers[1::2], strict=True):
        if dump is not None:  # else it expired meanwhile
            writes.restore(new + name.removeprefix(old), max(0, left), dump, replace=True)
    writes.execute()


def rename_queues(target: redis.Redis, old: Keys, new: Keys) -> None:
    """Have what waits for its time go to the new mesh's queues.

    The member `queue` of such an entry is the one value of a mesh that is a key; all others are somebody's text, whatever
    stands in it.
    """
    entries = new.due_entries()
    if target.type(entries) != b"hash":
        return
    named = b'"queue":"'
    begins = [named + keys.queue("").encode() for keys in (old, new)]
    cursor = 0
    while True:
        cursor, page = target.hscan(entries, cursor, count=PAGE)
        changed = {
            # In what a script wrote, quotes in a text have a backslash before them: unescaped, this is the member itself.
            member: entry.replace(begins[0], begins[1], 1)
            for member, entry in page.items()
            if begins[0] in entry and _queue_in(entry).startswith(old.queue(""))
        }
        if changed:
            target.hset(entries, mapping=changed)
        if not cursor:
            return


def _queue_in(entry: bytes) -> str:
    """The key of the queue to which an entry of what waits goes; '' where it names none."""
    try:
        queue = plain_json.loads(entry)["queue"]
    except (ValueError, KeyError, TypeError):  # an event, or garbage
        return ""
    return queue if isinstance(queue, str) else ""


def copy_webhooks(source: redis.Redis, target: redis.Redis, first: Keys, keys: Keys, number: int) -> None:
    """Give a new shard its copy of each webhook, which is told all that is said there."""
    for name, raw in source.hscan_iter(first.webhooks(), count=PAGE):
        try:
            webhook = replace(from_json(raw), shard=number)
        except InvalidWebhook:  # the first shard has it as it is, and no other needs it
            continue
        if webhook.id.encode() == name:
            lua.run_sync(target, store_call(keys, webhook, b"", "0-0"))
