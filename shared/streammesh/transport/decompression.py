"""Unpacks compressed task bodies, within bounds: a small entry must not become a large one in memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

from streammesh.errors import Malformed

LARGEST = 32 * 1024 * 1024  # bytes of an unpacked body
_KINDS = {
    "application/x-gzip": lambda: zlib.decompressobj(),
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}


def unpack(body: bytes, kind: str) -> bytes:
    """The body before kombu compressed it with `task_compression`. Raises Malformed when it cannot be had."""
    if kind not in _KINDS:
        raise Malformed("the body is compressed in a way this worker does not know")
    unpacker: Any = _KINDS[kind]()
    try:
        plain: bytes = unpacker.decompress(body, LARGEST + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        raise Malformed("the compressed body is broken") from None
    if len(plain) > LARGEST:
        raise Malformed(f"the body is larger than {LARGEST} bytes when unpacked")
    if not unpacker.eof:
        raise Malformed("the compressed body ends too early")
    return plain
