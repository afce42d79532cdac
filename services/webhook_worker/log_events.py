"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "owners.away": "The shard that has the API keys is away; what its webhooks may be told is as it last was.",
    "url_worker.ended": "The process of a service whose worker is a URL ended by itself; it is started again.",
    "url_worker.refused": "The API key that made a service with a URL is gone, or may not be told of all that the service"
    " wants, or its secret is sealed with a key that is not there; nothing is sent, and its tasks wait.",
    "url_worker.started": "A process for a service whose worker is a URL was started.",
    "webhook.disabled": "A webhook does not work, and is told nothing until somebody enables it again.",
    "webhook.missed": "Notifications that a webhook has not read yet are not kept any more.",
    "webhook.turn_broke": "A turn of a webhook failed here; its deliveries are tried again.",
    "webhooks.full": "As many deliveries wait for a webhook as may; it reads the rest later.",
    "webhooks.missed": "Notifications that no webhook has been told yet are not kept any more.",
    "webhooks.ready": "The webhook worker delivers.",
    "webhooks.stopped": "The webhook worker has ended.",
}
