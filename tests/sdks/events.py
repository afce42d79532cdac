"""Run by the environment of `make sdks`: publishes with the official Python SDK, and reads back with it what is stored."""

from __future__ import annotations

import http.client
import json
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

URL, KEY = sys.argv[1:3]
BASE = {
    "specversion": "1.0",
    "source": "https://sdk.example/a%20b",
    "time": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
}
EVENTS = [
    CloudEvent({**BASE, "id": "1", "type": "Microsoft.Storage.BlobCreated", "datacontenttype": "application/json"}, {"ü": [1, None, 2.5]}),
    CloudEvent({**BASE, "id": "2", "type": "google.cloud.storage.object.v1.finalized", "datacontenttype": "text/plain"}, "zwölf\n"),
    CloudEvent({**BASE, "id": "3", "type": "org.example/Thing", "datacontenttype": "application/octet-stream"}, bytes(range(256))),
    CloudEvent({**BASE, "id": "4", "type": "com.example.none"}, None),
    CloudEvent(
        {**BASE, "id": "5", "type": "com.example.extended", "subject": "a/ü", "datacontenttype": "application/json",
         "dataschema": "https://schemas.example/thing.json", "vendorstring": "x y", "vendorint": 7, "vendorbool": True},
        {"n": 1},
    ),
]  # fmt: skip


def call(path: str, message: HTTPMessage | None = None) -> object:
    headers = {"Authorization": f"Bearer {KEY}", **(message.headers if message else {})}
    connection = http.client.HTTPConnection(urlsplit(URL).netloc)
    connection.request("POST" if message else "GET", path, message.body if message else None, headers)
    answer = connection.getresponse()
    told = json.load(answer)
    connection.close()
    assert answer.status < 300, (told, message)
    return told


def plain(event: CloudEvent, *, typed: bool) -> tuple[dict[str, object], object]:
    """Its attributes, as text where headers carried them, and its data as bytes, if it has any."""
    attributes = {
        k: v if typed or isinstance(v, datetime) else str(v).lower()
        for k, v in event.get_attributes().items()
    }
    data = event.get_data()
    if isinstance(data, dict):
        data = json.dumps(data, sort_keys=True).encode()
    return attributes, data.encode() if isinstance(data, str) else data or b""


for mode, to_message in (("s", to_structured_event), ("b", to_binary_event)):
    for event in EVENTS:
        sent = CloudEvent({**event.get_attributes(), "id": mode + event.get_id()}, event.get_data())
        call("/v1/events", to_message(sent))
        stored = call(f"/v1/events/{sent.get_id()}")["event"]
        body = json.dumps(stored).encode()
        read = from_structured_event(HTTPMessage({"content-type": "application/cloudevents+json"}, body))
        typed = mode == "s"
        assert plain(read, typed=typed) == plain(sent, typed=typed), (mode, plain(sent, typed=typed), stored)
batch = (
    b"["
    + b",".join(
        to_structured_event(CloudEvent({**e.get_attributes(), "id": "s" + e.get_id()}, e.get_data())).body
        for e in EVENTS
    )
    + b"]"
)
told = call("/v1/events", HTTPMessage({"content-type": "application/cloudevents-batch+json"}, batch))
assert [one["duplicate"] for one in told["events"]] == [True] * len(EVENTS), told  # the same to the byte
print(len(EVENTS))
