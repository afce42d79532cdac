"""What log lines of background tasks carry."""

from __future__ import annotations

from contextvars import Context, copy_context

import structlog


def without_request() -> Context:
    """Return the context for a task that outlives the request that started it: its logs carry no request id."""
    context = copy_context()
    context.run(structlog.contextvars.unbind_contextvars, "request_id")
    return context
