"""The built files of the dashboard: read once, with what a browser is told about each."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

BUILT = Path(__file__).parent / "ui" / "built"
PAGE = "index.html"
SMALLEST_PACKED = 1_024  # bytes; what is smaller travels as it is
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
    "x-frame-options": "DENY",
}
# The page names its files by what is in them, so it is asked for anew each time and they never are.
_PAGE_CACHE, _FILE_CACHE = "no-cache", "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent; `packed` is the same in gzip, empty where that gains nothing."""

    media_type: str
    etag: str
    cache: str
    content: bytes
    packed: bytes


@cache
def built_files() -> Mapping[str, File]:
    """Every file by its path below `/ui/`. Empty in a copy of the sources in which the dashboard was not built."""
    found = {}
    for path in sorted(BUILT.rglob("*")) if BUILT.is_dir() else ():
        media_type = _TYPES.get(path.suffix)
        if media_type and path.is_file():
            name = path.relative_to(BUILT).as_posix()
            content = path.read_bytes()
            packed = gzip.compress(content, 9, mtime=0) if len(content) >= SMALLEST_PACKED else b""
            etag = f'"{sha256(content).hexdigest()[:32]}"'
            found[name] = File(
                media_type, etag, _PAGE_CACHE if name == PAGE else _FILE_CACHE, content, packed
            )
    return found
