"""The HTTP client: publish, follow, wait for the outcome. Needs only the API's URL and a key, and no Redis or Celery."""

from streammesh.client.errors import ApiError, ApiUnavailable, InvalidAddress, NotEnded, UnexpectedAnswer
from streammesh.client.mesh_client import MeshClient
from streammesh.client.models import Cancelled, DeadLetter, EventRef, EventState, Schedule, Task, Token
from streammesh.client.outcome import Note, Outcome, OutcomeOf, Sent, State
from streammesh.client.retry import Reconnect
from streammesh.client.sync import SyncMeshClient

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "Cancelled",
    "DeadLetter",
    "EventRef",
    "EventState",
    "InvalidAddress",
    "MeshClient",
    "NotEnded",
    "Note",
    "Outcome",
    "OutcomeOf",
    "Reconnect",
    "Schedule",
    "Sent",
    "State",
    "SyncMeshClient",
    "Task",
    "Token",
    "UnexpectedAnswer",
]
