"""Expressions in CEL: what they mean, what is refused and where, and that none costs more than its steps."""

from __future__ import annotations

import time

import pytest
from streammesh.cel.expression import STEPS, TooLong, expression
from streammesh.errors import InvalidExpression, InvalidManifest
from streammesh.events.envelope import Event
from streammesh.service import Service
from streammesh.subscriptions.manifest import Manifest, Subscription, plan

NAMES = frozenset(("type", "subject", "data"))
EVENT = {
    "type": "order.placed",
    "data": {
        **{"a": 1, "b": "x", "c": True, "n": None, "f": 2.5, "l": [1, 2, 3], "m": {"k": 1}, "e": []},
        **{"s": "hello", "items": [{"sku": "a", "n": 1}, {"sku": "b"}]},
    },
}
TRUE = """
data.a == 1
data.a == 1.0 && data.a > 0.5 && data.a != 2
data.zz == 1 || data.a == 1
data.a == 1 || data.zz == 1
!has(data.zz) && has(data.n) && has(data.m.k)
data.n == null && data.b != null
data.a in data.l && !(9 in data.l) && 'k' in data.m && data.b in ['x', 'y']
data.l[0] == 1 && data.m['k'] == 1 && data['m']['k'] == 1
data.l == [1, 2, 3] && data.l != [1, 2] && data.e == []
size(data.l) == 3 && data.l.size() == 3 && size(data.s) == 5 && size(data.m) == 1
data.s.startsWith('he') && data.s.endsWith("lo") && data.s.contains('ell')
data.a + 1 == 2 && data.a - 1 == 0 && data.f * 2.0 == 5.0 && -7 / 2 == -3 && -7 % 3 == -1
data.a == 1 ? data.b == 'x' : data.zz
data.l.exists(x, x > 2) && data.l.all(x, x > 0) && data.e.all(x, x > 0)
data.items.exists(one, one.n == 1)
data.l.all(x, data.l.exists(y, y == x))
data.c && !(data.c == false) && data.c != 1
data.s == "he\\u006clo" && data.s == r'hello' && data.a == 0x1
type == 'order.placed'
data.l.size() >= 3 && (data.b < 'y' || false)
""".strip().splitlines()
FALSE = """
data.zz == 1
data.zz != 1
!(data.zz == 1)
data.zz == 1 || data.a == 2
data.b == 1
data.a < 'x'
data.a == true
data.l[9] == 1
data.l[-1] == 3
data.b
data.a ? true : false
!data.a
has(data.zz.y)
data.a / 0 == 1
data.a + 'x' == 'x'
data.s.startsWith(1)
data.e.exists(x, true)
data.items.all(one, one.n == 1)
data.a + 9223372036854775807 > 0
subject == 'x'
data.a.b == 1
size(data.a) == 1
""".strip().splitlines()
REFUSED = {
    "": (1, "it ends too early"),
    "data.total >": (13, "it ends too early"),
    "data.total = 1": (12, "equal is =="),
    "data.a == 'x": (11, "a text ends with the quote"),
    "total.sum > 1": (1, "'total' is no attribute"),
    "1 == 1": (1, "it asks for nothing of an event"),
    "data.a": None,
    "size(data.l)": (1, "it is not true or false"),
    "data.s.matches('a+')": (8, "no regular expressions"),
    "data.l.map(x, x)": (8, "only exists, all and has"),
    "timestamp(data.t) > 1": (1, "no times"),
    "data.a == 1 data.b": (13, "not expected here"),
    "(data.a == 1": (13, "')' is missing at the end"),
    "data.a == 99999999999999999999": (11, "64 bits"),
    "data.a == 'x\\q'": (13, "stands for nothing"),
    "data.a == '\\ud800'": (12, "stands for nothing"),
    "\0": (1, "not expected here"),
    "(" * 400 + "data.a" + ")" * 400: (25, "nested deeper"),
    "!" * 600 + "data.a": (1, "more than 24 signs"),
    "data.a" + "[0]" * 200: (76, "a path has 24 parts"),
    "||".join(["data.a"] * 120): (383, "operators in a row"),
    "data.a in [" + "1," * 300 + "1]": None,
}


@pytest.mark.parametrize("wanted", [True, False])
def test_an_expression_means_what_cel_says(wanted):
    for text in TRUE if wanted else FALSE:
        assert expression(text, NAMES).fits(EVENT.__getitem__) is wanted, text


def test_another_implementation_says_the_same():
    cel = pytest.importorskip("cel", reason="common-expression-language is not installed")
    for text in (*TRUE, *FALSE):
        try:
            said = cel.compile(text).execute(EVENT) is True
        except Exception:  # whatever it raises: the expression has no value
            said = False
        assert expression(text, NAMES).fits(EVENT.__getitem__) is said, text


def test_what_is_no_expression_is_refused_and_the_place_is_said():
    for text, said in REFUSED.items():
        if said is None and text == "data.a":  # it may be true or false
            expression(text, NAMES)
            continue
        with pytest.raises(InvalidExpression) as refused:
            expression(text, NAMES)
        if said:
            assert str(refused.value).startswith(f"at character {said[0]},"), (text[:40], str(refused.value))
            assert said[1] in str(refused.value), text[:40]
    with pytest.raises(InvalidExpression, match="1,006 characters"):
        expression("(" * 500 + "data.a" + ")" * 500, NAMES)


def test_whatever_the_event_holds_an_expression_costs_no_more_than_its_steps():
    many = {str(n): n for n in range(50_000)}
    data = {"l": list(range(100_000)), "m": many, "m2": dict(many), "s": "a" * 200_000, "t": "a" * 200_000}
    began = time.process_time()
    for text in (
        "data.l.all(x, data.l.all(y, x >= 0 || y >= 0))",
        "data.l.all(x, data.m == data.m2)",
        "data.l.exists(x, data.l == data.s || data.l.all(y, y < x))",
        "data.l.all(x, !data.s.contains('b'))",
        "[data.l, data.l] == [data.l, data.l]",
        "(data.s + data.s + data.s + data.s + data.s).contains('b')",
    ):
        with pytest.raises(TooLong, match=f"{STEPS:,}"):
            expression(text, NAMES).fits({"data": data}.__getitem__)
    assert time.process_time() - began < 0.5  # a hundred thousand times a hundred thousand would take hours


def test_a_subscription_takes_an_expression_over_attributes_and_data():
    service = Service("shop")

    @service.on("order.*", where="data.total > 100 && data.country in ['DE', 'AT'] && tenant == 'eu'")
    def handle(order: dict[str, object]) -> None: ...

    manifest = Manifest.from_json(service.manifest().to_json())
    assert isinstance(manifest.subscriptions[0].where, str)  # an object is all that an older process takes

    def event(data: object, **extensions: str) -> Event:
        return Event(
            id="1",
            source="s",
            type="order.placed",
            time="2026-11-22T06:00:00Z",
            data=data,
            extensions=extensions,
        )

    fitting = event({"total": 120, "country": "AT"}, tenant="eu")
    others = (
        event({"total": 120, "country": "AT"}),
        event({"total": 120, "country": "FR"}, tenant="eu"),
        event({"total": "much", "country": "AT"}, tenant="eu"),
        event([], tenant="eu"),
        event(None, tenant="eu"),
    )
    assert len(plan(fitting, manifest.subscriptions)) == 1
    assert not any(plan(one, manifest.subscriptions) for one in others)


def test_a_wrong_expression_is_refused_where_it_is_written_and_in_a_stored_manifest():
    with pytest.raises(InvalidManifest, match=r"test_cel\.py:\d+: .*character 12.*equal is =="):
        Service("shop").on("order.*", where="data.total = 1")
    stored = Manifest(
        "shop", subscriptions=(Subscription("shop", "shop.x", "a.b", "data.total >"),)
    ).to_json()
    with pytest.raises(InvalidManifest, match="character 13"):
        Manifest.from_json(stored)


def test_an_expression_that_takes_too_long_for_an_event_does_not_fit_and_is_said(capsys):
    wanted = Subscription("shop", "shop.slow", "a.b", "data.l.all(x, data.l.all(y, x >= 0))")
    event = Event(id="1", source="s", type="a.b", time="2026-11-22T06:00:00Z", data={"l": list(range(1_000))})
    assert plan(event, [wanted]) == [] == plan(event, [wanted])
    assert capsys.readouterr().out.count("filter.raised") == 1
