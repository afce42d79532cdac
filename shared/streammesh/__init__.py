"""streammesh: services say what happened; the right workers run; whoever waits is told."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streammesh.extras import what_to_install

__version__ = "0.1.0"  # of both distributions, of the API and of what a service says of itself

if TYPE_CHECKING:
    from streammesh.errors import (
        Fail,
        Failed,
        InvalidEvent,
        LeaseLost,
        MeshError,
        MeshUnavailable,
        Reject,
        Retry,
    )
    from streammesh.events.envelope import Event
    from streammesh.events.publisher import Publisher, SyncPublisher
    from streammesh.keys import Keys
    from streammesh.pipeline_publisher import PipelinePublisher
    from streammesh.service import Service
    from streammesh.settings import MeshSettings
    from streammesh.tasks.context import Context

_PUBLIC = {
    "Context": "tasks.context",
    "Event": "events.envelope",
    "Fail": "errors",
    "Failed": "errors",
    "InvalidEvent": "errors",
    "Keys": "keys",
    "LeaseLost": "errors",
    "MeshError": "errors",
    "MeshSettings": "settings",
    "MeshUnavailable": "errors",
    "PipelinePublisher": "pipeline_publisher",
    "Publisher": "events.publisher",
    "Reject": "errors",
    "Retry": "errors",
    "Service": "service",
    "SyncPublisher": "events.publisher",
}

__all__ = [
    "Context", "Event", "Fail", "Failed", "InvalidEvent", "Keys", "LeaseLost", "MeshError", "MeshSettings", "MeshUnavailable",
    "PipelinePublisher", "Publisher", "Reject", "Retry", "Service", "SyncPublisher",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are brought in at first use, so that a client of the API need not have Celery (PEP 562)."""
    if name in _PUBLIC:
        try:
            return getattr(import_module(f"streammesh.{_PUBLIC[name]}"), name)
        except ModuleNotFoundError as error:
            if said := what_to_install(f"streammesh.{name}", error):
                raise ModuleNotFoundError(said, name=error.name) from error
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
