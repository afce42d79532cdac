"""A queued task as a stream entry, and back: no I/O, nothing made up, nothing doubtful let through.

Fields of an entry:
  h  JSON: {"headers", "properties", "content-type", "content-encoding"} of the Celery message
  b  the body's bytes: for a task the JSON `[args, kwargs, embed]`
  n  how often it was delivered before it was put back (absent: never)
  u  since when (ms) no worker was found that knows the task
  w  present on a doorbell, which has no task: it only wakes one of the consumers (see `lua/_queue.lua`)

What can only be known when an entry is read (delivery tag, redelivered) is filled in by `decode`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from kombu.utils import json as kombu_json

from streammesh.errors import Malformed
from streammesh.keys import PRIORITY
from streammesh.transport import wire_json
from streammesh.transport.codec_cache import KnownHeads
from streammesh.transport.decompression import unpack

HEAD, BODY, TIMES, SINCE, WAKE = b"h", b"b", b"n", b"u", b"w"
CONTENT_TYPE = "application/json"
EVENT_SHOWN = "<event>"  # the `argsrepr` of a delivery, whose argument is an event and no value of Celery's
MAX_DEPTH = 250  # orjson writes 254 levels, Python's json about 900: a task must be able to pass it all on
MAX_NAME = 256  # characters of a task's id and name
_heads = KnownHeads()
NOT_QUEUED = ("delivery_tag", "body_encoding")  # properties that are made when an entry is read


class Explicit(int):
    """A priority that was asked for, also where it is 0: a plain 0 is what kombu says for none."""


def wanted_priority(priority: int | None) -> int:
    """The priority of what is published with this one."""
    if priority is None or (priority == 0 and not isinstance(priority, Explicit)):
        return PRIORITY
    return min(9, max(0, int(priority)))


def priority_of(message: dict[str, Any]) -> int:
    """The priority that a message says it has; PRIORITY where it says none that there is."""
    try:
        return min(9, max(0, int(message["properties"]["priority"])))
    except (TypeError, ValueError, KeyError):
        return PRIORITY


class EntryPlace(NamedTuple):
    """Where a queue entry lies: its queue, its priority, its id in that stream."""

    queue: str
    priority: int
    entry: str


def make_tag(queue: str, priority: int, entry: str) -> str:
    """The delivery tag of an entry: `<id>@<queue>`, or `<id>.<priority>@<queue>` for another than the usual one."""
    return f"{entry}@{queue}" if priority == PRIORITY else f"{entry}.{priority}@{queue}"


def parse_tag(tag: str) -> EntryPlace:
    """The entry that a delivery tag names. Raises ValueError for a tag of another transport."""
    head, found, queue = tag.partition("@")
    entry, _, priority = head.partition(".")
    ms, dash, number = entry.partition("-")
    if not (found and dash and ms.isdigit() and number.isdigit()):
        raise ValueError(f"{tag!r} is not a delivery tag of the stream transport")
    return EntryPlace(queue, int(priority or PRIORITY), entry)


def encode(message: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The fields of the entry that queues `message`, a message of kombu's virtual transports."""
    properties = message["properties"]
    body = message["body"]
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    head = {
        "headers": message["headers"],
        "properties": {name: value for name, value in properties.items() if name not in NOT_QUEUED},
        "content-type": message.get("content-type"),
        "content-encoding": message.get("content-encoding"),
    }
    return {HEAD: _write(head), BODY: body.encode() if isinstance(body, str) else bytes(body)}


def decode(
    fields: Mapping[bytes, bytes],
    queue: str,
    entry: str,
    *,
    priority: int = PRIORITY,
    redelivered: bool = False,
    task: bool = True,
) -> dict[str, Any]:
    """The message in an entry, as kombu's virtual transports hand it over; `parsed` is a task's decoded body,
    in which nothing has a type but what JSON gives it.

    With `task` it must be a task that Celery survives; without, only what kombu itself needs is asked
    for. Raises Malformed with the reason, which never quotes the content.
    """
    if HEAD not in fields or BODY not in fields:
        raise Malformed("fields h and b are missing")
    raw, body = fields[HEAD], fields[BODY]
    head = _heads.like(raw) if task else None
    if head is None:
        head = _checked_head(raw, task)
        if task:
            _heads.remember(raw, head)
    properties, info = head["properties"], head["properties"].get("delivery_info")
    message = {
        "headers": head["headers"],
        "properties": {
            **properties,
            "delivery_info": {**(info or {}), "redelivered": redelivered},
            "delivery_tag": make_tag(queue, priority, entry),
            "body_encoding": None,
        },
        "body": body,
        "content-type": head.get("content-type"),
        "content-encoding": head.get("content-encoding"),
    }
    if task:
        message["parsed"] = _check_body(head, head["headers"], body)
    return message


def headers_of(fields: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """A task's headers, whatever they are; empty where there are none to be read."""
    try:
        headers = orjson.loads(fields[HEAD])["headers"]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return {}
    return headers if isinstance(headers, dict) else {}


def _checked_head(raw: bytes, task: bool) -> dict[str, Any]:
    head = _read(raw, "h")
    if not isinstance(head, dict):
        raise Malformed("h is not an object")
    headers, properties = head.get("headers"), head.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise Malformed("headers and properties are not objects")
    if not isinstance(properties.get("delivery_info"), dict | None):
        raise Malformed("delivery_info is not an object")
    for name in ("content-type", "content-encoding"):
        if not isinstance(head.get(name), str | None):
            raise Malformed(f"{name} is not text")
    if properties.get("body_encoding") not in (None, "utf-8"):
        raise Malformed("the body is encoded once more")
    if task:
        _check(headers, _HEADERS, "header")
        _check(properties, _PROPERTIES, "property")
    return head


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _whole(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _moment(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False


def _limits(value: Any) -> bool:
    """Hard and soft time limit, seconds each."""
    if value is None:
        return True
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in value)
    )


def _list(value: Any) -> bool:
    return value is None or isinstance(value, list)


def _object(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


_Check = Callable[[Any], bool]
# What Celery 5.7 takes for granted in a task's headers; see celery/worker/request.py and strategy.py.
_HEADERS: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(
        ("root_id", "parent_id", "group", "shadow", "origin", "lang", "meth", "argsrepr", "kwargsrepr"),
        (_text, "is not text"),
    ),
    "compression": (_text, "is not text"),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), (_whole, "is not a whole number")),
    "ignore_result": (_flag, "is neither true nor false"),
    **dict.fromkeys(("eta", "expires"), (_moment, "is not an ISO 8601 time")),
    "timelimit": (_limits, "is not a pair of seconds"),
    "stamped_headers": (_names, "is not a list of names"),
    "stamps": (_object, "is not an object"),
}
_PROPERTIES: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(("reply_to", "correlation_id"), (_text, "is not text")),
    "priority": (_whole, "is not a whole number"),
}
_EMBED: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(("callbacks", "errbacks", "chain"), (_list, "is not a list")),
    "chord": (_object, "is not an object"),
}


def _check(values: Mapping[str, Any], rules: dict[str, tuple[_Check, str]], what: str) -> None:
    for name, (good, why) in rules.items():
        if name in values and not good(values[name]):
            raise Malformed(f"{what} {name} {why}")


def _check_identity(values: Mapping[str, Any], what: str) -> None:
    for name in ("id", "task"):
        value = values.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
            raise Malformed(f"{what} {name} is not text of 1 to {MAX_NAME} characters")


def _check_body(head: dict[str, Any], headers: dict[str, Any], body: bytes) -> Any:
    if head["content-type"] != CONTENT_TYPE or (head["content-encoding"] or "").lower() not in (
        "utf-8",
        "utf8",
    ):
        raise Malformed("the body is not application/json in utf-8")
    if headers.get("compression"):
        body = unpack(body, headers["compression"])
    try:
        parsed = wire_json.loads_untyped(body)
        if b'"__type__"' in body and headers.get("argsrepr") != EVENT_SHOWN:
            wire_json.loads(body)  # Celery will
    except (ValueError, TypeError, KeyError, LookupError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if isinstance(parsed, dict) and "task" not in headers:
        _check_first_protocol(parsed)
    else:
        _check_identity(headers, "header")
        _check_second_protocol(parsed)
    _check_depth(body, parsed, "the body")
    return parsed


def _check_second_protocol(parsed: Any) -> None:
    if not isinstance(parsed, list) or len(parsed) != 3:
        raise Malformed("the body is not a list of three")
    args, kwargs, embed = parsed
    plain = isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict)
    if not plain or wire_json.TYPED in (kwargs.keys(), embed.keys()):
        raise Malformed("the body is not [args, kwargs, embed]")
    _check(embed, _EMBED, "body's")


def _check_first_protocol(parsed: dict[str, Any]) -> None:
    """Celery's `task_protocol` 1, which keeps everything in the body."""
    _check_identity(parsed, "body's")
    _check(parsed, {**_HEADERS, **_EMBED, "utc": (_flag, "is neither true nor false")}, "body's")
    _check(parsed, {"taskset": (_text, "is not text")}, "body's")
    if not isinstance(parsed.get("args"), list) or not isinstance(parsed.get("kwargs"), dict):
        raise Malformed("the body's args and kwargs are not a list and an object")


def _read(text: bytes, what: str) -> Any:
    """JSON as kombu would read it; orjson does what it can, since most entries are plain."""
    try:
        value = kombu_json.loads(text) if b'"__type__"' in text else orjson.loads(text)
    except orjson.JSONDecodeError:
        value = _read_slowly(text, what)
    except (ValueError, TypeError, KeyError, LookupError, RecursionError):
        raise Malformed(f"{what} is not JSON") from None
    _check_depth(text, value, what)
    return value


def _read_slowly(text: bytes, what: str) -> Any:
    """What orjson refuses and kombu's own publishers may write: NaN, infinities, numbers beyond 64 bits."""
    try:
        value = kombu_json.loads(text)
        json.dumps(value, ensure_ascii=False, default=str).encode()  # half a surrogate pair is no text
    except (ValueError, TypeError, KeyError, LookupError, RecursionError):
        raise Malformed(f"{what} is not JSON") from None
    return value


def _check_depth(text: bytes, value: Any, what: str) -> None:
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return  # it cannot be deeper than it has brackets
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"{what} is nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below


def _write(head: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(head, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:  # dates and the like, which kombu marks with their type
        return kombu_json.dumps(head).encode()
