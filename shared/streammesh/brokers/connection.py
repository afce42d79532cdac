"""Which broker Celery is connected to: the mesh's own streams, or another that `MESH_BROKER_URL` names."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from streammesh.keys import PRIORITY, Keys
from streammesh.redisio.client import tls_options
from streammesh.redisio.pools import broker_url
from streammesh.settings import MeshSettings

HIGHEST_PRIORITY = 9


def stream_broker(settings: MeshSettings) -> dict[str, Any]:
    """Streams in the mesh's Redis."""
    tls = settings.redis_url.startswith("rediss")
    return {
        "broker_url": broker_url(settings.redis_url),
        "broker_transport_options": broker_options(settings),
        "broker_use_ssl": tls_options(settings) if tls else None,
    }


def broker_options(settings: MeshSettings) -> dict[str, Any]:
    """Options of the stream transport."""
    return {
        "namespace": settings.namespace,
        "lease_seconds": settings.lease.total_seconds(),
        "dead_letters_kept": settings.dead_letters_kept,
        "socket_connect_timeout": settings.redis_timeout.total_seconds(),
        "socket_timeout": settings.redis_timeout.total_seconds() + 5,  # longer than a blocking read waits
        "socket_keepalive": True,
        "health_check_interval": 5,
        "client_name": "streammesh-broker",
    }


def other_broker(settings: MeshSettings) -> dict[str, Any]:
    """RabbitMQ, or Celery's own list transport."""
    assert settings.broker_url is not None
    if settings.broker_url.startswith("amqp"):
        return {
            "broker_url": settings.broker_url,
            "broker_transport_options": {"confirm_publish": True},
            "broker_use_ssl": _amqp_tls(settings) if settings.broker_url.startswith("amqps") else None,
            "broker_heartbeat": 10,
            "task_queue_max_priority": HIGHEST_PRIORITY,
            "task_default_priority": PRIORITY,  # RabbitMQ takes the lack of one for the lowest
        }
    tls: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    if settings.broker_tls_ca:
        tls["ssl_ca_certs"] = str(settings.broker_tls_ca)
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": {
            "global_keyprefix": Keys(settings.namespace).list_transport(),
            "socket_connect_timeout": settings.redis_timeout.total_seconds(),
            "socket_timeout": settings.redis_timeout.total_seconds() + 5,  # longer than a blocking read waits
            "socket_keepalive": True,
            "health_check_interval": 5,
            "client_name": "streammesh-broker",
        },
        "broker_use_ssl": tls if settings.broker_url.startswith("rediss") else None,
    }


def _amqp_tls(settings: MeshSettings) -> dict[str, Any]:
    # kombu would fill the name in after it has made an address of `localhost`.
    host = urlsplit(settings.broker_url or "").hostname
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host}
    if settings.broker_tls_ca:
        options["ca_certs"] = str(settings.broker_tls_ca)
    return options
