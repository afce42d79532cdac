"""The shared Celery configuration: what every service's app is set to."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from celery.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from streammesh import names
from streammesh.brokers.connection import other_broker, stream_broker
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.transport import wire_json

PoolKind = Literal["async", "prefork", "threads", "solo"]
POOLS = {
    "async": "streammesh.worker.async_pool:TaskPool",
    "prefork": "streammesh.worker.prefork_pool:TaskPool",
    "threads": "streammesh.worker.threads_pool:TaskPool",
}
CONCURRENCY = {"async": 200, "threads": 32}  # of other pools Celery decides
SCHEDULER = "streammesh.worker.beat:MeshScheduler"
BACKENDS = "streammesh.worker.result_backend"


def celery_config(service: str, settings: MeshSettings) -> dict[str, Any]:
    """Every setting that differs from Celery's own defaults, with its reason."""
    wire_json.install()
    return {
        # Where it runs
        **(other_broker(settings) if settings.broker_url else stream_broker(settings)),
        # How long Redis may be away while a workflow goes from part to part: about 18 s
        "broker_connection_timeout": 2,
        "task_publish_retry_policy": {"max_retries": 20, "interval_start": 0.1, "interval_max": 1.0},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the default gives up after 100 tries and the worker exits
        "broker_channel_error_retry": True,  # nothing that Redis may answer ends a worker
        **results_in(settings),
        "result_backend_always_retry": True,
        "result_expires": settings.result_ttl,
        "redis_socket_timeout": settings.redis_timeout.total_seconds(),
        # Nothing but JSON
        "task_serializer": wire_json.NAME,
        "result_serializer": wire_json.NAME,
        "event_serializer": wire_json.NAME,
        "accept_content": [wire_json.NAME, "json", wire_json.EVENT_NAME],
        # One queue, the service's own
        "task_default_queue": service,
        "task_default_exchange": "",
        "task_default_routing_key": service,
        "task_create_missing_queues": True,
        # A task belongs to Redis until it has ended
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,  # the ledger decides what follows, not the broker
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # leases hold; True loses tasks
        "worker_deduplicate_successful_tasks": False,  # the ledger does
        "task_inherit_parent_priority": True,  # what a task sends is as urgent as it is, if it does not say otherwise
        "task_track_started": False,  # so does the ledger
        "task_allow_error_cb_on_chord_header": True,  # a chord fails with the reason of its part
        # The worker's manners
        "worker_consumer": "streammesh.worker.consumer:MeshConsumer",  # drops nothing that it does not know
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_scheduler": SCHEDULER,
        "worker_send_task_events": False,  # half the throughput; Flower can turn them on
        "task_send_sent_event": False,
        "worker_proc_alive_timeout": 30,
        "enable_utc": True,
        "timezone": "UTC",
    }


def pool_config(pool: PoolKind, settings: MeshSettings) -> dict[str, Any]:
    """What a service's worker runs its tasks with, also where `celery worker` starts it."""
    return {
        "worker_pool": POOLS.get(pool, pool),
        "worker_concurrency": settings.concurrency or CONCURRENCY.get(pool),
        # KiB; a pool's child that is larger after a task is replaced by a new one
        "worker_max_memory_per_child": settings.max_memory_per_child * 1024 or None,
    }


def queue_config(service: str, further: Sequence[str]) -> dict[str, Any]:
    """The queues of a service that has more than its own. Each is known to Celery by its short name too."""
    if not further:
        return {}
    short = (names.DEFAULT_QUEUE, *further)
    full = {one: names.queue_of(service, one) for one in short}
    return {
        "task_queues": [Queue(full[one], Exchange(""), routing_key=full[one], alias=one) for one in short]
    }


def results_in(settings: MeshSettings) -> dict[str, Any]:
    """Where Celery keeps its results. Raises ImproperlyConfigured where what that needs is not installed."""
    if settings.result_url is None:  # no URL in the name: Celery would take its password apart anew
        return {
            "result_backend": f"{BACKENDS}:MeshBackend",
            "result_backend_transport_options": result_options(settings),
        }
    if not all(find_spec(name) for name in ("sqlalchemy", "psycopg")):
        raise ImproperlyConfigured("MESH_RESULT_URL: PostgreSQL needs `pip install 'streammesh[postgres]'`")
    return {
        "result_backend": "streammesh.worker.database_results:DatabaseResults",
        "database_url": settings.result_url.replace("postgresql://", "postgresql+psycopg://", 1),
        "database_engine_options": {
            "pool_pre_ping": True,
            "pool_recycle": 3600,
            "connect_args": {"connect_timeout": 5, "application_name": "streammesh"},
        },
    }


def result_options(settings: MeshSettings) -> dict[str, Any]:
    """Options of the result backend: every key below the mesh's own prefix."""
    return {"global_keyprefix": f"{Keys(settings.namespace).prefix}result:"}
