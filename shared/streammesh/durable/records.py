"""What is recorded of a durable handler: each step's result, what each wait came to. Pure."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, get_type_hints

import orjson
from pydantic import TypeAdapter

from streammesh import plain_json
from streammesh.clock import rfc3339_ms
from streammesh.errors import Fail

NAME_LENGTH = 128
RESULT_BYTES = 65_536  # of one step; a larger one is in the store, and its record `stored`
MOST_STEPS = 1_000  # of one run, waits included
MOST_BYTES = 4_194_304  # of all of them
ABOUT = ("type", "match", "signal", "question", "to", "version")  # what is told about a wait
LONGEST_WAIT = 366 * 86_400.0  # seconds
_NAME = re.compile(
    r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+"
)  # halves of a surrogate pair cannot be stored
_RECORD = re.compile(rb"([0-9]{1,14}) (step|stored|event|signal|timeout) (.*)", re.DOTALL)
_WAIT = re.compile(rb"([0-9]{1,14}) (\{.*\})", re.DOTALL)


class StepRecord(NamedTuple):
    """What a step or a wait came to: when (ms since the epoch), what kind of thing it was, its value as JSON."""

    at_ms: int
    kind: str
    value: bytes


class OpenWait(NamedTuple):
    """What a run waits for, or did: until when (ms since the epoch) at most, and what is told about it."""

    until_ms: int
    about: Mapping[str, Any]


def check_name(name: object) -> str:
    """Return the name of a step. Raises Fail for one that cannot be."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH or not _NAME.fullmatch(name):
        raise Fail(f"a step has a name of 1 to {NAME_LENGTH} printable characters, not {name!r:.150}")
    return name


def parse_record(raw: bytes) -> StepRecord:
    """A record as a script wrote it. Raises Fail for what is none."""
    found = _RECORD.fullmatch(raw)
    if not found:
        raise Fail(f"the record of a step cannot be read: {raw[:60]!r}")
    return StepRecord(int(found[1]), found[2].decode(), found[3])


def records_of(row: Mapping[bytes, bytes]) -> dict[str, StepRecord]:
    """Every record in a task's row, by the name of its step. Raises Fail where one cannot be read."""
    return {
        name[5:].decode("utf-8", "replace"): parse_record(value)
        for name, value in row.items()
        if name.startswith(b"step:")
    }


def waits_of(row: Mapping[bytes, bytes]) -> dict[str, OpenWait]:
    """Every wait that a task's row knows, over or not; what cannot be read is left out."""
    found = {}
    for name, value in row.items():
        if name.startswith(b"wait:") and (match := _WAIT.fullmatch(value)):
            try:
                found[name[5:].decode("utf-8", "replace")] = OpenWait(int(match[1]), orjson.loads(match[2]))
            except ValueError:
                continue
    return found


def told_steps(
    row: Mapping[bytes, bytes], most: int = 100
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The steps of a run as people are told them, oldest first, the last `most`; and what it waits for now."""
    steps = []
    for name, value in row.items():
        if name.startswith(b"step:") and (found := _RECORD.fullmatch(value)):
            steps.append((int(found[1]), found[2].decode(), name[5:].decode("utf-8", "replace")))
    steps.sort()
    told = [{"name": name, "kind": told_kind(kind), "at": rfc3339_ms(at)} for at, kind, name in steps[-most:]]
    waits_for = row.get(b"waiting", b"").decode("utf-8", "replace")
    open_wait = waits_of(row).get(waits_for)
    if not waits_for or open_wait is None:
        return told, None
    about = {key: value for key, value in open_wait.about.items() if key in ABOUT}
    kind = open_wait.about.get("for")
    return told, {"name": waits_for, "kind": kind, "until": rfc3339_ms(open_wait.until_ms), **about}


def told_kind(kind: str) -> str:
    """The kind of a record as people are told it: where its value lies is nobody's business."""
    return "step" if kind == "stored" else kind


@lru_cache(maxsize=1024)
def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """How the result of a function is written and read back, by its annotation; None: as plain JSON."""
    try:
        wanted = get_type_hints(function).get("return", Any)
        return None if wanted in (Any, None, type(None)) else TypeAdapter(wanted)
    except Exception:  # annotations that cannot be read, or that pydantic has no answer to
        return None


def _of(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    if not inspect.isroutine(function):
        return None
    return _adapter(getattr(function, "__func__", function))


def encode(name: str, function: Callable[..., Any], value: Any) -> bytes:
    """A step's result as it is recorded. Raises Fail for what is not JSON."""
    try:
        adapter = _of(function)
        return plain_json.dumps(value) if adapter is None else adapter.dump_json(value, warnings=False)
    except Exception as error:
        raise Fail(
            f"step {name!r} returned {type(value).__name__}, which cannot be recorded as JSON: {error}"[:500]
        ) from None


def decode(name: str, function: Callable[..., Any], raw: bytes) -> Any:
    """A step's result from its record, as the function's return annotation says.

    Raises Fail where the code of today does not take what was recorded.
    """
    adapter = _of(function)
    try:
        return plain_json.loads(raw) if adapter is None else adapter.validate_json(raw)
    except ValueError as error:
        raise Fail(f"the record of step {name!r} does not fit what it returns today: {error}"[:500]) from None


def match_digest(pattern: str, match: Mapping[str, Any]) -> str:
    """What stands in keys for events of a type that carry these values at these paths.

    Raises TypeError for what no event can carry: NaN, half a surrogate pair.
    """
    text = plain_json.dumps([pattern, sorted((path, _same(value)) for path, value in match.items())])
    return hashlib.sha256(text).hexdigest()[:32]


def _same(value: Any) -> str:
    """A value as text in which equal JSON values are equal, 1 and 1.0 too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return plain_json.dumps(value).decode()
