"""What breaks between who publishes and who reads, told by their schemas."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter
from streammesh.compatibility.schemas import DEEPEST, breaks


class Line(BaseModel):
    sku: str
    pieces: int = 1


class Order(BaseModel):
    id: int
    total: float
    currency: Literal["EUR", "USD"]
    note: str | None = None
    lines: list[Line] = []
    parent: Order | None = None


def written(model: Any) -> Any:
    return TypeAdapter(model).json_schema(mode="serialization")


def read(model: Any) -> Any:
    return TypeAdapter(model).json_schema()


def test_a_model_reads_what_it_writes_and_so_does_one_that_asks_for_less():
    class Less(BaseModel):
        id: int
        total: float | str

    assert breaks(written(Order), read(Order)) == []
    assert breaks(written(Order), read(Less)) == []
    assert breaks(written(Order), {}) == breaks({}, {}) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"required": ["vat"]}, "/vat is required by who reads, and is not published"),
        ({"properties": {"total": {"type": "integer"}}}, "/total may be number, and integer is read"),
        ({"properties": {"note": {"type": "string"}}}, "/note may be null, and string is read"),
        ({"properties": {"currency": {"enum": ["EUR"]}}}, "/currency may be 'USD', and only 'EUR' is read"),
        ({"properties": {"id": {"enum": [1]}}}, "/id may be any value, and only 1 is read"),
        (
            {"properties": {"lines": {"items": {"required": ["sku", "price"]}}}},
            "/lines/*/price is required by who reads, and is not published",
        ),
        ({"type": "array"}, "/ may be object, and array is read"),
        ({"anyOf": [{"type": "string"}, {"required": ["vat"]}]}, "/ may be object, and string is read"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"required": ["vat"]}}}, "/vat is required by who reads, and is not published"),
        ({"properties": {"id": {}}, "additionalProperties": False}, "/total is published, and who reads allows no further members"),
    ],
)  # fmt: skip
def test_what_is_demanded_and_not_promised_is_a_break(wanted, told):
    assert told in breaks(written(Order), wanted)


def test_what_may_be_left_out_is_not_there_for_who_requires_it():
    optional = {"type": "object", "properties": {"a": {"type": "string"}}}

    assert breaks(optional, {**optional, "required": ["a"]}) == [
        "/a is required by who reads, and may be left out"
    ]


@pytest.mark.parametrize(
    "garbage",
    [None, 5, [], {"$ref": "#"}, {"$ref": 5}, {"$ref": "http://x/y"}, {"properties": 5, "required": None}, {"type": [5]}],
)  # fmt: skip
def test_garbage_breaks_nothing(garbage):
    breaks(garbage, garbage)
    breaks(written(Order), garbage)
    breaks(garbage, read(Order))


def test_what_is_nested_for_ever_is_compared_so_far():
    endless: dict[str, Any] = {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"}
    deep: dict[str, Any] = {}
    for _ in range(DEEPEST * 4):
        deep = {"anyOf": [{"type": "object", "properties": {"a": deep}}] * 3}

    assert breaks(endless, endless) == []
    breaks(deep, endless)
    breaks(deep, deep)
