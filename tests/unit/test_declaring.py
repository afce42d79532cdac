"""What a team writes wrong is refused at import, at the line where it is written."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest
from pydantic import BaseModel, Field
from streammesh import Context, Event, Reject, Service
from streammesh.errors import InvalidManifest
from streammesh.events import envelope
from streammesh.subscriptions.declaration import InvalidHandler
from streammesh.tasks.handler import bind
from streammesh.testing import TrialContext

if TYPE_CHECKING:
    from collections.abc import Awaitable  # noqa: F401
    from decimal import Decimal


class Order(BaseModel):
    order_id: int


def service() -> Service:
    return Service("shop_worker")


async def good(order: Order, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": "3"}, "retries='3': should be a whole number from 0"),
        ({"retries": -1}, "retries=-1: should be a whole number"),
        ({"retries": True}, "retries=True: should be"),
        ({"retries": 2.0}, "retries=2.0: should be"),
        ({"priority": "high"}, "priority='high': should be a whole number from 0 to 9"),
        ({"priority": 10}, "priority=10: should be"),
        ({"timeout": -1}, "timeout=-1: should be a duration of more than 0 seconds"),
        ({"timeout": 0}, "timeout=0: should be"),
        ({"timeout": math.nan}, "timeout=nan: should be"),
        ({"timeout": math.inf}, "timeout=inf: should be"),
        ({"expires": "soon"}, "expires='soon': should be a duration"),
        ({"keep": timedelta(days=-1)}, "keep=datetime.timedelta(days=-1): should be"),
        ({"keep": []}, "keep=[]: should be"),
        ({"backoff": -0.5}, "backoff=-0.5: should be a duration of 0 or more seconds"),
        ({"breaker": "no"}, "breaker='no': should be True or False"),
        ({"where": ["data.a"]}, "should be a dict of paths"),
        ({"where": {"order_id": 1}}, "did you mean 'data.order_id'?"),
        ({"where": {"Data.currency": "EUR"}}, "where['Data.currency'] can never match"),
        ({"where": {"currency.code": "EUR"}}, "'currency' is an attribute, a plain value"),
        ({"where": {"subject.id": 1}}, "'subject' is an attribute, a plain value"),
        ({"where": {"type": "order.paid"}}, "'order.paid' is not covered by 'order.placed'"),
        ({"where": {"data.country": []}}, "an empty list fits nothing"),
        ({"waits": {"order.paid": "order_id"}}, "did you mean 'data.order_id'?"),
        ({"name": "two words"}, "name='two words': say name="),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_its_line(options: dict[str, Any], words: str) -> None:
    line = inspect.currentframe().f_lineno + 2
    with pytest.raises(InvalidHandler) as refused:
        service().on("order.placed", **options)(good)
    assert f"test_declaring.py:{line}: " in str(refused.value)
    assert words in str(refused.value)
    assert isinstance(refused.value, InvalidManifest) and isinstance(refused.value, TypeError)


def test_a_filter_that_can_match_is_taken() -> None:
    where = {
        "data": {"exists": True},
        "data.a.0.B": 1,
        "tenant": "x",
        "subject": None,
        "type": "order.placed",
    }
    shop = service()
    shop.on("order.*", where=where, backoff=0, retries=0, priority=0)(good)
    assert shop.manifest().subscriptions[0].where == where


def context_maybe(order: Order, ctx: Optional[Context] = None) -> None: ...  # noqa: UP045
def context_or_none(order: Order, ctx: Context | None) -> None: ...
def two_contexts(ctx: Context, other: Context) -> None: ...
def context_before_slash(ctx: Context, /) -> None: ...
def event_maybe(event: Event | None) -> None: ...
def keyword_payload(*, order: Order) -> None: ...
def one_too_many(order: Order, ctx: Context, database) -> None: ...
def default_that_nothing_replaces(order: Order, database: Any = None) -> None: ...
def event_beside(order: Order, *, event: Event | None = None, whole: Event = None) -> None: ...
def context_not_annotated(order: Order, context) -> None: ...
def everything(**fields: Any) -> None: ...
def read_late(price: Decimal) -> None: ...
def generator(order: Order) -> Any:
    yield 1


async def async_generator(order: Order) -> Any:
    yield 1


def strange(order: object()) -> None: ...  # type: ignore[valid-type]


class Opaque: ...


def not_validated(order: Opaque) -> None: ...


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def logged_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (context_maybe, "annotate it `ctx: Context`"),
        (context_or_none, "annotate it `ctx: Context`"),
        (two_contexts, "ctx and other are both a Context"),
        (context_before_slash, "cannot stand before `/`"),
        (event_maybe, "annotate it `event: Event`"),
        (keyword_payload, "order can be given by name alone"),
        (one_too_many, "nothing is known to give for 'database'"),
        (default_that_nothing_replaces, "nothing is known to give for 'database'"),
        (event_beside, "nothing is known to give for 'whole'"),
        (context_not_annotated, "annotate it `context: Context`"),
        (everything, "not **fields"),
        (read_late, "not under TYPE_CHECKING"),
        (generator, "has `yield`"),
        (async_generator, "has `yield`"),
        (strange, "pydantic cannot validate the annotation of 'order'"),
        (not_validated, "pydantic cannot validate the annotation of 'order'"),
        (logged(good), "its wrapper should be `async def` too"),
        (functools.partial(good, ctx=None), "a functools.partial has no name"),
        (Opaque, "a handler is a function"),
        (lambda order: None, "say name="),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_handler_that_cannot_be_called_is_refused_with_its_line(handler: Any, words: str) -> None:
    line = inspect.currentframe().f_lineno + 2
    with pytest.raises(InvalidHandler) as refused:
        service().on("order.placed")(handler)
    assert f"test_declaring.py:{line}: " in str(refused.value)
    assert words in str(refused.value)


def test_on_without_its_type_is_refused_at_the_handlers_line() -> None:
    with pytest.raises(
        InvalidHandler, match=rf"test_declaring.py:{good.__code__.co_firstlineno}: write @shop_worker"
    ):
        service().on(good)  # type: ignore[arg-type]
    with pytest.raises(InvalidHandler, match="3 is not an event type"):
        service().on(3)  # type: ignore[arg-type]


def test_two_handlers_of_one_name_are_refused_with_the_lines_of_both() -> None:
    shop = service()
    shop.on("order.placed")(good)
    first = inspect.currentframe().f_lineno - 1
    with pytest.raises(
        InvalidHandler, match=rf"two handlers have the name 'shop_worker.good'.*declaring.py:{first}$"
    ):
        shop.on("order.paid")(good)
    shop.on("order.paid", name="again")(good)
    assert len(shop.manifest().subscriptions) == 2


def test_a_service_says_which_pools_there_are() -> None:
    with pytest.raises(InvalidHandler, match=r"test_declaring.py:\d+: pool='gevent': should be one of async"):
        Service("shop_worker", pool="gevent")  # type: ignore[arg-type]
    with pytest.raises(InvalidHandler, match="prefetch='8'"):
        Service("shop_worker", prefetch="8")  # type: ignore[arg-type]


def test_a_part_of_a_workflow_is_read_the_same_way() -> None:
    def part(number: int, ctx: Context | None = None) -> None: ...

    with pytest.raises(TypeError, match="annotate it `ctx: Context`"):
        service().part(part)


EVENT = envelope.make("order.placed", {"order_id": 7}, source="shop")


def context_first(ctx: Context, order: Order) -> Any:
    return order.order_id, ctx


def annotated(number: Annotated[dict[str, int], Field(max_length=0)]) -> None: ...


def with_a_clock(order: Order, *, clock: Any = 3) -> Any:
    return order.order_id, clock


def test_the_context_may_come_first() -> None:
    context = TrialContext("order.placed")
    args, kwargs = bind(context_first).arguments(EVENT, context)
    assert context_first(*args, **kwargs) == (7, context)


def test_what_an_annotation_adds_is_kept() -> None:
    with pytest.raises(Reject, match="at most 0 items"):
        bind(annotated).arguments(EVENT, TrialContext("order.placed"))


def test_a_parameter_of_the_teams_own_is_given_by_name_alone() -> None:
    args, kwargs = bind(with_a_clock).arguments(EVENT, TrialContext("order.placed"))
    assert with_a_clock(*args, **kwargs) == (7, 3)


def test_a_decorated_async_handler_is_awaited() -> None:
    assert bind(logged_async(good)).is_async


def cut(sheet: str, times: int = 1) -> list[str]:
    return [sheet] * times


async def cut_later(sheet: str) -> None: ...


def again() -> None: ...


def test_a_part_of_a_workflow_stays_the_function_that_it_was() -> None:
    shop = service()
    part = shop.part(max_retries=3)(cut)
    assert part("a", times=2) == ["a", "a"]
    assert part.s("a").task == part.name == "shop_worker.cut"


@pytest.mark.parametrize(
    ("options", "function", "words"),
    [
        ({"max_retrys": 3}, cut, "has no option 'max_retrys'; did you mean 'max_retries'"),
        ({}, cut_later, "a plain `def`"),
        ({}, again, "two functions have the name 'shop_worker.again'"),
    ],
)
def test_a_part_that_cannot_be_is_refused_with_its_line(
    options: Any, function: Callable[..., Any], words: str
) -> None:
    shop = service()
    shop.on("order.placed", name="again")(good)
    with pytest.raises(InvalidHandler, match=rf"test_declaring.py:\d+: .*{words}"):
        shop.part(**options)(function)


def test_a_handler_does_not_take_the_place_of_a_part_of_its_name() -> None:
    shop = service()
    shop.part(again)
    with pytest.raises(InvalidHandler, match=r"two functions have the name 'shop_worker\.again'"):
        shop.on("order.placed")(again)


def plain(order: Order) -> None: ...


def test_the_pool_is_async_also_where_the_first_handler_or_a_part_is_a_def() -> None:
    shop = service()
    shop.part(again)
    shop.on("order.paid")(plain)
    assert shop.celery_app.conf.worker_pool.endswith("prefork_pool:TaskPool")
    shop.on("order.placed")(good)
    assert shop.celery_app.conf.worker_pool.endswith("async_pool:TaskPool")
