"""The envelope: CloudEvents 1.0 in and out, in all four forms that HTTP publishers use. Pure.

Sources: CloudEvents 1.0.2 specification, its JSON event format and its HTTP protocol binding; the
Distributed Tracing, Partitioning and Expiry Time extensions.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

import orjson

from streammesh import names, plain_json
from streammesh.clock import rfc3339, to_ms
from streammesh.errors import EventTooLarge, FieldError, InvalidEvent, MalformedJson
from streammesh.events.validation import CORE, KNOWN, attribute_errors, is_base64, plainly_good
from streammesh.plain_json import InexactJson

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
MAX_BATCH = 1_000
LARGEST = 8_650_752  # bytes of an envelope as it is stored, at the largest `MESH_MAX_EVENT_BYTES`
MAX_DEPTH = 64  # levels of an event's data
MAX_VALUES = 400_000  # in an event, a list or an object counted twice: reading that many takes some 20 ms
IN_ENVELOPE, IN_BATCH = 1, 2  # levels that stand around the data
DEFAULT_PRIORITY = 5

_CROWDED = f"holds more than {MAX_VALUES:,} values (a list or an object counts twice); put them into a store, and its address into the event"
_SAMPLED = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf]")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_DIGITS = frozenset("0123456789")  # a header carries a priority as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact. Immutable; (`source`, `id`) is its identity. `data` is JSON, `data_base64` is opaque.

    `null_data`: the data is there, and it is `null`.
    """

    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    data_base64: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)
    null_data: bool = False

    @property
    def domain(self) -> str:
        """The first word of the type; it names the stream."""
        return names.domain_of(self.type)

    @property
    def deliver_at_ms(self) -> int | None:
        """When to hand it over, in ms since the epoch; None for now."""
        return _ms(self.extensions.get("deliverat"))

    @property
    def expires_at_ms(self) -> int | None:
        """After this, in ms since the epoch, nothing is started for it any more; None for never."""
        return _ms(self.extensions.get("expirytime"))

    @property
    def priority(self) -> int:
        """0 (low) to 9 (high)."""
        return int(self.extensions.get("priority", DEFAULT_PRIORITY))

    @property
    def correlation_id(self) -> str:
        """What ties together all that one first event led to: that event's id."""
        return str(self.extensions.get("correlationid", self.id))

    @property
    def fragment(self) -> str:
        """`"event":{…}`, as it stands in the body of every notification about it; with its trace, where that is sampled."""
        about = {"id": self.id, "type": self.type, "source": self.source, "subject": self.subject}
        if self.extensions and _SAMPLED.fullmatch(str(self.extensions.get("traceparent", ""))):
            about["traceparent"] = str(self.extensions["traceparent"])
        return f'"event":{orjson.dumps(about).decode()}'

    def to_dict(self) -> dict[str, Any]:
        """The JSON event format, as Python values; attributes that are not set are left out."""
        out: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": self.time,
        }
        for name in ("subject", "datacontenttype", "dataschema"):
            value = getattr(self, name)
            if value is not None:
                out[name] = value
        out.update(self.extensions)
        if self.data_base64 is not None:
            out["data_base64"] = self.data_base64
        elif self.data is not None or self.null_data:
            out["data"] = self.data
        return out

    def to_json(self, *, is_parsed: bool = False) -> bytes:
        """The JSON event format, UTF-8. `is_parsed`: the data was read by `parse_json`, which has checked it.

        Raises InvalidEvent for data that is not JSON, is nested too deep, or holds too many values.
        """
        try:
            text = plain_json.dumps_plain(self.to_dict(), finite=is_parsed)
        except TypeError as error:
            raise InvalidEvent([FieldError("/data", str(error))]) from error
        if is_parsed:
            return text
        if plain_json.is_deeper(text, MAX_DEPTH + IN_ENVELOPE):
            raise InvalidEvent([FieldError("/data", f"is nested deeper than {MAX_DEPTH} levels")])
        if plain_json.is_crowded(text, MAX_VALUES):
            raise InvalidEvent([FieldError("/data", _CROWDED)])
        return text

    def digest(self) -> str:
        """16 hex digits over what makes it the same fact: everything but the time and the trace."""
        facts = self.to_dict()
        for name in ("time", "traceparent", "tracestate"):
            facts.pop(name, None)
        return blake2b(plain_json.dumps_plain(facts, sort_keys=True, finite=True), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the door fills in where a plain JSON body leaves it out."""

    source: str
    now: datetime


def make(
    event_type: str,
    data: Any,
    *,
    source: str,
    id: str | None = None,
    subject: str | None = None,
    now: datetime | None = None,
    extensions: Mapping[str, str | int | bool] | None = None,
) -> Event:
    """An event made in Python; None is no data. Raises InvalidEvent as the wire would."""
    raw: dict[str, Any] = {
        "specversion": "1.0",
        "id": id or names.new_id(),
        "source": source,
        "type": event_type,
        "time": rfc3339(now or datetime.now(UTC)),
        **(extensions or {}),
    }
    if data is not None:
        raw["data"] = data
    if subject is not None:
        raw["subject"] = subject
    return from_dict(raw)


def build(
    source: str,
    event_type: str,
    data: Any,
    *,
    id: str | None = None,
    subject: str | None = None,
    deliver_at: datetime | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    priority: int | None = None,
    extensions: Mapping[str, str | int | bool] | None = None,
) -> Event:
    """An event from keyword arguments, as `Publisher.publish` and `Context.publish` take them.

    Raises InvalidEvent.
    """
    more: dict[str, str | int | bool] = dict(extensions or {})
    if deliver_at is not None:
        more["deliverat"] = rfc3339(deliver_at)
    if correlation_id is not None:
        more["correlationid"] = correlation_id
    if causation_id is not None:
        more["causationid"] = causation_id
    if priority is not None:
        more["priority"] = priority
    return make(event_type, data, source=source, id=id, subject=subject, extensions=more)


def check_size(size: int, most: int) -> None:
    """Raises EventTooLarge for an envelope of a size that no lane would hand over."""
    if size > most:
        raise EventTooLarge(f"the event has {size:,} bytes where at most {most:,} are allowed")


def parse_json(body: bytes, limit: int, around: int = IN_ENVELOPE) -> Any:
    """JSON bytes as Python values; `around` levels of it are not the data's.

    Raises EventTooLarge over `limit` bytes, MalformedJson when it is not JSON, InvalidEvent when it is and
    would not come out as it came in, is nested too deep, or holds too many values.
    """
    if len(body) > limit:
        raise EventTooLarge(f"{len(body):,} bytes where at most {limit:,} are allowed")
    if plain_json.is_crowded(body, MAX_VALUES):
        raise InvalidEvent([FieldError("", _CROWDED)])
    try:
        value = plain_json.loads(body)
    except InexactJson as error:
        raise InvalidEvent([FieldError("", str(error))]) from None
    except ValueError as error:
        raise MalformedJson([FieldError("", f"is not valid JSON: {error}")]) from None
    if plain_json.is_deeper(body, MAX_DEPTH + around):
        raise InvalidEvent([FieldError("", f"is nested deeper than {MAX_DEPTH} levels")])
    return value


def from_json(body: bytes) -> Event:
    """An envelope that the mesh stored itself. Raises InvalidEvent when it is broken."""
    if len(body) > LARGEST:
        raise InvalidEvent([FieldError("", f"has {len(body):,} bytes, where at most {LARGEST:,} are stored")])
    return from_dict(parse_json(body, LARGEST))


def from_dict(raw: Any, *, at: str = "", defaults: Defaults | None = None) -> Event:
    """The JSON event format as an Event; `at` is the JSON Pointer of `raw` in what was sent.

    With `defaults` the body is a plain one: `specversion`, `id`, `source` and `time` may be missing.
    Raises InvalidEvent with every field that is wrong.
    """
    if not isinstance(raw, dict):
        raise InvalidEvent([FieldError(at, "should be a JSON object with at least a `type`")])
    if "time" in raw and plainly_good(raw):
        return from_checked(raw)
    null_data = "data" in raw and raw["data"] is None
    raw = {
        name: value for name, value in raw.items() if value is not None
    }  # of an attribute null means: not set
    if defaults:
        raw.setdefault("specversion", "1.0")
        raw.setdefault("id", names.new_id())
        raw.setdefault("source", defaults.source)
    if "time" not in raw:
        raw["time"] = rfc3339(defaults.now if defaults else datetime.now(UTC))
    data, encoded = raw.pop("data", None), raw.pop("data_base64", None)
    good = plainly_good(raw)
    errors = [] if good else [FieldError(f"{at}/{name}", detail) for name, detail in attribute_errors(raw)]
    if encoded is not None:
        if data is not None or null_data:
            errors.append(FieldError(f"{at}/data_base64", "cannot stand beside `data`"))
        elif not is_base64(encoded):
            errors.append(FieldError(f"{at}/data_base64", "should be base64 text"))
    if errors:
        raise InvalidEvent(errors)
    extensions = {name: value for name, value in raw.items() if name not in CORE}
    return Event(
        **{name: raw.get(name) for name in CORE if name != "specversion"},
        data=data,
        data_base64=encoded,
        extensions=extensions,
        null_data=null_data,
    )


def from_checked(raw: dict[str, Any]) -> Event:
    """As `from_dict`, for an envelope that was checked before it was queued: its attributes are not looked at
    again. Raises InvalidEvent when it is no envelope at all.
    """
    try:
        id, source, event_type, time = raw["id"], raw["source"], raw["type"], raw["time"]
        if not (type(id) is type(source) is type(event_type) is type(time) is str):
            raise TypeError("id, source, type and time are texts")
        return Event(
            id=id,
            source=source,
            type=event_type,
            time=time,
            subject=raw.get("subject"),
            datacontenttype=raw.get("datacontenttype"),
            dataschema=raw.get("dataschema"),
            data=raw.get("data"),
            data_base64=raw.get("data_base64"),
            extensions={name: value for name, value in raw.items() if name not in KNOWN},
            null_data="data" in raw and raw["data"] is None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidEvent([FieldError("", f"is no envelope: {error!r}")]) from None


def from_binary(headers: Iterable[tuple[str, bytes]], body: bytes, limit: int) -> Event:
    """HTTP binary content mode: attributes in `ce-*` headers (names in lower case here), data in the body.

    JSON in UTF-8 becomes `data`; whatever else the body is becomes `data_base64`, its bytes untouched.
    Raises InvalidEvent and EventTooLarge.
    """
    raw: dict[str, Any] = {}
    errors: list[FieldError] = []
    for header, value in headers:
        name = "datacontenttype" if header == "content-type" else header.removeprefix("ce-")
        try:
            text = value.decode() if header == "content-type" else _header_text(value)
        except UnicodeDecodeError:
            errors.append(FieldError(f"/{name}", "is not UTF-8, or not UTF-8 percent-encoded"))
            continue
        if name in ("data", "data_base64"):
            errors.append(FieldError(f"/{name}", "is no attribute; the body is the data"))
        elif name in raw or header == "ce-datacontenttype":
            errors.append(FieldError(f"/{name}", "is said twice, or belongs into `content-type`"))
        elif text or header != "content-type":
            raw[name] = text
    if errors:
        raise InvalidEvent(errors)
    if raw.get("priority", "") in _DIGITS:
        raw["priority"] = int(raw["priority"])
    content_type = raw.get("datacontenttype")
    if len(body) > limit:
        raise EventTooLarge(f"{len(body):,} bytes where at most {limit:,} are allowed")
    if body and is_json(content_type) and is_utf8(content_type):
        raw["data"] = parse_json(body, limit, 0)
    elif body:
        raw["data_base64"] = base64.b64encode(body).decode()
    return from_dict(raw)


def _header_text(value: bytes) -> str:
    """An attribute from its header (HTTP binding, 3.1.3.2): quotes are taken off, then percents decoded."""
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = _ESCAPED.sub(rb"\1", value[1:-1])
    return unquote(value.decode(), errors="strict")


def is_json(content_type: str | None) -> bool:
    """Whether a media type is JSON (RFC 6839 suffixes included). No type at all counts as JSON, as CloudEvents says."""
    if not content_type:
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media in (JSON, "text/json") or media.endswith("+json")


def is_utf8(content_type: str | None) -> bool:
    """Whether a media type names no charset, or one of which UTF-8 is the whole."""
    for parameter in (content_type or "").lower().split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            return value.strip(' "') in ("utf-8", "utf8", "us-ascii")
    return True


def _ms(value: str | int | bool | None) -> int | None:
    return (
        to_ms(datetime.fromisoformat(value.upper().replace("Z", "+00:00")))
        if isinstance(value, str)
        else None
    )
