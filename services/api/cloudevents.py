"""CloudEvents 1.0 in its JSON format, as models: what publishers may send, and what is told of an event.

Publishing checks events without them, since that is its hot path (see `streammesh.events.validation`); a test holds
that these models take whatever is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_serializer
from pydantic.config import JsonDict
from streammesh.events.envelope import MAX_BATCH
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH

from services.api.schemas import EXAMPLE_EVENT

_TIME: JsonDict = {"format": "date-time"}
Text = Annotated[str, Field(max_length=MAX_ATTRIBUTE)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]
Extension = Text | int | bool  # what publishing takes in any extension attribute


class PlainEvent(BaseModel):
    """An event whose `id`, `source` (your key's name) and `time` are filled in where they are missing.

    Members that are not named here are extension attributes. Of an attribute `null` means that it is not set; of `data`
    it is the data.
    """

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, str | int | bool | None]

    specversion: Literal["1.0"] | None = None
    id: Name | None = Field(None, description="Unique per source.")
    source: Name | None = Field(None, description="URI reference; who says it.")
    type: str = Field(
        min_length=1,
        max_length=TYPE_LENGTH,
        description="A past-tense fact; lower-case words joined by dots are the advice. The first word is the domain.",
    )
    subject: Text | None = None
    time: Text | None = Field(None, json_schema_extra=_TIME)
    datacontenttype: Text | None = None
    dataschema: Text | None = None
    data: Any = Field(None, description="Any JSON.")
    data_base64: str | None = Field(None, json_schema_extra={"contentEncoding": "base64"})
    deliverat: Text | None = Field(None, description="Hold it until then.", json_schema_extra=_TIME)
    expirytime: Text | None = Field(
        None, description="Start nothing for it after this.", json_schema_extra=_TIME
    )
    priority: int | None = Field(None, ge=0, le=9, description="0 (low) to 9 (high); 5 where it is not set.")
    partitionkey: Extension | None = None
    correlationid: Extension | None = None
    causationid: Extension | None = None
    traceparent: Extension | None = None
    tracestate: Extension | None = None

    @model_serializer(mode="wrap")
    def _as_it_is(self, write: Callable[[Any], dict[str, Any]]):  # type: ignore[no-untyped-def]  # else it is the schema
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class CloudEvent(PlainEvent):
    """CloudEvents 1.0, JSON event format. Members that are not named here are extension attributes."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_EVENT]})

    specversion: Literal["1.0"]
    id: Name = Field(description="Unique per source.")
    source: Name = Field(description="URI reference; who says it.")


class CloudEventBatch(RootModel[list[CloudEvent]]):
    """CloudEvents 1.0, JSON batch format: all events, or none."""

    root: list[CloudEvent] = Field(max_length=MAX_BATCH)
