"""What handlers return, as JSON: exact, or refused with the name of what is in the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from streammesh import plain_json


@dataclass
class Record:
    n: Any


class Model(BaseModel):
    n: Any


LONG = 10**30


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(-(10**60), 10**60)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
        ),
        max_leaves=15,
    )
)
def test_what_is_written_reads_the_same_to_everybody(value):
    for written in (plain_json.dumps(value), plain_json.dumps_plain(value, sort_keys=True)):
        assert plain_json.loads(written) == json.loads(written) == value


@pytest.mark.parametrize(
    "value", [Record(LONG), Model(n=LONG), [Record([LONG])], {"n": Model(n={"x": LONG})}, (LONG,)]
)
def test_long_integers_in_what_counts_as_data_stay_whole(value):
    assert str(LONG).encode() in plain_json.dumps(value)


def test_what_counts_as_data_beside_a_long_integer_is_written_as_ever():
    value = {"a": Decimal("1.10"), "b": {1}, 3: None, LONG: Record(-LONG)}

    assert plain_json.loads(plain_json.dumps(value)) == {
        "a": "1.10",
        "b": [1],
        "3": None,
        str(LONG): {"n": -LONG},
    }


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"a": Record(float("-inf"))}, Model(n=float("nan")), {float("nan")}],
)
def test_nan_and_infinities_are_no_null(value):
    with pytest.raises(TypeError, match="is not JSON"):
        plain_json.dumps(value)


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"\udfff": 1}, object(), 1 << 20_000],
    ids=["half", "half in a name", "object", "long"],
)
def test_what_no_client_could_read_is_refused(value):
    with pytest.raises(TypeError):
        plain_json.dumps(value)


def test_a_result_may_be_nested_as_deep_as_readers_can_take_it():
    def nested(levels: int) -> list[Any]:
        return [] if levels == 1 else [nested(levels - 1)]

    assert plain_json.dumps(nested(plain_json.DEEPEST))
    for levels in (plain_json.DEEPEST + 1, 500):
        with pytest.raises(TypeError):
            plain_json.dumps(nested(levels))


STRUCTURES = st.recursive(
    st.none() | st.integers(0, 99) | st.text('[]{},:"\\\n\u00e9x', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{},"\\x', max_size=3), inner, max_size=3)
    ),
    max_leaves=25,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def weight(value: Any) -> int:
    """Commas and opening brackets."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(0, len(inner) - 1) + sum(map(weight, inner))


@given(STRUCTURES, st.booleans())
def test_depth_and_number_of_values_are_found_without_parsing(value, spaced):
    text = json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced).encode()

    deep, many = depth(value), weight(value)
    assert plain_json.is_deeper(text, deep) is False
    assert deep == 0 or plain_json.is_deeper(text, deep - 1) is True
    assert plain_json.is_crowded(text, many) is False
    assert many == 0 or plain_json.is_crowded(text, many - 1) is True
