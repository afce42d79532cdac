"""The models of an event beside the checks of the publishing path: what one stores, the others take and tell alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from streammesh.errors import InvalidEvent
from streammesh.events import envelope

from services.api.cloudevents import CloudEvent, PlainEvent
from services.api.schemas import EXAMPLE_EVENT

ODD = st.none() | st.booleans() | st.integers(-5, 12) | st.text(max_size=3) | st.just("2030-01-01T09:00:00Z")
NAMES = st.sampled_from(
    [*PlainEvent.model_fields, "vendor", "comexampleextension1", "Bad", "with_underscore", ""]
)
SOUND = {"specversion": "1.0", "id": "1", "source": "shop", "type": "order.placed"}


@given(st.dictionaries(NAMES, ODD, max_size=4))
def test_what_publishing_takes_the_models_take_and_tell_as_it_is(more):
    sent: dict[str, Any] = {**SOUND, **more}
    try:
        stored = envelope.from_dict(dict(sent)).to_dict()
    except InvalidEvent:
        return
    PlainEvent.model_validate(sent)
    told = CloudEvent.model_validate(stored).model_dump_json()
    assert json.loads(told) == stored


@pytest.mark.parametrize(
    "wrong",
    [
        *({"specversion": "0.3"}, {"id": ""}, {"type": "x" * 300}, {"type": 5}, {"priority": 10}),
        *({"priority": True}, {"vendor": {"a": 1}}, {"vendor": 1.5}, {"subject": "x" * 1_025}),
    ],
)
def test_what_the_models_refuse_publishing_refuses(wrong):
    with pytest.raises(ValidationError):
        CloudEvent.model_validate({**SOUND, **wrong})
    with pytest.raises(InvalidEvent):
        envelope.from_dict({**SOUND, **wrong})


def test_data_that_is_null_is_told_and_data_that_is_not_there_is_not():
    there = CloudEvent.model_validate({**EXAMPLE_EVENT, "data": None}).model_dump()
    absent = CloudEvent.model_validate({n: v for n, v in EXAMPLE_EVENT.items() if n != "data"}).model_dump()
    assert there["data"] is None and "data" not in absent
