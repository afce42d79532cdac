"""`/ui`: the dashboard. Files only; what it shows it asks of the public API, with its user's key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.api.problems import Problem
from services.api.ui_files import PAGE, SECURITY, built_files

router = APIRouter(include_in_schema=False)
_SHOWN = 100  # characters of a path that is not known


@router.api_route("/ui", methods=["GET", "HEAD"])
async def front() -> Response:
    """To the address that the page's own relative ones begin from, also below a proxy's prefix."""
    return RedirectResponse("ui/", 308, headers=dict(SECURITY))


@router.api_route("/ui/{path:path}", methods=["GET", "HEAD"])
async def file(request: Request, path: str) -> Response:
    """The page, or one of its files."""
    found = built_files().get(path or PAGE)
    if found is None:
        raise Problem("not-found", f"The dashboard has no file {path[:_SHOWN]!r}; it begins at /ui/.")
    headers = {**SECURITY, "cache-control": found.cache, "etag": found.etag, "vary": "accept-encoding"}
    if found.etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    content = found.content
    if found.packed and _takes_gzip(request.headers.get("accept-encoding", "")):
        content, headers["content-encoding"] = found.packed, "gzip"
    return Response(content, media_type=found.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for one in accepted.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
