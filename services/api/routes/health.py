"""`/livez`, `/healthz`, `/readyz`: does this process live; can it do its own work.

What else may be wrong in the mesh (no dispatcher, say) is told by `/v1/status`: it is no reason for a load balancer
to take publishing away.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from services.api.openapi import ALWAYS, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer, Part
from services.api.state import wiring_of

router = APIRouter(tags=["health"])

_READY = {
    "status": "ready",
    "parts": {"redis": {"ok": True, "detail": "works"}, "server": {"ok": True, "detail": "works"}},
}
_LIVE = answers(*ALWAYS, _200=told("The process answers.", {"status": "ok"}))


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Answer):
    """Everything works that a request needs."""

    status: Literal["ready"]
    parts: dict[str, Part]


@router.get("/livez", summary="Liveness", responses=_LIVE)
async def livez() -> Alive:
    """That it answers says that its loop turns. It asks nobody, so that a Redis that is away restarts no process."""
    return Alive()


@router.get("/healthz", summary="Liveness, by its older name", responses=_LIVE)
async def healthz() -> Alive:
    """As `/livez`."""
    return Alive()


@router.get(
    "/readyz",
    summary="Readiness: Redis answers, and the process is not stopping",
    responses=answers("not-ready", *ALWAYS, _200=told("Ready.", _READY)),
)
async def readyz(request: Request) -> Ready:
    """503 with the part that is missing; no key is needed, and nobody is asked.

    Of several shards one that is away is told as a part that does not work; 503 comes when all are.
    """
    found = wiring_of(request).health.ready()
    if found["status"] == "ready":
        return Ready.model_validate(found)
    missing = [f"{name}: {part['detail']}" for name, part in found["parts"].items() if not part["ok"]]
    raise Problem(
        "not-ready", "; ".join(missing), headers={"retry-after": "1"}, members={"parts": found["parts"]}
    )
