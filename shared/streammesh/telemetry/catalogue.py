"""Every metric of the mesh. Names end in their unit; counters in `_total`. Nothing else is exposed.

Labels have few values: services, subscriptions and queues that were declared, outcomes, routes. Never an id, an
event's type, or anything else that a stranger chooses.
"""

from __future__ import annotations

from streammesh.telemetry.metrics import DEFINED, Counter, Gauge, Histogram, Metric

STAGE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)

# Every process
READY = Gauge("streammesh_ready", "1 while this part of the process works, as /readyz says", ["part"])

# API
HTTP_REQUESTS = Counter(
    "streammesh_http_requests_total", "Requests that were answered", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "streammesh_http_request_duration_seconds", "From a request's head to its answer's head", ["route"], STAGE
)
EVENTS_PUBLISHED = Counter(
    "streammesh_events_published_total", "Events that came to this API, by what became of them", ["result"]
)
PUSH_STREAMS = Gauge("streammesh_push_streams", "Streams of notifications that are open")
PUSHED = Counter("streammesh_notifications_pushed_total", "Notifications written to streams")

# Dispatcher
HANDED_OVER = Counter(
    "streammesh_events_handed_over_total", "Events that were read for a service", ["service"]
)
DELIVERIES = Counter("streammesh_deliveries_total", "Tasks that events became", ["service"])
PUBLISH_TO_QUEUE = Histogram(
    "streammesh_publish_to_queue_seconds",
    "From an event's place in its stream to its tasks' in the queue; the oldest of each batch",
    ["service"],
    STAGE,
)
PARKED = Counter("streammesh_events_parked_total", "Events that could not be handed over", ["service"])

# Worker
ATTEMPTS = Counter(
    "streammesh_attempts_total",
    "Attempts, by what became of them: succeeded, failed, retrying, cancelled, expired, lost, stopped, ...",
    ["task", "outcome"],
)
QUEUE_TO_RUN = Histogram(
    "streammesh_queue_to_run_seconds", "From a task's place in the queue to its handler", ["task"], STAGE
)
RUN = Histogram(
    "streammesh_run_seconds",
    "How long handlers ran; in prefork children with the claim before and the settlement after",
    ["task"],
    STAGE,
)

# The mesh as a whole; from an API process, asked as it is scraped
DISPATCHERS = Gauge("streammesh_dispatchers", "Dispatchers alive")
BEATS = Gauge("streammesh_beats", "Schedulers alive")
APIS = Gauge("streammesh_apis", "API processes alive")
WORKERS = Gauge("streammesh_workers", "Workers alive", ["service"])
LAG = Gauge("streammesh_lag_events", "Events not handed over to a service yet", ["service"])
QUEUED = Gauge("streammesh_queued_tasks", "Tasks in a service's queues, running ones included", ["service"])
WAITING = Gauge("streammesh_waiting_tasks", "Tasks in a service's queues that no worker has", ["service"])
HELD = Gauge("streammesh_held_tasks", "Tasks set aside while their subscriptions are paused", ["service"])
FLOW_WAITING = Gauge("streammesh_flow_waiting_tasks", "Tasks in line for their turn", ["task"])
FLOW_RUNNING = Gauge("streammesh_flow_running_tasks", "Tasks that have a place of their limits", ["task"])
FLOW_SLOW = Gauge(
    "streammesh_flow_slow_keys",
    "Keys that wait for their rate, or for the end of their quiet period",
    ["task"],
)
FLOW_SKIPPED = Gauge("streammesh_flow_skipped_tasks", "Tasks that ended as skipped so far", ["task"])
FLOW_FOLDED = Gauge("streammesh_flow_folded_tasks", "Tasks that a run of their key took, so far", ["task"])
OLDEST = Gauge("streammesh_oldest_waiting_seconds", "Age of the oldest event or task that waits", ["service"])
DEAD_LETTERS = Gauge("streammesh_dead_letters", "Dead letters kept", ["service"])
PAUSED = Gauge("streammesh_paused_subscriptions", "Subscriptions that are paused", ["task"])
OUTBOX = Gauge(
    "streammesh_outbox_events", "Events that other shards hold for this one, until it takes them", ["shard"]
)
REDIS_MEMORY = Gauge("streammesh_redis_memory_bytes", "Memory that Redis uses")
REDIS_MEMORY_LIMIT = Gauge("streammesh_redis_memory_limit_bytes", "Redis's maxmemory; 0 is none")
REDIS_PING = Gauge("streammesh_redis_ping_seconds", "How long Redis took to answer")
FINDINGS = Gauge("streammesh_findings", "What GET /v1/status says is wrong", ["code", "severity"])


def all_metrics() -> list[Metric]:
    """Return every one, by name."""
    return [DEFINED[name] for name in sorted(DEFINED)]
