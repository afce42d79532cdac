"""What pydantic found wrong, in the words and places of who sent it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TIME = "should be an RFC 3339 time with a zone, such as 2026-11-22T06:00:00Z"
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "model_type": "should be a JSON object",
    "model_attributes_type": "should be a JSON object",
    "dict_type": "should be a JSON object",
    "list_type": "should be a list",
    "string_type": "should be text",
    "string_unicode": "should be text, as UTF-8",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a whole number of fewer digits",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "time_delta_type": "should be a duration such as 15s, 30m, 24h or 7d",
    "time_delta_parsing": "should be a duration such as 15s, 30m, 24h or 7d",
    "timezone_aware": TIME,
    "datetime_type": TIME,
    "datetime_parsing": TIME,
    "datetime_from_date_parsing": TIME,
    "datetime_object_invalid": TIME,
    "recursion_loop": "is nested too deeply",
}
_WITH_LIMITS = {
    "string_too_short": "should have at least {min_length:,} character{s}",
    "string_too_long": "should have at most {max_length:,} character{s}",
    "too_short": "should have at least {min_length:,} item{s}",
    "too_long": "should have at most {max_length:,} item{s}",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "literal_error": "should be {expected}",
    "enum": "should be {expected}",
    "json_invalid": "is not valid JSON: {error}",
    "string_pattern_mismatch": "should be of the form {pattern}",
    "union_tag_invalid": "should be one of {expected_tags}",
    "union_tag_not_found": "is required",
}
_BRANCH = re.compile(r"str|constrained-\w+|[a-z]+(-[a-z]+)*\[.*\]")  # of a union: no part of what was sent


def words(found: Mapping[str, Any]) -> str:
    """Return what is wrong, without a subject: `is required`."""
    kind, limits = found["type"], found.get("ctx") or {}
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in _WITH_LIMITS:
        count = limits.get("min_length", limits.get("max_length"))
        return _WITH_LIMITS[kind].format(**{**limits, "s": "" if count == 1 else "s"})
    return str(found["msg"]).removeprefix("Value error, ")


def place(parts: Sequence[object], kind: str) -> Sequence[object]:
    """Return where in what was sent an error of this kind is: the branches that a union tried are left out."""
    if kind.startswith("union_tag"):
        return [*parts, "type"]  # which all models of several to choose from are told apart by
    *outer, last = parts or ("",)
    kept = [part for part in outer if not (isinstance(part, str) and _BRANCH.fullmatch(part))]
    is_branch = isinstance(last, str) and kind != "extra_forbidden" and _BRANCH.fullmatch(last)
    return kept if is_branch or not parts else [*kept, last]


def joined(errors: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return one error for each place: what each branch of a union says of it stands side by side."""
    places: dict[tuple[str, ...], dict[str, str]] = {}
    for error in errors:
        key = tuple(value for name, value in sorted(error.items()) if name != "detail")
        known = places.setdefault(key, dict(error))
        if error["detail"] not in known["detail"].split(", or "):
            known["detail"] += f", or {error['detail']}"
    return list(places.values())
