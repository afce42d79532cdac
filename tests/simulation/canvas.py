"""Parts of workflows: what Celery's tracer does with a plain task that succeeds or fails, for tasks of the mesh's apps.

The part runs in a greenlet (it asks Redis by blocking calls); what follows from it is made by Celery's own canvas,
captured, and queued before the part's own entry is acknowledged, as Celery does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery._state import _task_stack
from celery.exceptions import Ignore
from redis.exceptions import RedisError
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.transport.codec import encode
from streammesh.worker import message_capture

from tests.simulation.blocking import BlockingClient, on_this_loop, sleep, wait_for
from tests.simulation.sometimes import declare, sometimes

declare("a part of a workflow failed")


async def run_part(
    app: Any,
    task: Any,
    message: dict[str, Any],
    client: BlockingClient,
    add: Callable[..., Any],
    keys: Keys,
) -> str:
    """Run one plain task; return "done": its queue entry is to be acknowledged."""
    headers, (args, kwargs, embed) = message["headers"], message["parsed"]
    request = {
        "id": headers["id"],
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "task": headers["task"],
        "args": args,
        "kwargs": kwargs,
        "chain": embed.get("chain"),
        "errbacks": embed.get("errbacks"),
        "called_directly": False,
    }

    def run() -> None:
        with message_capture.capturing() as producer:
            _task_stack.push(task)
            task.push_request(**request)
            try:
                _follow(app, task, request, task.run(*args, **kwargs))
            except Ignore:
                pass  # the workflow is over
            except Exception as error:
                if request["errbacks"] is None:
                    raise
                sometimes("a part of a workflow failed")
                _fail(app, request, error)
            finally:
                task.pop_request()
                _task_stack.pop()
            for queue, sent in producer.take():
                _send(add, keys.queue(queue), encode(sent))

    # Everything a task asks of Redis goes over the simulated connection.
    app.plumbing.connections.sync = lambda: client
    await on_this_loop(run)
    return "done"


def _send(add: Callable[..., Any], *what: Any) -> None:
    """Put something into a queue, again while Redis is away, as Celery's producer does."""
    while True:
        try:
            wait_for(add(*what))
            return
        except (RedisError, OSError) as error:
            if not is_unavailable(error):
                raise
            sleep(0.1)


def _follow(app: Any, task: Any, request: dict[str, Any], result: Any) -> None:
    """Send the next of a chain."""
    if not request["chain"]:
        return
    rest = list(request["chain"])
    following = app.signature(rest.pop())
    following.apply_async(
        (result,),
        chain=rest,
        link_error=request["errbacks"],
        parent_id=request["id"],
        root_id=request["root_id"],
    )


def _fail(app: Any, request: dict[str, Any], error: Exception) -> None:
    """Call what was linked as error handler, as Celery's backend does it with a task of its own app."""

    class Request:
        id, root_id, task_name = request["id"], request["root_id"], request["task"]
        task = request["task"]

    for errback in request["errbacks"] or ():
        signature = app.signature(errback)
        app.tasks[signature["task"]].run(Request, error, None, **signature["kwargs"])
