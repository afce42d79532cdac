"""Limits as they are declared: what is refused, what the scripts are told, how keys are written; the witness of `make faults`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel
from streammesh import Service
from streammesh.events.envelope import build
from streammesh.flow.limits import Flow, drop_ms, key_text, throttle_ms
from streammesh.subscriptions.declaration import InvalidHandler
from streammesh.subscriptions.manifest import Manifest, Subscription, delivery, priority_of

from tests.faults.scenarios.flow import witness


class Owner(BaseModel):
    name: str


class Order(BaseModel):
    tenant: str
    owner: Owner | None = None
    more: dict[str, int] = {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "data.tenant"}, "key= limits nothing alone"),
        ({"key": "tenant_id", "order": True}, "did you mean 'data.tenant_id'?"),
        ({"key": "data..x", "order": True}, "should be a path of words joined by dots"),
        ({"key": "subject.id", "order": True}, "'subject' is an attribute"),
        ({"key": "data", "order": True}, "name a member of the data"),
        ({"key": "data.tennant", "order": True}, "the payload has no 'tennant'; it has more, owner, tenant"),
        ({"key": "data.owner.nam", "order": True}, "the payload has no 'nam'"),
        ({"key": "data.tenant.id", "order": True}, "data.tenant is a plain value"),
        ({"concurrency": 0}, "concurrency=0: should be a whole number from 1"),
        ({"total": True}, "total=True: should be a whole number"),
        ({"fair": True, "total": 3}, "fair=True needs key="),
        ({"fair": True, "key": "data.tenant", "concurrency": 2}, "fair=True needs total="),
        ({"order": True, "concurrency": 2}, "leave out concurrency=2"),
        ({"order": True, "total": 2}, "leave out total=2"),
        ({"concurrency": 1, "total": 2}, "are the same without key="),
        ({"throttle": "fast"}, "'fast' is no rate"),
        ({"throttle": 5}, "is no rate"),
        ({"throttle": "0/m"}, "is no rate"),
        ({"drop": "5/h", "throttle": "5/h"}, "drop= ends what throttle= has wait"),
        ({"singleton": "last"}, "should be one of skip, cancel_running"),
        ({"singleton": "skip", "order": True}, "leave out order="),
        ({"max_wait": "5m"}, "max_wait= is how long debounce= waits at most"),
        ({"debounce": "5m", "max_wait": "30s"}, "is shorter than debounce="),
        ({"debounce": "1s", "key": "data.tenant", "order": True}, "leave out order="),
        ({"debounce": "1s", "singleton": "skip"}, "leave out singleton='skip'"),
        ({"debounce": "1s", "drop": "5/h"}, "leave out drop="),
        ({"debounce": "1m", "expires": "30s"}, "is over before debounce=60"),
        ({"debounce": "soon"}, "debounce='soon'"),
        ({"debounce": "400d"}, "should be a time of 1 ms to a year"),
        ({"debounce": "1s", "key": "data.tennant"}, "the payload has no 'tennant'"),
        ({"priority": "data.wait"}, "the payload has no 'wait'"),
    ],
)
def test_limits_that_make_no_sense_are_refused_with_the_line_of_the_handler(
    options: dict[str, Any], words: str
) -> None:
    service = Service("shop")
    with pytest.raises(InvalidHandler) as refused:

        @service.on("order.placed", **options)
        async def handle(order: Order) -> None: ...

    assert words in str(refused.value) and __file__.rpartition("/")[2] in str(refused.value)


@pytest.mark.parametrize(
    "key", ["data.tenant", "data.owner.name", "data.more.anything", "subject", "tenantid"]
)
def test_a_key_may_be_whatever_an_event_can_have(key: str) -> None:
    service = Service("shop")

    @service.on("order.placed", key=key, concurrency=2, total=9, fair=True, priority="data.more.weight")
    async def handle(order: Order) -> None: ...

    [subscription] = service.manifest().subscriptions
    [read] = Manifest.from_json(service.manifest().to_json()).subscriptions
    assert (read.flow, read.priority_path) == (subscription.flow, "data.more.weight")
    assert orjson.loads(subscription.flow.limits) == {"concurrency": 2, "total": 9, "fair": True}


def test_manifests_of_other_versions_are_read() -> None:
    old: dict[str, Any] = {
        "service": "shop",
        "subscriptions": [{"service": "shop", "task": "shop.a", "type": "x.y"}],
    }
    assert Manifest.from_json(orjson.dumps(old)).subscriptions[0].flow is None
    old["subscriptions"][0]["flow"] = {"concurrency": 2, "of_tomorrow": 1}
    assert Manifest.from_json(orjson.dumps(old)).subscriptions[0].flow == Flow(concurrency=2)


def test_the_key_of_an_event_is_its_value_as_text_and_bounded() -> None:
    wants = Subscription("shop", "shop.a", "x.y", flow=Flow(key="data.t", concurrency=1))
    keys = [
        delivery(build("s", "x.y", data), wants).key
        for data in ({"t": "acme"}, {"t": 7}, {"t": None}, {}, {"t": ["a"]})
    ]
    assert keys == ["acme", "7", "", "", '["a"]']
    long, nul = key_text("x" * 5_000), key_text("a\0b")
    assert len(long) < 128 and "\0" not in nul and key_text("x" * 5_001) != long != nul


@pytest.mark.parametrize(
    ("value", "priority"), [(7, 7), (99, 9), (-3, 0), (2.6, 2), ("9", 5), (True, 5), (None, 5)]
)
def test_a_priority_by_path_is_a_number_from_0_to_9(value: Any, priority: int) -> None:
    wants = Subscription("shop", "shop.a", "x.y", priority_path="data.w")
    assert priority_of(build("s", "x.y", {"w": value}), wants) == priority


def test_a_rate_is_a_distance_and_what_may_be_made_up_for() -> None:
    assert throttle_ms("100/m") == [600.0, 1_000.0]
    assert drop_ms("5/h") == [720_000.0, 4 * 720_000.0]
    assert drop_ms("10/30s") == [3_000.0, 27_000.0]


def test_the_witness_sees_three_of_a_key_and_a_broken_order() -> None:
    began = [f"began limited k {n} t{n}" for n in range(3)]
    assert witness(began) == (3, [])
    assert witness([*began[:2], "ended limited k 0 t0", began[2]]) == (2, [])
    most, inversions = witness(
        ["began ordered k 2 b", "ended ordered k 2 b", "began ordered k 1 a", "began ordered k 3 c"]
    )
    assert most == 2 and len(inversions) == 2
