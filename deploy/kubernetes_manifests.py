"""Writes the Kubernetes manifests from one table of what runs: kustomize's base, an overlay that scales on what waits, and
one for a mesh of several shards.

python -m deploy.kubernetes_manifests                # writes deploy/kubernetes/
python -m deploy.kubernetes_manifests --shards 5     # the overlay `shards` for five
kubectl apply -k deploy/kubernetes/base
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "kubernetes"
HEALTH_PORT = 8090
USER = 10001
DRAIN_SECONDS = 20  # MESH_DRAIN; a pod is given ten more
GENERATED = "# Made by `python -m deploy.kubernetes_manifests`; change that, or patch it in an overlay.\n"
SHARDS = 3  # of the overlay that lies here
PROMETHEUS = "http://prometheus.monitoring.svc:9090"
Document = dict[str, Any]


@dataclass(frozen=True)
class Process:
    """One kind of process. Memory is asked for at about twice of what one holds idle, docs/performance.md, and bounded."""

    name: str  # of its folder in services/
    replicas: int
    cpu: str
    memory: tuple[str, str]  # asked for, and at most
    secrets: tuple[str, ...] = ()  # variables beside the address of Redis
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0  # that others reach it at
    reaches_world: bool = False  # beside Redis and the history
    scales: bool = False  # on what waits for it, in the overlay `keda`
    is_per_shard: bool = True  # a parent with a process for each shard; else one process serves all

    @property
    def pod(self) -> str:
        """Its name in Kubernetes."""
        return self.name.replace("_", "-")


PROCESSES = (
    Process(
        "api",
        2,
        "250m",
        ("192Mi", "512Mi"),
        ("API_ADMIN_KEY", "MESH_HISTORY_URL", "REPORT_STORE_URL", "WEBHOOK_SECRET_KEYS"),
        {"API_HOST": "0.0.0.0", "API_PORT": "8000"},
        port=8000,
        reaches_world=True,
        is_per_shard=False,
    ),
    Process("dispatcher", 2, "250m", ("128Mi", "512Mi"), ("MESH_HISTORY_URL",)),
    Process("archiver", 1, "100m", ("128Mi", "512Mi"), ("MESH_HISTORY_URL",)),
    Process(
        "scheduler",
        2,
        "50m",
        ("160Mi", "512Mi"),
        ("ALERT_WEBHOOK_URL",),
        reaches_world=True,
        is_per_shard=False,
    ),
    Process(
        "webhook_worker",
        2,
        "100m",
        ("192Mi", "1Gi"),  # a child of about 80 MB for each service that is a URL
        ("WEBHOOK_SECRET_KEYS",),
        reaches_world=True,
    ),
    Process(
        "email_worker",
        2,
        "100m",
        ("192Mi", "512Mi"),
        ("EMAIL_SMTP_URL", "REPORT_STORE_URL"),
        reaches_world=True,
        scales=True,
    ),
    Process(
        "report_worker",
        2,
        "250m",
        ("384Mi", "2Gi"),
        ("MESH_HISTORY_URL", "REPORT_STORE_URL"),
        reaches_world=True,
        scales=True,
    ),
)
OPTIONAL = ("ALERT_WEBHOOK_URL", "MESH_HISTORY_URL", "WEBHOOK_SECRET_KEYS")  # a process starts without them


def _meta(name: str, part: str) -> Document:
    labels = {"app.kubernetes.io/name": part, "app.kubernetes.io/part-of": "streammesh"}
    return {"name": name, "labels": labels}


def _select(part: str) -> Document:
    return {"matchLabels": {"app.kubernetes.io/name": part, "app.kubernetes.io/part-of": "streammesh"}}


def _secret(variable: str) -> Document:
    reference = {"name": "streammesh", "key": variable, "optional": variable in OPTIONAL}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _probe(path: str, **times: int) -> Document:
    return {"httpGet": {"path": path, "port": "health"}, **times}


def deployment(process: Process) -> Document:
    """The pods of one kind of process: unprivileged, with a root they cannot write to, and probes that tell the truth."""
    own = [{"name": name, "value": value} for name, value in process.env.items()]
    ports = [{"name": "health", "containerPort": HEALTH_PORT}]
    if process.port:
        ports.insert(0, {"name": "http", "containerPort": process.port})
    container: Document = {
        "name": process.pod,
        "image": f"streammesh/{process.name}",
        "envFrom": [{"configMapRef": {"name": "streammesh"}}],
        "env": [*own, *map(_secret, ("MESH_REDIS_URL", *process.secrets))],
        "ports": ports,
        # Ready: it can do its own work. Alive: its loop turns; it never asks Redis, so no restart mends Redis.
        "startupProbe": _probe("/livez", periodSeconds=2, failureThreshold=60),
        "readinessProbe": _probe("/readyz", periodSeconds=5, timeoutSeconds=4, failureThreshold=2),
        "livenessProbe": _probe("/livez", periodSeconds=10, timeoutSeconds=4, failureThreshold=3),
        "resources": {
            "requests": {"cpu": process.cpu, "memory": process.memory[0]},
            "limits": {"memory": process.memory[1]},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": _select(process.pod),
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
    }
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(HEALTH_PORT)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(process.pod, process.pod),
        "spec": {
            "replicas": process.replicas,
            "selector": _select(process.pod),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": _meta("", process.pod)["labels"], "annotations": annotations},
                "spec": pod,
            },
        },
    }


def disruption_budget(process: Process) -> Document:
    """A drained node takes one of them at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(process.pod, process.pod),
        "spec": {"maxUnavailable": 1, "selector": _select(process.pod)},
    }


def service(process: Process) -> Document:
    """Where others reach it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(process.pod, process.pod),
        "spec": {
            "selector": _select(process.pod)["matchLabels"],
            "ports": [{"name": "http", "port": process.port, "targetPort": "http"}],
        },
    }


def network_policy(process: Process) -> Document:
    """Who may reach it: scrapers, and of the API everybody; whom it may reach: names, Redis, the history, what it must."""
    scraped = {"ports": [{"port": HEALTH_PORT}]}
    come_in: list[Document] = [scraped]
    if process.port:
        come_in.append({"ports": [{"port": process.port}]})
    names = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    stores = {"ports": [{"port": 6379}, {"port": 26379}, {"port": 5432}, {"port": 4318}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(process.pod, process.pod),
        "spec": {
            "podSelector": _select(process.pod),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": come_in,
            "egress": [{}] if process.reaches_world else [names, stores],
        },
    }


def scaled_object(process: Process) -> Document:
    """KEDA: as many as what waits wants, none where nothing does. Prometheus knows it from the dispatchers."""
    name = process.name
    # Every dispatcher says the same; of one with several shards each process says what waits in its own.
    waits, lags = (
        f'sum(max by (process) ({metric}{{service="{name}"}}))'
        for metric in ("streammesh_waiting_tasks", "streammesh_lag_events")
    )
    query = f"{lags} + {waits} or vector(0)"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _meta(process.pod, process.pod),
        "spec": {
            "scaleTargetRef": {"name": process.pod},
            "minReplicaCount": 0,
            "maxReplicaCount": 20,
            "cooldownPeriod": 300,
            "triggers": [
                {
                    "type": "prometheus",
                    "metadata": {
                        "serverAddress": PROMETHEUS,
                        "query": query,
                        "threshold": "100",
                        "activationThreshold": "0",
                    },
                }
            ],
        },
    }


def config() -> Document:
    """What all of them are told that is no secret."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta("streammesh", "streammesh"),
        "data": {
            "MESH_LOG_FORMAT": "json",
            "MESH_DRAIN": f"{DRAIN_SECONDS}s",
            "MESH_HEALTH_HOST": "0.0.0.0",
            "MESH_HEALTH_PORT": str(HEALTH_PORT),
        },
    }


def kustomization(resources: list[str], **more: Any) -> Document:
    """The list of a folder's files."""
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    return {**head, **more, "resources": resources}


def times(quantity: str, number: int) -> str:
    """So many times a quantity of Kubernetes: three times 250m is 750m."""
    amount, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]
    return f"{int(amount) * number}{unit}"


def patch(kind: str, name: str, *changes: Document) -> Document:
    """A change of one object of another folder, as kustomize takes it (RFC 6902)."""
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(changes)}


def sharded(shards: int) -> Document:
    """A mesh of several shards: all pods are told the number; who has a process for each shard is given room for them."""
    number = {"op": "add", "path": "/data/MESH_SHARDS", "value": str(shards)}
    place = "/spec/template/spec/containers/0/resources"
    room = [
        patch(
            "Deployment",
            one.pod,
            {
                "op": "replace",
                "path": place,
                "value": {
                    "requests": {"cpu": times(one.cpu, shards), "memory": times(one.memory[0], shards)},
                    "limits": {"memory": times(one.memory[1], shards)},
                },
            },
        )
        for one in PROCESSES
        if one.is_per_shard
    ]
    return kustomization(["../base"], patches=[patch("ConfigMap", "streammesh", number), *room])


def files(shards: int = SHARDS) -> dict[str, list[Document]]:
    """Every file with its documents, by its path below deploy/kubernetes/."""
    found: dict[str, list[Document]] = {"base/config.yaml": [config()]}
    for process in PROCESSES:
        documents = [deployment(process), disruption_budget(process), network_policy(process)]
        if process.port:
            documents.append(service(process))
        found[f"base/{process.pod}.yaml"] = documents
    names = [path.removeprefix("base/") for path in found]
    found["base/kustomization.yaml"] = [kustomization(names, namespace="streammesh")]
    scaling = [process for process in PROCESSES if process.scales]
    for process in scaling:
        found[f"keda/{process.pod}.yaml"] = [scaled_object(process)]
    # Who is scaled has no number of its own, or each `apply` would set it back.
    patches = [patch("Deployment", one.pod, {"op": "remove", "path": "/spec/replicas"}) for one in scaling]
    found["keda/kustomization.yaml"] = [
        kustomization(["../base", *(f"{one.pod}.yaml" for one in scaling)], patches=patches)
    ]
    found["shards/kustomization.yaml"] = [sharded(shards)]
    return found


def render(documents: list[Document]) -> str:
    """A file's text."""
    text: str = yaml.safe_dump_all(documents, sort_keys=False, width=120)
    return GENERATED + text


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.kubernetes_manifests", description="Write the manifests."
    )
    parser.add_argument("--shards", type=int, default=SHARDS, help="of the overlay `shards`")
    shards = parser.parse_args().shards
    if shards < 2:
        parser.error("a mesh of one shard is the base as it is")
    for path, documents in files(shards).items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(render(documents), "utf-8")


if __name__ == "__main__":
    main()
