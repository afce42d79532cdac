"""The push that one would write first: FastAPI, sse-starlette, one XREAD for all, a dict of queues by subject.

No keys, no resuming, no filter but the subject.
"""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager

import redis.asyncio
import uvicorn
from fastapi import FastAPI
from running import REDIS, main
from sse_starlette.sse import EventSourceResponse

STREAM = "{mesh}:notifications"
by_subject = defaultdict(set)
everybody = set()


async def read() -> None:
    """Hand on what comes."""
    client, last = redis.asyncio.Redis.from_url(REDIS), "$"
    while True:
        for _, entries in await client.xread({STREAM: last}, 500, 2000) or ():
            for at, fields in entries:
                last, position, kind = at, at.decode(), fields[b"t"].decode()
                text = f'{{"id":"{position}","type":"{kind}",{fields[b"b"].decode()}}}'
                told = {"id": position, "event": kind, "data": text}
                for queue in (*by_subject.get(fields.get(b"u", b"").decode(), ()), *everybody):
                    if queue.qsize() < 256:
                        queue.put_nowait(told)


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Read while the application runs."""
    reading = asyncio.create_task(read())
    yield
    reading.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/v1/notifications")
async def notifications(subject: str | None = None) -> EventSourceResponse:
    """Be told from now on."""
    queue = asyncio.Queue()
    group = everybody if subject is None else by_subject[subject]
    group.add(queue)

    async def told():
        try:
            while True:
                yield await queue.get()
        finally:
            group.discard(queue)

    return EventSourceResponse(told(), ping=15)


def serve(port: int) -> None:
    """One process on uvloop and httptools."""
    uvicorn.run(app, port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")


if __name__ == "__main__":
    main(serve=serve)
