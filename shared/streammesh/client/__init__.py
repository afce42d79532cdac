"""The HTTP client: publish, follow, wait for the outcome. Needs only the API's URL and a key."""

from streammesh.client.errors import ApiError, InvalidAddress, NotEnded, UnexpectedAnswer
from streammesh.client.mesh_client import MeshClient, Reconnect
from streammesh.client.outcome import Note, Outcome, OutcomeOf, Sent, State

__all__ = [
    "ApiError",
    "InvalidAddress",
    "MeshClient",
    "NotEnded",
    "Note",
    "Outcome",
    "OutcomeOf",
    "Reconnect",
    "Sent",
    "State",
    "UnexpectedAnswer",
]
