"""What CloudEvents and the mesh ask of context attributes. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from functools import lru_cache
from typing import Any

from streammesh import names

MAX_ATTRIBUTE = 1_024  # characters of one context attribute
MAX_EXTENSIONS = 32
CORE = ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
KNOWN = frozenset((*CORE, "data", "data_base64"))
_CORE_NAMES = frozenset(CORE)
_PLAIN_NAMES = frozenset((*CORE, "data"))
_MORE_TEXTS = ("subject", "datacontenttype", "dataschema")
LONGEST_NAME = 64  # CloudEvents asks for 20 and allows more, which vendors use
_NAME = re.compile(rf"^[a-z0-9]{{1,{LONGEST_NAME}}}\Z")
_CONTROL = re.compile(f"[{names.NOT_TEXT}]")
_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_TIMES = ("time", "deliverat", "expirytime")
_SPACE = re.compile(r"\s")


def plainly_good(raw: dict[str, Any]) -> bool:
    """A quick look at an envelope: True only if there is nothing to say against it and no attribute is null.

    What it cannot tell at a glance (extensions, binary data, unusual characters) is for `attribute_errors`.
    """
    if not _PLAIN_NAMES.issuperset(raw) or None in raw.values() or raw.get("specversion") != "1.0":
        return False
    id, source, event_type = raw.get("id"), raw.get("source"), raw.get("type")
    if not (
        type(id) is str
        and 0 < len(id) <= MAX_ATTRIBUTE
        and id.isprintable()
        and type(source) is str
        and 0 < len(source) <= MAX_ATTRIBUTE
        and source.isprintable()
        and " " not in source
        and type(event_type) is str
        and 0 < len(event_type) <= names.TYPE_LENGTH
        and event_type.isprintable()
    ):
        return False
    for name in _MORE_TEXTS:
        value = raw.get(name)
        if value is not None and not (
            type(value) is str and 0 < len(value) <= MAX_ATTRIBUTE and value.isprintable()
        ):
            return False
    return is_time(raw.get("time"))


def attribute_errors(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """All that is wrong with an envelope's attributes: the attribute's name (escaped for a JSON Pointer) and why."""
    errors: list[tuple[str, str]] = []
    for name in ("specversion", "id", "source", "type"):
        if raw.get(name) in (None, ""):
            errors.append((name, "is required"))
    for name, value in raw.items():
        if not isinstance(name, str) or not _NAME.match(name):
            shown = str(name)[:40].replace("~", "~0").replace("/", "~1")
            errors.append((shown, f"attribute names are 1 to {LONGEST_NAME} lower-case letters or digits"))
        elif isinstance(value, str):
            if len(value) > MAX_ATTRIBUTE:
                errors.append((name, f"has more than {MAX_ATTRIBUTE:,} characters"))
            elif _CONTROL.search(value):
                errors.append((name, "holds control characters, which CloudEvents does not allow"))
        elif name in _CORE_NAMES and value is not None:
            errors.append((name, "should be a string"))
        elif isinstance(value, bool | None):
            pass
        elif not isinstance(value, int) or not -(2**31) <= value < 2**31:
            errors.append(
                (name, "should be a string, a boolean or a 32-bit integer; objects belong into `data`")
            )
    if len(raw) > len(CORE) + MAX_EXTENSIONS:
        errors.append(("", f"has more than {MAX_EXTENSIONS} extension attributes"))
    if errors:
        return errors
    if raw["specversion"] != "1.0":
        errors.append(("specversion", 'should be "1.0"'))
    if not names.is_type(raw["type"]):
        errors.append(("type", f"should have at most {names.TYPE_LENGTH} characters"))
    if _SPACE.search(raw["source"]):  # `<id> <source>` is then unambiguous wherever it is a name
        errors.append(("source", "should be a URI reference, which holds no spaces"))
    errors += [
        (name, "should be an RFC 3339 time with a zone") for name in _TIMES if not is_time(raw.get(name))
    ]
    priority = raw.get("priority")
    if priority is not None and not (type(priority) is int and 0 <= priority <= 9):
        errors.append(("priority", "should be a whole number from 0 (low) to 9 (high)"))
    return errors


def is_time(value: Any) -> bool:
    """Whether a value is an RFC 3339 time with a zone; None counts."""
    if value is None:
        return True
    return isinstance(value, str) and len(value) <= MAX_ATTRIBUTE and _is_time(value)


@lru_cache(maxsize=1024)  # the events of a batch, and what is asked of one event, often have the same
def _is_time(value: str) -> bool:
    if not _RFC3339.match(value):
        return False
    try:
        datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def is_base64(value: Any) -> bool:
    """Whether a value is base64 text (RFC 4648, with padding)."""
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return False
    return isinstance(value, str)
