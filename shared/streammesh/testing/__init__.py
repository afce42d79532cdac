"""What tests of the mesh and of teams need: a private server, a mesh of their own, waiting for conditions."""

from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.testing.trial import TrialContext

__all__ = ["TrialContext", "wait_until", "wait_until_sync"]
