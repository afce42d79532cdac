"""The HTTP client: publish, follow, wait for the outcome. Needs only the API's URL and a key, and no Redis or Celery."""

from streammesh.client.errors import ApiError, ApiUnavailable, InvalidAddress, NotEnded, UnexpectedAnswer
from streammesh.client.mesh_client import MeshClient
from streammesh.client.models import (
    Cancelled,
    DeadLetterInfo,
    EventIdentity,
    EventInfo,
    ScheduleInfo,
    StreamChunk,
    TaskInfo,
    TokenInfo,
)
from streammesh.client.outcome import Note, Outcome, OutcomeOf, Sent, State
from streammesh.client.retry import Reconnect
from streammesh.client.sync import SyncMeshClient
from streammesh.client.webhook_models import (
    NewWebhookSecret,
    WebhookAttempt,
    WebhookChanges,
    WebhookDeliveries,
    WebhookInfo,
)

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "Cancelled",
    "DeadLetterInfo",
    "EventIdentity",
    "EventInfo",
    "InvalidAddress",
    "MeshClient",
    "NewWebhookSecret",
    "NotEnded",
    "Note",
    "Outcome",
    "OutcomeOf",
    "Reconnect",
    "ScheduleInfo",
    "Sent",
    "State",
    "StreamChunk",
    "SyncMeshClient",
    "TaskInfo",
    "TokenInfo",
    "UnexpectedAnswer",
    "WebhookAttempt",
    "WebhookChanges",
    "WebhookDeliveries",
    "WebhookInfo",
]
