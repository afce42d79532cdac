"""What a team writes wrong about what it expects, or about what cancels, is refused at import, at its line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from streammesh import Context, Service
from streammesh.errors import InvalidManifest
from streammesh.subscriptions.declaration import InvalidHandler
from streammesh.subscriptions.manifest import Manifest, check
from streammesh.testing import TrialContext


class Order(BaseModel):
    order_id: int


GOOD: dict[str, Any] = {"after": "order.placed", "within": "30m", "key": "data.order_id"}


@pytest.mark.parametrize(
    ("event_type", "options", "words"),
    [
        ("order.*", {}, "one event type, and no glob"),
        ("", {}, "one event type, and no glob"),
        (7, {}, "one event type, and no glob"),
        ("order.paid", {"after": None}, "after=None: should be the type"),
        ("order.paid", {"after": "a\x00b"}, "is not an event type"),
        ("order.paid", {"within": "soon"}, "within='soon': should be a duration"),
        ("order.paid", {"within": 0}, "within=0: should be a duration of more than 0"),
        ("order.paid", {"within": "366d"}, "should be shorter than 366 days"),
        ("order.paid", {"key": "order_id"}, "key: ['order_id'] can never match"),
        ("order.paid", {"key": ""}, "key"),
        ("order.paid", {"key": {"order.paid": "data.id"}}, "{'order.placed': 'data.id', 'order.paid'"),
        ("order.paid", {"key": {"order.paid": "data.id", "order.placed": 1}}, "should be a path such as"),
        ("order.paid", {"breaker": 1}, "breaker=1: should be True or False"),
        ("order.paid", {"retries": -1}, "retries=-1"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused_with_its_line(
    event_type: Any, options: dict[str, Any], words: str
) -> None:
    shop = Service("shop_worker")
    with pytest.raises(InvalidHandler) as refused:

        @shop.expects(event_type, **{**GOOD, **options})
        async def never(order: Order) -> None: ...

    assert words in str(refused.value)
    assert "test_declaring_expectations.py:" in str(refused.value)
    assert shop.manifest().subscriptions == ()


def test_an_expectation_waits_for_its_type_by_the_path_in_it() -> None:
    shop = Service("shop_worker")

    @shop.expects(
        "order.paid",
        after="order.placed",
        within="30m",
        key={"order.placed": "data.order_id", "order.paid": "data.for"},
    )
    async def unpaid(order: Order, ctx: Context) -> str:
        return f"{order.order_id}"

    one, waker = shop.manifest().subscriptions
    assert (one.task, one.type, one.waits) == (
        "shop_worker.unpaid",
        "order.placed",
        {"order.paid": ("data.for",)},
    )
    assert waker.type == "order.paid"


async def test_the_decorated_function_stays_callable_as_it_is() -> None:
    shop = Service("shop_worker")

    @shop.expects("order.paid", **GOOD)
    async def unpaid(order: Order, ctx: Context) -> str:
        return f"{order.order_id} {ctx.attempt}"

    assert await unpaid(Order(order_id=3), TrialContext()) == "3 1"


@pytest.mark.parametrize(
    ("cancel_on", "words"),
    [
        ("order.cancelled", "should be a dict of types and paths"),
        ({"order.*": "data.id"}, "should be an event type, and no glob"),
        ({7: "data.id"}, "should be an event type"),
        ({"order.cancelled": 7}, "should be a path such as 'data.order_id', or two"),
        ({"order.cancelled": ("data.id",)}, "or two: (path in the event that cancels"),
        ({"order.cancelled": ("data.id", "order_id")}, "did you mean 'data.order_id'?"),
        ({"order.cancelled": ""}, "should be a path"),
        ({f"order.{n}": "data.id" for n in range(9)}, "at most 8 types"),
    ],
)
def test_what_cancels_and_cannot_be_is_refused_with_its_line(cancel_on: Any, words: str) -> None:
    shop = Service("shop_worker")
    with pytest.raises(InvalidHandler) as refused:

        @shop.on("order.placed", cancel_on=cancel_on)
        async def never(order: Order) -> None: ...

    assert words in str(refused.value)
    assert "test_declaring_expectations.py:" in str(refused.value)


def test_what_cancels_is_a_subscription_of_its_own_and_survives_the_manifest() -> None:
    shop = Service("shop_worker")

    @shop.on("order.placed", cancel_on={"order.cancelled": ("data.id", "data.order_id")})
    async def fulfil(order: Order) -> None: ...

    own, canceller = Manifest.from_json(shop.manifest().to_json()).subscriptions
    assert tuple(own.cancel_on["order.cancelled"]) == ("data.id", "data.order_id")
    assert (canceller.type, canceller.priority) == ("order.cancelled", 9)
    assert tuple(canceller.cancels) == ("shop_worker.fulfil", "data.id")
    with pytest.raises(InvalidManifest, match="one of the service's own tasks"):
        check(Manifest("shop_worker", subscriptions=(replace(canceller, cancels=("other.task", "data.id")),)))
