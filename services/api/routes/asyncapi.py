"""`/asyncapi.json`, `/asyncapi`: event types and notifications, for tools and to read, from this process alone."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.asyncapi import document
from services.api.state import wiring_of
from services.api.type_catalogue import KnownType
from services.api.ui_files import SECURITY

router = APIRouter()
HOME = Path(__file__).parent.parent / "asyncapi_page"
MOST_TYPES = 1_000
_FILES = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi_document(request: Request) -> Response:
    """With a key, the types that it may read, at most 1,000; without one, what is the same for everybody."""
    header = request.headers.get("authorization")
    types: list[KnownType] = []
    if header is not None:
        wiring = wiring_of(request)
        key = await wiring.auth.authenticate(header.encode("latin-1"))
        known = await wiring.types.all()
        types = [known[name] for name in sorted(known) if key.may_subscribe(name)][:MOST_TYPES]
    host, scheme = request.url.netloc, request.url.scheme
    root = request.scope.get("root_path", "").rstrip("/")

    def written() -> bytes:
        return orjson.dumps(document(types, host, scheme, root))

    return Response(
        await asyncio.to_thread(written), media_type="application/json", headers={"cache-control": "no-store"}
    )


@router.get("/asyncapi", include_in_schema=False)
async def asyncapi_page() -> Response:
    """The same to read."""
    return Response(_file("page.html"), media_type="text/html; charset=utf-8", headers=dict(SECURITY))


@router.get("/asyncapi/{name}", include_in_schema=False)
async def asyncapi_asset(name: str) -> Response:
    """What the page is made of."""
    if name not in _FILES:
        return Response(status_code=404)
    return Response(_file(name), media_type=_FILES[name], headers=dict(SECURITY))


@cache
def _file(name: str) -> bytes:
    return (HOME / name).read_bytes()
