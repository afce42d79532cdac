"""The front door that one would write first: FastAPI, a model, one XADD, 202. No keys, no deduplication."""

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel, TypeAdapter
from running import REDIS, main

app = FastAPI()
client = redis.asyncio.Redis.from_url(REDIS)


class Event(BaseModel):
    """A CloudEvent."""

    specversion: str
    id: str
    source: str
    type: str
    data: dict


MANY = TypeAdapter(list[Event])


@app.post("/v1/events", status_code=202)
async def publish(event: Event) -> dict:
    """One event."""
    position = await client.xadd("events", {"e": event.model_dump_json()})
    return {"id": event.id, "position": position.decode()}


@app.post("/v1/batches", status_code=202)
async def publish_many(request: Request) -> dict:
    """Many, in one round trip to Redis."""
    pipe = client.pipeline(transaction=False)
    events = MANY.validate_json(await request.body())
    for event in events:
        pipe.xadd("events", {"e": event.model_dump_json()})
    await pipe.execute()
    return {"ids": [event.id for event in events]}


def serve(port: int) -> None:
    """One process on uvloop and httptools."""
    uvicorn.run(app, port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")


if __name__ == "__main__":
    main(serve=serve)
