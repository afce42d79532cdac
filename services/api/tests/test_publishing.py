"""`POST /v1/events`: four forms of body, one round trip, and clear refusals."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from streammesh.events import envelope
from streammesh.events.envelope import BATCH, STRUCTURED
from streammesh.events.publisher import Published

from services.api.publish_endpoint import accepted, accepted_text
from services.api.tests.expectations import assert_problem

ENVELOPE = {"specversion": "1.0", "id": "one", "source": "/shop", "type": "order.placed", "data": {"n": 1}}
JSON = {"content-type": "application/json"}
OF_THE_API_ITSELF = {"api-keys-used", "alive:api", "last-seen", "format"}
OF_ITS_KEYS = {"api-keys", "webhooks-version"}  # a key that is made may be one that webhooks wait for


async def stored(mesh_redis, mesh_keys, domain="order") -> list[Any]:
    return [envelope.from_json(f[b"e"]) for _, f in await mesh_redis.xrange(mesh_keys.events(domain))]


async def test_a_plain_body_is_stored_with_what_it_left_out(api, mesh_redis, mesh_keys):
    answer = await api.post("/v1/events", json={"type": "order.placed", "data": {"n": 1}})

    assert answer.status_code == 202
    body = answer.json()
    (event,) = await stored(mesh_redis, mesh_keys)
    assert (event.id, event.source, event.type, event.data) == (body["id"], "shop", "order.placed", {"n": 1})
    assert event.time.endswith("Z")
    assert body == {
        "id": event.id,
        "source": "shop",
        "type": "order.placed",
        "duplicate": False,
        "links": {"self": f"/v1/events/{event.id}", "notifications": f"/v1/events/{event.id}/notifications"},
    }
    assert answer.headers["x-request-id"]


async def test_a_structured_event_is_stored_as_it_is_and_once(api, mesh_redis, mesh_keys):
    sent = {**ENVELOPE, "subject": "order/1", "partitionkey": "k", "dataschema": "https://example.com/s"}

    first = await api.post("/v1/events", content=json.dumps(sent), headers={"content-type": STRUCTURED})
    second = await api.post(
        "/v1/events", content=json.dumps(sent), headers={"content-type": f"{STRUCTURED}; charset=UTF-8"}
    )

    assert (first.status_code, second.status_code) == (202, 202)
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    (event,) = await stored(mesh_redis, mesh_keys)
    assert {k: v for k, v in event.to_dict().items() if k != "time"} == sent


async def test_links_lead_to_the_event_whatever_its_id_is(api):
    odd = {**ENVELOPE, "id": "a/b c?d#e%2Ff/notifications", "source": "/shop?x=1&y"}

    sent = await api.post("/v1/events", content=json.dumps(odd), headers={"content-type": STRUCTURED})
    found = await api.get(sent.json()["links"]["self"])

    assert (found.status_code, found.json()["id"], found.json()["source"]) == (200, odd["id"], odd["source"])


@given(id=st.text(min_size=1), source=st.text(min_size=1), duplicate=st.booleans())
@example(id="0198f2f1-8d3a-7cc0-9a44-0b3f1d0c2a11", source="/shop", duplicate=False)
@example(id="1", source='/shop?x="1"&y', duplicate=True)
def test_the_answer_says_the_same_whether_or_not_the_id_needs_escaping(id, source, duplicate):
    published = Published(id, source, "order.placed", duplicate, "1-0")

    assert json.loads(accepted_text(published)) == accepted(published).model_dump()


async def test_a_batch_is_stored_in_its_order(api, mesh_redis, mesh_keys):
    batch = [{**ENVELOPE, "id": str(n), "data": n} for n in range(1_000)]

    answer = await api.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})

    assert answer.status_code == 202
    assert [event["id"] for event in answer.json()["events"]] == [str(n) for n in range(1_000)]
    assert [event.data for event in await stored(mesh_redis, mesh_keys)] == list(range(1_000))


async def test_one_bad_event_refuses_the_whole_batch(api, mesh_redis, mesh_keys):
    batch = [ENVELOPE, {**ENVELOPE, "id": "two", "type": "no\ntype"}, {**ENVELOPE, "id": ""}]

    answer = await api.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})

    document = assert_problem(answer, 422, "invalid-event")
    assert [error["pointer"] for error in document["errors"]] == ["/1/type", "/2/id"]
    assert await stored(mesh_redis, mesh_keys) == []


async def test_a_conflict_refuses_the_whole_batch(api, mesh_redis, mesh_keys):
    await api.post("/v1/events", content=json.dumps(ENVELOPE), headers={"content-type": STRUCTURED})
    batch = [{**ENVELOPE, "id": "two"}, {**ENVELOPE, "data": {"n": 2}}]

    answer = await api.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})

    assert assert_problem(answer, 409, "event-conflict")["index"] == 1
    assert len(await stored(mesh_redis, mesh_keys)) == 1


async def test_binary_mode_takes_attributes_from_headers(api, mesh_redis, mesh_keys):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "one",
        "ce-source": "/shop",
        "ce-type": "order.placed",
        "ce-subject": "M%C3%BCller%20%26%20Co",
        "ce-priority": "7",
        "ce-traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }

    as_json = await api.post("/v1/events", content=b'{"n":1}', headers={**headers, **JSON})
    as_bytes = await api.post(
        "/v1/events",
        content=b"\x00\x01\xff",
        headers={**headers, "ce-id": "two", "content-type": "image/png"},
    )

    assert (as_json.status_code, as_bytes.status_code) == (202, 202)
    one, two = await stored(mesh_redis, mesh_keys)
    assert (one.data, one.subject, one.priority) == ({"n": 1}, "Müller & Co", 7)
    assert (two.datacontenttype, base64.b64decode(two.data_base64)) == ("image/png", b"\x00\x01\xff")


async def test_wrong_headers_of_binary_mode_are_named_as_headers(api):
    answer = await api.post(
        "/v1/events", content=b"1", headers={"ce-id": "x", "ce-type": "order.placed", **JSON}
    )

    document = assert_problem(answer, 422, "invalid-event")
    assert {error["header"] for error in document["errors"]} == {"ce-specversion", "ce-source"}


@pytest.mark.parametrize("priority", ["%C2%B2", "9" * 5000, "-1", "x"])
async def test_a_header_that_only_looks_like_a_number_is_refused(api, priority):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "s",
        "ce-type": "a.b",
        "ce-priority": priority,
    }

    assert_problem(
        await api.post("/v1/events", content=b"1", headers={**headers, **JSON}), 422, "invalid-event"
    )


async def test_an_idempotency_key_stands_for_the_id(api, mesh_redis, mesh_keys):
    def send(key, n):
        return api.post(
            "/v1/events", json={"type": "order.placed", "data": n}, headers={"idempotency-key": key}
        )

    first, again, quoted = await send("k1", 1), await send("k1", 1), await send('"k1"', 1)
    other, conflict = await send("k2", 1), await send("k1", 2)

    assert [a.json()["duplicate"] for a in (first, again, quoted, other)] == [False, True, True, False]
    assert first.json()["id"] == again.json()["id"] == quoted.json()["id"] != other.json()["id"]
    assert_problem(conflict, 409, "event-conflict")
    assert len(await stored(mesh_redis, mesh_keys)) == 2


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
async def test_an_unusable_idempotency_key_is_refused(api, key):
    answer = await api.post("/v1/events", json={"type": "a.b"}, headers={"idempotency-key": key})

    assert_problem(answer, 400, "malformed-request")


def nested(depth: int) -> bytes:
    return b'{"type":"a.b","data":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (b"{", JSON, 400, "malformed-body"),
        (b"", JSON, 400, "malformed-body"),
        (b"\x00", JSON, 400, "malformed-body"),
        (b'{"type":"a.b\x00"}', JSON, 400, "malformed-body"),
        (b'{"type":"a.b","data":"\xff\xfe"}', JSON, 400, "malformed-body"),
        (b'{"type":"a.b","data":NaN}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","data":"\\ud800"}', JSON, 422, "invalid-event"),
        (nested(65), JSON, 422, "invalid-event"),
        (nested(1_000), JSON, 422, "invalid-event"),
        (b'{"type":"a.b\\u0000"}', JSON, 422, "invalid-event"),
        (b"{}", JSON, 422, "invalid-event"),
        (b"[]", JSON, 422, "invalid-event"),
        (b'"a"', JSON, 422, "invalid-event"),
        (b"null", JSON, 422, "invalid-event"),
        (b'{"type":1}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","source":"a b"}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","time":"yesterday"}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","deliverat":7}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","extra":{}}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","A":"1"}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b","data":1,"data_base64":"AA=="}', JSON, 422, "invalid-event"),
        (b'{"type":"a.b"}', {"content-type": STRUCTURED}, 422, "invalid-event"),
        (b"{}", {"content-type": BATCH}, 422, "invalid-event"),
        (b"[1]", {"content-type": BATCH}, 422, "invalid-event"),
        (b"[" + b"{}," * 1_000 + b"{}]", {"content-type": BATCH}, 422, "invalid-event"),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        (b"{}", {"content-type": "text/plain"}, 415, "unsupported-media-type"),
        (b"{}", {}, 415, "unsupported-media-type"),
        (b"{}", {"content-type": "application/cloudevents+xml"}, 415, "unsupported-media-type"),
        (b"{}", {"content-type": "application/json; charset=utf-16"}, 415, "unsupported-media-type"),
        (
            gzip.compress(b'{"type":"a.b"}', mtime=0),
            {**JSON, "content-encoding": "gzip"},
            415,
            "unsupported-media-type",
        ),
        (b'{"type":"a.b","data":"' + b"x" * 300 * 1024 + b'"}', JSON, 413, "body-too-large"),
        (b"x" * 300 * 1024, {"ce-specversion": "1.0", "ce-id": "1"}, 413, "body-too-large"),
        (b"[" + b" " * 9_000_000 + b"]", {"content-type": BATCH}, 413, "body-too-large"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
async def test_broken_input_is_refused_and_changes_nothing(
    api, mesh_redis, mesh_keys, body, headers, status, kind
):
    answer = await api.post("/v1/events", content=body, headers=headers)

    assert_problem(answer, status, kind)
    left = {
        key.decode().removeprefix(mesh_keys.prefix) for key in await mesh_redis.keys(f"{mesh_keys.prefix}*")
    }
    assert left - OF_THE_API_ITSELF == OF_ITS_KEYS


async def test_an_event_too_large_within_a_batch_is_pointed_at(api):
    batch = [ENVELOPE, {**ENVELOPE, "id": "two", "data": "x" * 270_000}]

    answer = await api.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})

    assert assert_problem(answer, 413, "body-too-large")["errors"][0]["pointer"] == "/1"


async def test_a_body_that_never_says_how_long_it_is_is_refused_while_it_arrives(api):
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"[" * 65_536

    answer = await api.post("/v1/events", content=endless(), headers=JSON)

    assert_problem(answer, 413, "body-too-large")
    assert taken < 12


async def test_the_largest_event_is_taken(api):
    body = b'{"type":"a.b","data":"' + b"x" * (262_144 - 24) + b'"}'

    assert len(body) == 262_144
    assert (await api.post("/v1/events", content=body, headers=JSON)).status_code == 202


async def test_a_held_event_is_accepted_and_not_yet_in_its_stream(api, mesh_redis, mesh_keys):
    answer = await api.post("/v1/events", json={"type": "order.placed", "deliverat": "2999-01-01T00:00:00Z"})

    assert answer.status_code == 202
    assert await stored(mesh_redis, mesh_keys) == []
    assert await mesh_redis.zcard(mesh_keys.due()) == 1


async def test_a_request_id_is_kept_when_it_is_usable(api):
    kept = await api.post("/v1/events", json={"type": "a.b"}, headers={"x-request-id": "mine-1"})
    made = await api.post("/v1/events", json={"type": "a.b"}, headers={"x-request-id": 'x" y'})

    assert kept.headers["x-request-id"] == "mine-1"
    assert made.headers["x-request-id"] != 'x" y'
