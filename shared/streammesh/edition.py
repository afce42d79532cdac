"""Editions: versions of a service's code, known by what its manifest says, and what each of them can run. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

MOST = 8  # editions of a service that are remembered
DIGEST = re.compile(r"[0-9a-f]{12}")
ANYTHING = ""  # digest of a handler's payload that is not validated


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of a service's code: what it runs, and since when (ms) it is known.

    `tasks`: the name of each task that it runs -> the digest of its payload's schema.
    """

    digest: str
    since: int
    tasks: Mapping[str, str]


def digest_of(document: Any) -> str:
    """Return what stands for a document: twelve hexadecimal digits."""
    raw = document if isinstance(document, bytes) else orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(raw).hexdigest()[:12]


def digest_of_schema(schema: Mapping[str, Any] | None) -> str:
    """Return what stands for a payload's schema; ANYTHING where there is none."""
    return ANYTHING if schema is None else digest_of(schema)


def read_editions(value: Any) -> tuple[Edition, ...]:
    """Return the editions that a stored manifest tells of; what is no edition is left out."""
    found = []
    for one in value[:MOST] if isinstance(value, list) else ():
        try:
            digest, since, tasks = one["digest"], one["since"], one["tasks"]
            if DIGEST.fullmatch(digest) and 0 <= int(since) < 10**14:
                found.append(Edition(digest, int(since), {str(k): str(v) for k, v in tasks.items()}))
        except (TypeError, KeyError, ValueError, AttributeError):
            continue
    return tuple(found)
