"""What a purged queue means for the mesh: the deliveries that wait in it are cancelled, and stay so.

Their entries alone would come back: whoever looks after open tasks would find that they lie nowhere.
"""

from __future__ import annotations

import redis

from streammesh import lua, names
from streammesh.keys import Keys
from streammesh.settings import mesh_settings
from streammesh.tasks.records import read_task
from streammesh.tasks.settlement import cancel_call
from streammesh.transport.codec import headers_of

PAGE = 500  # entries looked at in one round trip


def cancel_waiting(client: redis.Redis, keys: Keys, stream: str) -> int:
    """Cancel the deliveries whose entries wait in a queue's stream, and those whose workflows have a part there.

    What is at work goes on. Answers how many entries of the queue went with them.
    """
    cancelled, first, queue = 0, "-", stream.removeprefix(keys.queue("")).partition(":")[0]
    while rows := client.xrange(stream, first, "+", PAGE):
        heads = [(entry.decode(), headers_of(fields)) for entry, fields in rows]
        ids = {entry: str(head.get("root_id") or head.get("id")).partition("/")[0] for entry, head in heads}
        with client.pipeline(transaction=False) as pipeline:
            for task_id in ids.values():
                pipeline.hgetall(keys.task_in(queue, task_id))
            found = dict(zip(ids, pipeline.execute(), strict=True))
        for entry, head in heads:
            stored = found[entry]
            row = read_task(ids[entry], stored)
            if row is None or row.ended:
                continue
            waits = row.state == names.TaskState.QUEUED and row.entry == entry
            if waits or row.workflow == head.get("root_id"):
                lua.run_sync(client, cancel_call(keys, mesh_settings(), row))
                cancelled += waits
        first = f"({heads[-1][0]}"
    return cancelled
