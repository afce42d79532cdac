"""Answers as JSON."""

from __future__ import annotations

from starlette.responses import Response
from streammesh import plain_json


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer that no cache keeps: it tells how things are now."""
    return Response(
        plain_json.dumps_plain(value, finite=True),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )
