"""What tests of the mesh and of teams need: a private server, a mesh of their own, waiting for conditions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.testing.trial import TrialContext

if TYPE_CHECKING:
    from streammesh.testing.mesh import Mesh
    from streammesh.testing.trial_outcome import TrialOutcome

__all__ = ["Mesh", "TrialContext", "TrialOutcome", "wait_until", "wait_until_sync"]


_LATE = {"Mesh": "mesh", "TrialOutcome": "trial_outcome"}


def __getattr__(name: str) -> Any:
    """The mesh brings Celery along, and is imported when it is first asked for (PEP 562)."""
    if name in _LATE:
        return getattr(import_module(f"streammesh.testing.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
