"""`/docs`: the API to read and try, from this process alone: no script, style or picture of another host."""

from __future__ import annotations

import asyncio
from importlib.resources import files

import orjson
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

router = APIRouter()
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)


def assets() -> StaticFiles:
    """Return Swagger UI's own files, as the package `fastapi-offline` brings them."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))


@router.get("/docs", include_in_schema=False)
async def swagger_ui(request: Request) -> HTMLResponse:
    """Swagger UI over `/openapi.json`."""
    root = request.scope.get("root_path", "").rstrip("/")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="streammesh",
        swagger_js_url=f"{root}/docs/assets/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/assets/swagger-ui.css",
        swagger_favicon_url=f"{root}/docs/assets/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # else the document is sent to validator.swagger.io
    )
    page.headers["content-security-policy"] = _POLICY
    return page


@router.get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request) -> Response:
    """The OpenAPI document. Making it takes a fifth of a second, so a thread does, when it is first asked for."""
    root = request.scope.get("root_path", "").rstrip("/")

    def written() -> bytes:
        servers = {"servers": [{"url": root}]} if root else {}
        return orjson.dumps({**servers, **request.app.openapi()})

    return Response(await asyncio.to_thread(written), media_type="application/json")
