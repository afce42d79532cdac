"""`/healthz`, `/readyz`: is the process there; can it do its work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from streammesh.errors import MeshUnavailable
from streammesh.redisio.heartbeat import FRESH_MS, alive

from services.api.openapi import ALWAYS, answers, json_answer
from services.api.problems import Problem
from services.api.routes.answer import as_json
from services.api.schemas import Alive, Ready
from services.api.state import Wiring, wiring_of

router = APIRouter(tags=["health"])

_READY = {
    "status": "ready",
    "parts": {
        "redis": {"ok": True, "detail": "answers"},
        "dispatcher": {"ok": True, "detail": "1 alive"},
        "server": {"ok": True, "detail": "accepts requests"},
    },
}


@router.get(
    "/healthz",
    summary="Liveness",
    response_class=Response,
    responses=answers(*ALWAYS, _200=json_answer(Alive, "The process answers.", {"status": "ok"})),
)
async def healthz() -> Response:
    """Asks nothing of anybody, so that a Redis that is away restarts no process."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    summary="Readiness: Redis reachable, dispatcher alive",
    response_class=Response,
    responses=answers("not-ready", *ALWAYS, _200=json_answer(Ready, "Ready.", _READY)),
)
async def readyz(request: Request) -> Response:
    """503 with the part that is missing; no key is needed."""
    parts = await _parts(wiring_of(request))
    if all(part["ok"] for part in parts.values()):
        return as_json({"status": "ready", "parts": parts})
    missing = "; ".join(f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"])
    raise Problem("not-ready", missing, headers={"retry-after": "1"}, members={"parts": parts})


async def _parts(wiring: Wiring) -> dict[str, dict[str, Any]]:
    redis: dict[str, Any] = {"ok": True, "detail": "answers"}
    dispatcher: dict[str, Any] = {"ok": False, "detail": "not known while Redis is away"}
    try:
        async with wiring.reading():
            names = await alive(wiring.redis, wiring.keys, "dispatcher")
    except MeshUnavailable:
        redis = {"ok": False, "detail": "cannot be reached"}
    else:
        if names:
            dispatcher = {"ok": True, "detail": f"{len(names)} alive"}
        else:
            seconds = FRESH_MS // 1000
            dispatcher["detail"] = f"no sign of life for {seconds} s; events are stored and wait for it"
    stopping = wiring.hub.stopping
    server = {"ok": not stopping, "detail": "is stopping" if stopping else "accepts requests"}
    return {"redis": redis, "dispatcher": dispatcher, "server": server}
