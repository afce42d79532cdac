"""Answers as JSON."""

from __future__ import annotations

import orjson
from starlette.responses import Response


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer that no cache keeps: it tells how things are now."""
    return Response(
        orjson.dumps(value, default=str),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )
