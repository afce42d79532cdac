"""`/livez`, `/healthz`, `/readyz`: does this process live; can it do its own work.

What else may be wrong in the mesh (no dispatcher, say) is told by `/v1/status`: it is no reason for a load balancer
to take publishing away.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.openapi import ALWAYS, answers, json_answer
from services.api.problems import Problem
from services.api.routes.answer import as_json
from services.api.schemas import Alive, Ready
from services.api.state import wiring_of

router = APIRouter(tags=["health"])

_READY = {
    "status": "ready",
    "parts": {"redis": {"ok": True, "detail": "works"}, "server": {"ok": True, "detail": "works"}},
}
_LIVE = answers(*ALWAYS, _200=json_answer(Alive, "The process answers.", {"status": "ok"}))


@router.get("/livez", summary="Liveness", response_class=Response, responses=_LIVE)
async def livez() -> Response:
    """That it answers says that its loop turns. It asks nobody, so that a Redis that is away restarts no process."""
    return as_json({"status": "ok"})


@router.get("/healthz", summary="Liveness, by its older name", response_class=Response, responses=_LIVE)
async def healthz() -> Response:
    """As `/livez`."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    summary="Readiness: Redis answers, and the process is not stopping",
    response_class=Response,
    responses=answers("not-ready", *ALWAYS, _200=json_answer(Ready, "Ready.", _READY)),
)
async def readyz(request: Request) -> Response:
    """503 with the part that is missing; no key is needed, and nobody is asked."""
    found = wiring_of(request).health.ready()
    if found["status"] == "ready":
        return as_json(found)
    missing = [f"{name}: {part['detail']}" for name, part in found["parts"].items() if not part["ok"]]
    raise Problem(
        "not-ready", "; ".join(missing), headers={"retry-after": "1"}, members={"parts": found["parts"]}
    )
