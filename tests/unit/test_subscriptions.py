"""Who gets an event: exact types, globs, filters; and what a manifest may ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streammesh import names
from streammesh.errors import InvalidManifest
from streammesh.events import envelope
from streammesh.service import Service
from streammesh.subscriptions.filters import fits
from streammesh.subscriptions.manifest import Manifest, Routes, Subscription, check, plan

EVENT = envelope.make(
    "order.line.added",
    {"currency": "EUR", "total": 12.5, "lines": [{"sku": "a"}], "paid": True, "note": None, "n": 1},
    source="shop",
    subject="order/7",
    extensions={"priority": 7},
)


def wants(event_type: str, **options) -> Subscription:
    return Subscription("audit", "audit.record", event_type, **options)


@pytest.mark.parametrize("pattern", ["order.line.added", "order.*", "*", "*.added", "order.????.added"])
def test_patterns_that_cover_the_type(pattern):
    assert plan(EVENT, [wants(pattern)])


@pytest.mark.parametrize("pattern", ["order.line", "order", "orders.*", "*.removed", "order.???.added"])
def test_patterns_that_do_not(pattern):
    assert not plan(EVENT, [wants(pattern)])


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"data.currency": "EUR"},
        {"data.currency": ["USD", "EUR"]},
        {"data.lines.0.sku": "a"},
        {"subject": {"prefix": "order/"}},
        {"source": "shop", "data.total": {">": 12, "<=": 12.5}},
        {"data.currency": {"exists": True}, "data.gone": {"exists": False}},
        {"data.note": {"exists": False}},
        {"data.currency": {"not": "USD"}},
        {"data.paid": True},
        {"priority": {">=": 5}},
    ],
)
def test_filters_that_fit(where):
    assert fits(EVENT, where)


@pytest.mark.parametrize(
    "where",
    [
        {"data.currency": "USD"},
        {"data.gone": None},
        {"data.lines.5.sku": "a"},
        {"data.total": {">": "12"}},
        {"data.n": True},
        {"data.paid": 1},
        {"data.currency": {"not": ["EUR"]}},
        {"subject": {"prefix": "user/"}},
        {"datacontenttype": {"exists": True}},
    ],
)
def test_filters_that_do_not_fit(where):
    assert not fits(EVENT, where)


@pytest.mark.parametrize(
    "where",
    [
        None,
        5,
        ["data.x"],
        {"": 1},
        {"data..x": 1},
        {5: 1},
        {"subject": {"prefix": ("user/", "customer/")}},
        {"subject": {"prefix": 5}},
        {"subject": {"not": {"prefix": ["user/"]}}},
        {"subject": {"not": {"like": "x"}}},
        {"subject": {"not": {"not": {"not": {"not": {"not": "x"}}}}}},
        {"subject": {"exists": "yes"}},
        {"data.total": {">": None}},
        {"data.total": {">": [1]}},
        {"data.total": {"<": float("nan")}},
        {"data.total": {"<": True}},
        {"data.total": 2**70},
        {"data.total": float("inf")},
        {"data.x": [{"prefix": "a"}]},
        {"data.x": [["a"]]},
        {"data.x": "\ud800"},
        {"data.x": object()},
        {"data.x": {}},
        {"data.x": list(range(65))},
        {f"data.x{n}": n for n in range(65)},
    ],
)
def test_a_filter_that_cannot_be_asked_is_refused_where_it_is_written(where):
    with pytest.raises(InvalidManifest):
        check(Manifest("audit", subscriptions=(wants("order.*", where=where),)))


def test_the_words_say_what_to_write_instead():
    with pytest.raises(
        InvalidManifest, match=r"where\['subject'\]: prefix takes one text, not a list; for any of"
    ):
        Service("audit").on("order.*", where={"subject": {"prefix": ("user/", "customer/")}})(_handler)


async def _handler() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "options",
    [
        {"retries": "3"},
        {"retries": -1},
        {"retries": True},
        {"timeout": "30s"},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"expires": 0.0},
        {"keep": {}},
        {"priority": "high"},
        {"priority": 10},
    ],
)
def test_options_of_the_wrong_kind_are_refused(options):
    with pytest.raises(InvalidManifest):
        check(Manifest("audit", subscriptions=(wants("order.*", **options),)))


GOOD_ONE = {"service": "audit", "task": "audit.record", "type": "order.placed"}


@pytest.mark.parametrize(
    "stored",
    [
        {"where": None},
        {"where": {"subject": {"prefix": ["user/"]}}},
        {"type": 5},
        {"type": None},
        {"task": ["audit.record"]},
        {"service": {}},
        {"timeout": "soon"},
        {"priority": 10**30},
    ],
)
def test_a_broken_stored_manifest_is_an_invalid_manifest_and_nothing_else(stored):
    raw = json.dumps({"service": "audit", "subscriptions": [GOOD_ONE | stored]}).encode()

    with pytest.raises(InvalidManifest):
        Manifest.from_json(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"null", b'{"service":"audit","subscriptions":[7]}', b"[" * 3000]
)
def test_what_is_no_manifest_at_all_is_an_invalid_manifest(raw):
    with pytest.raises(InvalidManifest):
        Manifest.from_json(raw)


def test_a_filter_that_raises_all_the_same_does_not_fit_and_the_others_are_asked():
    class Raising(dict[str, Any]):
        def items(self):
            raise RuntimeError("who would have thought")

    broken = Subscription("mail", "mail.send", "order.line.added", Raising({"subject": "x"}))
    manifests = [
        Manifest("mail", subscriptions=(broken,)),
        Manifest("audit", subscriptions=(wants("order.*"),)),
    ]

    assert [d.subscription.task for d in Routes(manifests).plan(EVENT)] == ["audit.record"]
    assert [d.subscription.task for d in plan(EVENT, [broken, wants("*")])] == ["audit.record"]


def test_a_digit_that_is_no_number_leads_nowhere():
    assert not fits(EVENT, {"data.lines.²": {"exists": True}})


def test_the_same_delivery_is_the_same_task_everywhere_and_for_ever():
    event = envelope.make("order.placed", {}, source="shop", id="1")

    [delivery] = plan(event, [wants("order.placed")])

    assert delivery.task_id == "8138a336-62b8-88d7-8a89-a3a40361d301"
    assert plan(event, [wants("order.*")])[0].task_id == delivery.task_id
    assert (
        names.task_id_before("shop", "1", delivery.subscription.task)
        == "8138a336-62b8-58d7-8a89-a3025c117b17"
    )


def test_an_id_says_of_which_service_its_task_is_and_ids_of_before_are_anybody_s():
    mine, theirs = (names.task_id("shop", "1", f"{service}.record") for service in ("audit", "audit_eu"))

    assert names.is_task_of(mine, "audit")
    assert not names.is_task_of(mine, "audit_eu")
    assert not names.is_task_of(theirs, "audit")
    assert not names.is_task_of("", "audit")
    assert names.is_task_of(names.task_id_before("shop", "1", "audit.record"), "audit_eu")


def test_routes_answer_as_the_plain_plan_does():
    manifests = [
        Manifest("audit", subscriptions=(wants("order.*"),)),
        Manifest("mail", subscriptions=(Subscription("mail", "mail.send", "order.line.added"),)),
    ]

    got = {d.subscription.task for d in Routes(manifests).plan(EVENT)}

    assert got == {d.subscription.task for m in manifests for d in plan(EVENT, m.subscriptions)}


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest("Bad-Name"),
        Manifest("audit", subscriptions=(Subscription("audit", "billing.charge", "order.*"),)),
        Manifest("audit", subscriptions=(Subscription("billing", "audit.record", "order.*"),)),
        Manifest("audit", subscriptions=(wants("order.*"), wants("user.*"))),
        Manifest("audit", subscriptions=(wants("or\nder"),)),
        Manifest("audit", subscriptions=(wants("order.*", where={"data.x": {"like": 1}}),)),
    ],
)
def test_a_manifest_that_asks_for_what_is_not_its_own_is_refused(manifest):
    with pytest.raises(InvalidManifest):
        check(manifest)


def test_a_manifest_comes_back_as_it_was_stored_and_newer_fields_do_no_harm():
    manifest = Manifest(
        "audit", "2", (wants("order.*", where={"data.n": 1}, timeout=3.0),), {"audit.record": {}}
    )

    raw = manifest.to_json()

    assert Manifest.from_json(raw) == manifest
    assert Manifest.from_json(raw.replace(b'"timeout"', b'"from_the_future":1,"timeout"')) == manifest
