"""`/metrics`: what this process counts, and the mesh as a whole, as Prometheus reads it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response
from streammesh.telemetry.metrics import CONTENT_TYPE

from services.api.caller import Caller
from services.api.openapi import READ, answers
from services.api.problems import Problem
from services.api.routes.status import must_read_all
from services.api.state import wiring_of

router = APIRouter(tags=["status"])
_TEXT = {
    "content": {"text/plain": {"schema": {"type": "string"}}},
    "description": "Prometheus's text format.",
}


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=answers("forbidden", "not-found", *READ, _200=_TEXT),
)
async def metrics(request: Request, key: Caller) -> Response:
    """Needs a key that may read every event. The process's health port answers the same without a key."""
    must_read_all(key)
    content = await asyncio.to_thread(wiring_of(request).health.measures)
    if not content:
        raise Problem("not-found", "Metrics are off: MESH_METRICS=false.")
    return Response(content, media_type=CONTENT_TYPE)
