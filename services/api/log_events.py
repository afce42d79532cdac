"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "api.admin_key_was_revoked": "API_ADMIN_KEY was revoked and is worth nothing.",
    "api.cannot_start": "The API cannot start as it is configured.",
    "api.few_open_files": "The system allows fewer connections than the settings ask for.",
    "api.listening": "The API takes requests.",
    "api_key.broken": "What is stored of a key cannot be read; the key is refused.",
    "api_keys.watch_failed": "The look for revoked keys of open streams failed; the next one tries again.",
    "api_keys.were_lost": "All keys had gone from Redis; the operator's own was brought back.",
    "approval.answered": "Somebody answered a handler's question at its one-time address.",
    "audit.outcome_not_noted": "What came of an operator's action could not be noted; its beginning was.",
    "chunk.broken": "What lies in a stream of a task is no chunk; it is stepped over.",
    "chunks.bell_failed": "Hearing of tasks' streams failed in a way that is not foreseen; it is begun anew.",
    "chunks.bell_waits": "Tasks' streams cannot be heard of while Redis is away; who follows looks now and then.",
    "http.client_gone": "A client went before it had its answer.",
    "http.cut_off": "A request was cut off since the time to stop was over.",
    "http.failed": "A request failed by a fault of the API; it was answered with 500.",
    "http.request": "A request was answered (only with API_ACCESS_LOG).",
    "notifications.missed": "Notifications were trimmed or lost before they were read; followers are told to resync.",
    "notifications.past_failed": "Telling a client what it missed failed in a way that is not foreseen; it is cut off, and may resume.",
    "notifications.reader_failed": "Reading notifications failed in a way that is not foreseen; it goes on.",
    "notifications.reader_waits": "Notifications cannot be read while Redis is away.",
    "record.unreadable": "A record that is shown cannot be read as what it should be, and is left out.",
    "report_store.failed": "The store of reports cannot be reached.",
}
