"""The HTTP client: publish, follow, wait for the outcome. Needs only the API's URL and a key."""

from streammesh.client.mesh_client import ApiError, MeshClient, Note, Outcome, Sent

__all__ = ["ApiError", "MeshClient", "Note", "Outcome", "Sent"]
