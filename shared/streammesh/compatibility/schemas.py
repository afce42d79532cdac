"""Whether what one JSON Schema promises is what another demands: breaks between who publishes and who reads. Pure.

It compares what pydantic and people write: types, members, `required`, `enum`, `const`, `items`, `anyOf`, `oneOf`,
`$ref`. A keyword that it does not know is never a break: it errs on the side of letting pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

DEEPEST = 32  # levels; what is nested deeper, or refers to itself, is compared so far
STEPS = 20_000  # comparisons: alternatives within alternatives double at each level
MOST = 100  # breaks that are told
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


class _Roots(NamedTuple):
    """The two documents, and how many comparisons are left."""

    written: Any
    read: Any
    steps: Iterator[int]


def breaks(written: Any, read: Any) -> list[str]:
    """Say where data that fits `written` need not fit `read`, with JSON Pointers into the data; empty where it does."""
    found: list[str] = []
    for one in _breaks(written, read, _Roots(written, read, iter(range(STEPS))), "", 0):
        if one not in found:
            found.append(one)
        if len(found) == MOST:
            break
    return found


def _breaks(written: Any, read: Any, roots: _Roots, at: str, depth: int) -> Iterator[str]:
    written, read = _resolved(written, roots.written), _resolved(read, roots.read)
    if depth > DEEPEST or next(roots.steps, None) is None:
        return
    if not isinstance(written, Mapping) or not isinstance(read, Mapping) or not read:
        return
    if options := _options(written):
        for option in options:
            yield from _breaks(option, read, roots, at, depth + 1)
        return
    if options := _options(read):
        tries = [list(_breaks(written, option, roots, at, depth + 1)) for option in options]
        if all(tries):
            yield min(tries, key=len)[0]
        return
    for part in _all_of(read):
        yield from _breaks(written, part, roots, at, depth + 1)
    yield from _types(written, read, at)
    yield from _values(written, read, at)
    yield from _members(written, read, roots, at, depth)
    items, wanted = written.get("items"), read.get("items")
    if wanted is not None and "array" in _type_names(written):
        yield from _breaks({} if items is None else items, wanted, roots, f"{at}/*", depth + 1)


def _types(written: Mapping[str, Any], read: Mapping[str, Any], at: str) -> Iterator[str]:
    taken = _type_names(read)
    if "type" in read and (more := [name for name in _type_names(written) if not _is_taken(name, taken)]):
        yield f"{at or '/'} may be {' or '.join(more)}, and {' or '.join(taken)} is read"


def _is_taken(name: str, taken: Sequence[str]) -> bool:
    return name in taken or (name == "integer" and "number" in taken)


def _values(written: Mapping[str, Any], read: Mapping[str, Any], at: str) -> Iterator[str]:
    taken = _listed(read)
    if taken is None:
        return
    given = _listed(written)
    if given is None:
        yield f"{at or '/'} may be any value, and only {_shown(taken)} is read"
    elif more := [value for value in given if value not in taken]:
        yield f"{at or '/'} may be {_shown(more)}, and only {_shown(taken)} is read"


def _members(
    written: Mapping[str, Any], read: Mapping[str, Any], roots: _Roots, at: str, depth: int
) -> Iterator[str]:
    given, wanted = _mapping(written.get("properties")), _mapping(read.get("properties"))
    if not wanted and not read.get("required"):
        return
    if "object" not in _type_names(written):
        return  # said already, by its type
    always = written.get("required") or ()
    for name in read.get("required") or ():
        if name not in given:
            yield f"{at}/{name} is required by who reads, and is not published"
        elif name not in always:
            yield f"{at}/{name} is required by who reads, and may be left out"
    for name, schema in wanted.items():
        if name in given:
            yield from _breaks(given[name], schema, roots, f"{at}/{name}", depth + 1)
    if read.get("additionalProperties") is False:
        for name in given.keys() - wanted.keys():
            yield f"{at}/{name} is published, and who reads allows no further members"


def _resolved(schema: Any, root: Any) -> Any:
    """Follow `$ref`s into the same document."""
    for _ in range(DEEPEST):
        if not isinstance(schema, Mapping) or not isinstance(ref := schema.get("$ref"), str):
            return schema
        found = root
        for step in ref.removeprefix("#").strip("/").split("/"):
            found = _mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
        schema = found
    return None


def _options(schema: Mapping[str, Any]) -> list[Any]:
    found = schema.get("anyOf") or schema.get("oneOf")
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def _all_of(schema: Mapping[str, Any]) -> list[Any]:
    found = schema.get("allOf")
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def _type_names(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str)]
    values = _listed(schema)
    if values is not None:
        return sorted({_type_of(value) for value in values})
    return list(_TYPES) if not schema.get("properties") else ["object"]


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that are allowed, where they are listed."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(repr(value)[:40] for value in values[:5]) + (", …" if len(values) > 5 else "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
