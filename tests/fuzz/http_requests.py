"""Requests that are well framed and say anything: bodies of all forms, headers, parameters, paths."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from urllib.parse import quote

from tests.fuzz.api_process import KEY, SOON, ApiProcess, count, running, thrown_at
from tests.fuzz.tally import Tally

AT_ONCE = 16
TEXTS = (
    *(
        "",
        "a",
        "order.placed",
        "Microsoft.Storage.BlobCreated",
        "oss:ObjectCreated:PutObject",
        "*",
        "?",
        "**",
        "a*b?",
    ),
    *(
        "\x00",
        "\r\nx: y",
        "é",
        "日本",
        "\U0001f600",
        "\ud800",
        "%00",
        "%C0%A0",
        '"',
        '"a',
        "\\",
        "..",
        "../..",
        "/",
    ),
    *(
        "null",
        "NaN",
        "-0",
        "1e400",
        "9" * 400,
        "x" * 300,
        "x" * 2_000,
        "scheduler",
        "0-0",
        f"{2**64}-0",
        "$",
        "+",
        "-",
    ),
    *(
        "2026-11-22T06:00:00Z",
        "2026-13-40T99:00:00Z",
        "0000-00-00T00:00:00Z",
        "9999-12-31T23:59:59.999999999+14:00",
    ),
)
NAMES = (
    *("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"),
    *("data_base64", "deliverat", "expirytime", "priority", "partitionkey", "correlationid", "traceparent"),
    *(
        "iodebeziumtxtotalorder",
        "UPPER",
        "",
        "a/b",
        "x" * 70,
        "title",
        "csv",
        "rows",
        "group_by",
        "measure",
        "kind",
    ),
    *(
        "email",
        "name",
        "locale",
        "report_id",
        "period",
        "limit",
        "service",
        "task",
        "dry_run",
        "rate",
        "__type__",
    ),
)
MEDIA = (
    *("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"),
    *(
        "application/json; charset=utf-16",
        "text/csv; charset=Shift_JIS",
        "multipart/form-data; boundary=b",
        "",
        "a",
    ),
    *(
        "application/cloudevents+xml",
        "application/vnd.x+json",
        "image/png",
        "\x80",
        "multipart/form-data",
        ";;;",
    ),
)
PATHS = (
    *("/v1/events", "/v1/events/{}", "/v1/events/{}/notifications", "/v1/notifications", "/v1/tasks/{}"),
    *(
        "/v1/tasks/{}/cancel",
        "/v1/dead-letters",
        "/v1/dead-letters/{}",
        "/v1/dead-letters/replay",
        "/v1/subscriptions",
    ),
    *(
        "/v1/reports",
        "/v1/reports/{}",
        "/v1/reports/{}.pdf",
        "/v1/users/{}/welcome-email",
        "/v1/status",
        "/problems/{}",
    ),
    *(
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/{}",
        "/v1/subscriptions/{}/pause",
        "/docs",
        "//",
        "/v1/../{}",
    ),
)
PARAMETERS = (
    *(
        "type",
        "since",
        "limit",
        "cursor",
        "after",
        "event",
        "task",
        "service",
        "subject",
        "source",
        "lastEventId",
    ),
    *("until", "kind", "reason", "unknown", "token"),
)
NUMBERS = tuple(map(float, ("nan", "inf", "0.1", "-0.0", "1e308"))) + tuple(
    map(int, ("0", "-1", "9007199254740993", "18446744073709551616", "-9223372036854775809", "9" * 300))
)
STREAM_SECONDS = 0.3  # a stream of notifications is listened to for so long


class Sayings:
    """Makes requests. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> bytes:
        """One request as bytes; asks for the connection to be closed."""
        pick = self._random
        path = pick.choice(PATHS).replace("{}", self._escaped(self._text()))
        if pick.random() < 0.5:
            named = [(pick.choice(PARAMETERS), self._text()) for _ in range(pick.randrange(4))]
            path += "?" + "&".join(f"{name}={self._escaped(value)}" for name, value in named)
        publishes = pick.random() < 0.5
        if publishes:
            path = "/v1/events"
        posts = publishes or any(
            word in path for word in ("cancel", "replay", "welcome", "pause", "/v1/reports?")
        )
        method = "POST" if posts else "GET"
        if pick.random() < 0.1:
            method = pick.choice(("GET", "POST", "HEAD", "DELETE", "PUT", "OPTIONS"))
        lines = [f"{method} {path} HTTP/1.1".encode(), b"host: x", b"connection: close"]
        if pick.random() < 0.97:
            lines.append(b"authorization: Bearer " + KEY.encode())
        body = b"" if method in ("GET", "HEAD") and pick.random() < 0.9 else self._body()
        lines += self._headers(binary=pick.random() < 0.4)
        if body and pick.random() < 0.3:
            lines.append(b"transfer-encoding: chunked")
            body = self._chunked(body)
        elif body or method == "POST":
            lines.append(b"content-length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _headers(self, *, binary: bool) -> list[bytes]:
        pick = self._random
        said = (
            [("content-type", pick.choice(MEDIA[:3] if pick.random() < 0.6 else MEDIA))]
            if pick.random() < 0.9
            else []
        )
        if binary:
            said += [
                ("ce-specversion", "1.0"),
                ("ce-id", self._text() or "1"),
                ("ce-source", "s"),
                ("ce-type", "a.b"),
            ]
        for _ in range(pick.randrange(4) if pick.random() < 0.4 else 0):
            name = pick.choice(
                (*(f"ce-{n}" for n in NAMES if n.isalnum()), "idempotency-key", "last-event-id")
            )
            said.append((name, self._text()))
        if pick.random() < 0.05:
            said.append(
                (
                    pick.choice(("content-encoding", "x-request-id", "range", "if-none-match", "expect")),
                    "gzip",
                )
            )
        lines = []
        for name, value in said:
            raw = value.encode("utf-8", "surrogatepass")
            if pick.random() < 0.5:
                raw = quote(raw, safe=" /+;=-.:").encode()
            lines.append(
                name.encode() + b": " + raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\x00", b"")
            )
        return lines

    def _body(self) -> bytes:
        pick = self._random
        kind = pick.random()
        if kind < 0.55:
            value = self._event()
            if pick.random() < 0.3:
                value = [self._event() for _ in range(pick.randrange(5))]
            body = json.dumps(value, ensure_ascii=pick.random() < 0.5).encode("utf-8", "surrogatepass")
        elif kind < 0.7:
            depth = pick.choice((1, 62, 63, 64, 65, 66, 67, 250, 1_000, 20_000))
            body = b'{"type":"a.b","data":' + b"[" * depth + b"]" * depth + b"}"
        elif kind < 0.8:
            body = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\na,b\r\n1,2\r\n--b--\r\n'
        else:
            body = pick.randbytes(pick.randrange(2_000))
        if pick.random() < 0.3 and body:  # a wound
            at = pick.randrange(len(body))
            body = pick.choice(
                (body[:at], body[:at] + pick.randbytes(2) + body[at + 2 :], body[:at] + body[at // 2 :])
            )
        return body

    def _event(self) -> object:
        pick = self._random
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": str(pick.random()),
            "source": "s",
            "type": "a.b",
        }
        event["data"] = self._value(3)
        for _ in range(pick.randrange(4) if pick.random() < 0.6 else 0):
            event[pick.choice(NAMES)] = self._value(1)
        return event if pick.random() < 0.95 else self._value(2)

    def _value(self, depth: int) -> object:
        pick = self._random
        leaf = depth == 0 or pick.random() < 0.5
        if leaf:
            return pick.choice((*NUMBERS, None, True, self._text(), self._text()))
        if pick.random() < 0.5:
            return [self._value(depth - 1) for _ in range(pick.randrange(5))]
        return {self._text(): self._value(depth - 1) for _ in range(pick.randrange(5))}

    def _chunked(self, body: bytes) -> bytes:
        pick = self._random
        out = b""
        while body:
            size = pick.randrange(1, len(body) + 1)
            out += b"%x\r\n%b\r\n" % (size, body[:size])
            body = body[size:]
        return out + b"0\r\n" + (b"x-trailer: y\r\n" if pick.random() < 0.5 else b"") + b"\r\n"

    def _text(self) -> str:
        pick = self._random
        return (
            pick.choice(TEXTS)
            if pick.random() < 0.8
            else "".join(map(chr, pick.choices(range(32, 0x500), k=9)))
        )

    def _escaped(self, text: str) -> str:
        return quote(text.encode("utf-8", "surrogatepass"), safe="/" if self._random.random() < 0.5 else "")


async def run(seed: int, seconds: float, folder: Path) -> Tally:
    """Send such requests for a time, a few at once; see now and then that good ones are served."""
    tally, sayings = Tally("http"), Sayings(seed)
    with running(folder) as api:
        await thrown_at(api, tally, seconds, lambda: _one(api, sayings.request(), tally), AT_ONCE)
    return tally


async def _one(api: ApiProcess, request: bytes, tally: Tally) -> None:
    if b"/notifications" not in request.partition(b"\r\n")[0]:
        count(tally, request, await api.say(request, SOON))
        return
    # A stream has no end: what counts is that it begins, or is refused.
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(SOON):
            answer = await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(STREAM_SECONDS):
            answer += await reader.read(4_096)
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.transport.abort()
    count(tally, request, answer or None)
