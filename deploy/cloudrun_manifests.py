"""Writes the files for Cloud Run from the table of what runs: the API as a service, every other process as a worker pool.

python -m deploy.cloudrun_manifests              # writes deploy/cloudrun/
gcloud run services replace deploy/cloudrun/api.yaml --region REGION
gcloud run worker-pools replace deploy/cloudrun/dispatcher.yaml --region REGION

What a service's file may hold: https://cloud.google.com/run/docs/reference/yaml/v1.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from deploy.kubernetes_manifests import HEALTH_PORT, PROCESSES, Document, Process

FOLDER = Path(__file__).parent / "cloudrun"
GENERATED = (
    "# Made by `python -m deploy.cloudrun_manifests`. Put your PROJECT, REGION, network and subnet in, "
    "and make the secrets.\n"
)
REGISTRY = "REGION-docker.pkg.dev/PROJECT/mesh"
NETWORK = {"network": "default", "subnetwork": "default"}
DRAIN = "8s"  # Cloud Run gives ten seconds between SIGTERM and SIGKILL
LEFT_OUT = ("ALERT_WEBHOOK_URL",)  # a secret that is named has to be there


def secret_name(variable: str) -> str:
    """Return the name of the secret that holds a variable: `mesh-redis-url` for MESH_REDIS_URL."""
    return "mesh-" + variable.lower().replace("_", "-").removeprefix("mesh-")


def _secret(variable: str) -> Document:
    return {
        "name": variable,
        "valueFrom": {"secretKeyRef": {"name": secret_name(variable), "key": "latest"}},
    }


def _probe(port: int, **times: int) -> Document:
    return {"httpGet": {"path": "/livez", "port": port}, **times}


def container(process: Process) -> Document:
    """The one container of a process: settings, secrets, limits, and probes that never ask Redis."""
    plain = {"MESH_LOG_FORMAT": "json", "MESH_DRAIN": DRAIN, **process.env}
    if process.name == "api":
        plain["API_DRAIN"] = DRAIN
    port = process.port or HEALTH_PORT
    secrets = [name for name in ("MESH_REDIS_URL", *process.secrets) if name not in LEFT_OUT]
    made: Document = {"image": f"{REGISTRY}/{process.name}"}
    if process.port:
        made["ports"] = [{"containerPort": process.port}]
    return {
        **made,
        "env": [*({"name": name, "value": value} for name, value in plain.items()), *map(_secret, secrets)],
        "resources": {"limits": {"cpu": "1", "memory": process.memory[1]}},
        "startupProbe": _probe(port, periodSeconds=5, timeoutSeconds=4, failureThreshold=24),
        "livenessProbe": _probe(port, periodSeconds=10, timeoutSeconds=4, failureThreshold=3),
    }


def _inside() -> Document:
    """How Redis and the history are reached: by the network's own addresses, everything else directly."""
    return {
        "run.googleapis.com/network-interfaces": json.dumps([NETWORK]),
        "run.googleapis.com/vpc-access-egress": "private-ranges-only",
    }


def service(process: Process) -> Document:
    """What answers requests: streams are as long as Cloud Run allows, and it works between requests, too."""
    scale = {
        "autoscaling.knative.dev/minScale": "1",
        "autoscaling.knative.dev/maxScale": "10",
        "run.googleapis.com/cpu-throttling": "false",
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": f"mesh-{process.pod}",
            "annotations": {"run.googleapis.com/ingress": "all"},
        },
        "spec": {
            "template": {
                "metadata": {"annotations": {**scale, **_inside()}},
                "spec": {
                    "containerConcurrency": 1000,
                    "timeoutSeconds": 3600,
                    "containers": [container(process)],
                },
            }
        },
    }


def worker_pool(process: Process) -> Document:
    """What takes its work from Redis: as many as are said, since pools do not scale by themselves."""
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "WorkerPool",
        "metadata": {
            "name": f"mesh-{process.pod}",
            "annotations": {
                "run.googleapis.com/scalingMode": "manual",
                "run.googleapis.com/manualInstanceCount": str(process.replicas),
            },
        },
        "spec": {
            "template": {
                "metadata": {"annotations": _inside()},
                "spec": {"containers": [container(process)]},
            }
        },
    }


def files() -> dict[str, str]:
    """Return every file's text by its name."""
    return {
        f"{process.pod}.yaml": GENERATED
        + yaml.safe_dump(
            service(process) if process.port else worker_pool(process), sort_keys=False, width=120
        )
        for process in PROCESSES
    }


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
