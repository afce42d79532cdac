"""What comes out is what came in: over HTTP, into the stream, through a task's result, to readers and streams."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streammesh import names, plain_json
from streammesh.events import envelope
from streammesh.events.envelope import BATCH, STRUCTURED
from structlog.testing import capture_logs

from services.api.tests.expectations import assert_problem

JSON = {"content-type": "application/json"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**120), 10**120)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMED: list[Any] = [
    *(None, "", [], {}, 0, -0.0, False, "null", "\u0000", "\U0001f600", 1e308, 5e-324),
    *(2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, [[2**70, -(2**70)]]),
    {"": None, "__type__": "datetime", "__value__": "x"},
    {str(n): n for n in range(300)},
]


def written(value: Any) -> str:
    """A value as text in which -0.0, 0, 0.0 and False differ."""
    return json.dumps(value, sort_keys=True)


def examples(n: int) -> list[Any]:
    found: list[Any] = []

    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VALUES)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


async def test_any_data_comes_out_of_every_door_as_it_came_in(api, mesh, mesh_redis, mesh_keys):
    await mesh.subscribe("audit", "order.*")
    sent = dict(enumerate([*NAMED, *examples(80)]))
    batch = [
        {"specversion": "1.0", "id": str(n), "source": "shop", "type": "order.placed", "data": data}
        for n, data in sent.items()
    ]
    answer = await api.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})
    assert answer.status_code == 202, answer.text

    tasks: dict[str, str] = {}
    while running := await mesh.dispatch("order", "audit"):
        for task in running:
            await mesh.start(task)
            await mesh.succeed(task, result=task.ref.event.data)
            tasks[task.ref.event.id] = task.ref.task_id

    listed = plain_json.loads((await api.get("/v1/events", params={"limit": 200})).content)["events"]
    assert {e["id"]: written(e["data"]) for e in listed} == {str(n): written(v) for n, v in sent.items()}
    for n, data in sent.items():
        event = plain_json.loads((await api.get(f"/v1/events/{n}", params={"source": "shop"})).content)
        assert written(event["event"]["data"]) == written(data)
        assert written(event["deliveries"][0]["task"]["result"]) == written(data)
        task = plain_json.loads((await api.get(f"/v1/tasks/{tasks[str(n)]}")).content)
        assert written(task["result"]) == written(data)
    told = await api.get("/v1/events/15/notifications")
    notes = [plain_json.loads(line[6:]) for line in told.text.splitlines() if line.startswith("data: {")]
    succeeded = next(note for note in notes if note["type"] == "task.succeeded")
    assert written(succeeded["data"]["result"]) == written(sent[15])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1" * 40, "1" * 39 + "2"),
        ("null", ""),
        ("1", "1.0"),
        ("0.0", "-0.0"),
        ("18446744073709551616", "1.8446744073709552e19"),
    ],
)
async def test_different_data_under_one_identity_is_a_conflict(api, first, second):
    def body(data: str) -> str:
        more = f',"data":{data}' if data else ""
        return f'{{"specversion":"1.0","id":"1","source":"shop","type":"a.b"{more}}}'

    one = await api.post("/v1/events", content=body(first), headers={"content-type": STRUCTURED})
    same = await api.post("/v1/events", content=body(first), headers={"content-type": STRUCTURED})
    other = await api.post("/v1/events", content=body(second), headers={"content-type": STRUCTURED})

    assert one.status_code == 202
    assert same.json()["duplicate"] is True
    assert_problem(other, 409, "event-conflict")


@pytest.mark.parametrize(
    "event_type",
    [
        "Microsoft.Storage.BlobCreated",
        "google.cloud.pubsub.topic.v1.messagePublished",
        "io.confluent.kafka.server/authorization",
        "oss:ObjectCreated:PutObject",
        "webhook",
        'a "quoted" type \\ 日本',
        "2024.x",
        "x" * 256,
    ],
)
async def test_every_type_of_cloudevents_is_published_handed_over_and_found(api, mesh, event_type):
    await mesh.subscribe("audit", event_type)
    domain = names.domain_of(event_type)

    answer = await api.post("/v1/events", json={"type": event_type, "data": 1})
    (task,) = await mesh.dispatch(domain, "audit")
    listed = (await api.get("/v1/events", params={"type": event_type})).json()["events"]

    assert answer.status_code == 202, answer.text
    assert answer.json()["type"] == event_type
    assert task.ref.event.type == event_type
    assert [event["type"] for event in listed] == [event_type]


async def test_a_csv_file_in_its_own_charset_is_data(api):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "csv",
        "ce-source": "shop",
        "ce-type": "file.dropped",
        "ce-iodebeziumtxtotalorder": "1",
        "content-type": "text/csv; charset=Shift_JIS",
    }
    answer = await api.post("/v1/events", content="名前,値".encode("shift_jis"), headers=headers)
    event = (await api.get("/v1/events/csv")).json()["event"]

    assert answer.status_code == 202, answer.text
    assert event["datacontenttype"] == "text/csv; charset=Shift_JIS"
    assert base64.b64decode(event["data_base64"]) == "名前,値".encode("shift_jis")
    assert event["iodebeziumtxtotalorder"] == "1"


async def test_a_batch_of_nothing_is_accepted_and_is_nothing(api):
    answer = await api.post("/v1/events", content=b"[]", headers={"content-type": BATCH})

    assert (answer.status_code, answer.json()) == (202, {"events": []})


async def test_a_follow_up_whose_identity_another_event_has_is_reported(api, mesh):
    await mesh.subscribe("audit", "order.*")
    await api.post("/v1/events", json={"type": "order.placed"})
    taken = envelope.make("x.y", 1, source="shop", id="taken")
    await api.post("/v1/events", json=taken.to_dict(), headers={"content-type": STRUCTURED})
    (task,) = await mesh.dispatch("order", "audit")
    await mesh.start(task)

    with capture_logs() as told:
        await mesh.succeed(task, follow_ups=[envelope.make("x.y", 2, source="shop", id="taken")])

    assert [one["event"] for one in told] == ["event.conflict", "task.succeeded"]
    assert (await api.get("/v1/events/taken")).json()["event"]["data"] == 1
