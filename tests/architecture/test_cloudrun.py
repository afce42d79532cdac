"""The files for Cloud Run are those of their table, hold what Cloud Run knows and no more, and name settings that there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy import cloudrun_manifests, env_example
from deploy.cloudrun_manifests import FOLDER, secret_name
from deploy.kubernetes_manifests import HEALTH_PORT, PROCESSES

FLOWER = Path(__file__).parents[2] / "deploy" / "flower" / "cloudrun.yaml"
FILES = [*sorted(FOLDER.glob("*.yaml")), FLOWER]
LONGEST_START = 240  # seconds that a startup probe may take in all
OF_FLOWER = {"FLOWER_BEHIND_IAP", "FLOWER_READ_ONLY"}
Text = Annotated[str, Field(strict=True, min_length=1)]
Annotations = dict[
    Literal[
        "autoscaling.knative.dev/maxScale",
        "autoscaling.knative.dev/minScale",
        "run.googleapis.com/cpu-throttling",
        "run.googleapis.com/iap-enabled",
        "run.googleapis.com/ingress",
        "run.googleapis.com/launch-stage",
        "run.googleapis.com/manualInstanceCount",
        "run.googleapis.com/network-interfaces",
        "run.googleapis.com/scalingMode",
        "run.googleapis.com/vpc-access-egress",
    ],
    Text,  # a number or `true` without quotes is refused
]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SecretKey(Part):
    name: Annotated[str, Field(pattern=r"^mesh-[a-z-]+$")]
    key: Literal["latest"]


class FromSecret(Part):
    secretKeyRef: SecretKey


class Variable(Part):
    name: Annotated[str, Field(pattern=r"^[A-Z_]+$")]
    value: Text | None = None
    valueFrom: FromSecret | None = None

    @model_validator(mode="after")
    def has_one_of_both(self) -> Variable:
        assert (self.value is None) != (self.valueFrom is None)
        assert self.name not in ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"), "Cloud Run's own"
        return self


class Get(Part):
    path: Annotated[str, Field(pattern=r"^/")]
    port: Annotated[int, Field(ge=1, le=65535)]


class Probe(Part):
    httpGet: Get
    periodSeconds: Annotated[int, Field(ge=1, le=3600)]
    timeoutSeconds: Annotated[int, Field(ge=1)] = 1
    failureThreshold: Annotated[int, Field(ge=1)] = 3

    @model_validator(mode="after")
    def is_answered_before_the_next(self) -> Probe:
        assert self.timeoutSeconds <= self.periodSeconds
        return self


class Port(Part):
    containerPort: int


class Limits(Part):
    cpu: Literal["1", "2", "4", "8"]
    memory: Annotated[str, Field(pattern=r"^\d+(Mi|Gi)$")]


class Resources(Part):
    limits: Limits


class Container(Part):
    image: Annotated[str, Field(pattern=r"^REGION-docker\.pkg\.dev/PROJECT/mesh/[a-z_]+$")]
    ports: Annotated[list[Port], Field(max_length=1)] = []
    env: list[Variable]
    resources: Resources
    startupProbe: Probe
    livenessProbe: Probe


class Metadata(Part):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,48}$")] | None = None
    annotations: Annotations


class Instance(Part):
    containers: Annotated[list[Container], Field(min_length=1, max_length=1)]
    containerConcurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    timeoutSeconds: Annotated[int, Field(ge=1, le=3600)] | None = None


class Template(Part):
    metadata: Metadata
    spec: Instance


class Spec(Part):
    template: Template


class Document(Part):
    apiVersion: Literal["serving.knative.dev/v1", "run.googleapis.com/v1"]
    kind: Literal["Service", "WorkerPool"]
    metadata: Metadata
    spec: Spec


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_files_are_those_that_the_table_makes() -> None:
    written = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert written == cloudrun_manifests.files(), "run: python -m deploy.cloudrun_manifests"
    assert set(written) == {f"{process.pod}.yaml" for process in PROCESSES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_holds_what_cloud_run_knows_and_no_more(path: Path) -> None:
    found = Document.model_validate(read(path))
    instance, [container] = found.spec.template.spec, found.spec.template.spec.containers
    ports = {port.containerPort for port in container.ports}
    if found.kind == "Service":
        assert found.apiVersion == "serving.knative.dev/v1" and instance.timeoutSeconds and len(ports) == 1
    else:
        assert found.apiVersion == "run.googleapis.com/v1" and not ports
        assert instance.timeoutSeconds is None and instance.containerConcurrency is None
        assert found.metadata.annotations["run.googleapis.com/scalingMode"] == "manual"
        assert int(found.metadata.annotations["run.googleapis.com/manualInstanceCount"]) >= 1
    start = container.startupProbe
    assert start.periodSeconds * start.failureThreshold <= LONGEST_START
    asked = {start.httpGet.port, container.livenessProbe.httpGet.port}
    assert asked == (ports or {HEALTH_PORT})
    [where] = json.loads(found.spec.template.metadata.annotations["run.googleapis.com/network-interfaces"])
    assert set(where) == {"network", "subnetwork"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_names_settings_that_there_are_and_no_secret_stands_in_it(path: Path) -> None:
    known = {
        name for settings in env_example.settings_classes() for name, _, _ in env_example.variables(settings)
    }
    [container] = Document.model_validate(read(path)).spec.template.spec.containers
    assert {variable.name for variable in container.env} <= known | OF_FLOWER
    for variable in container.env:
        if variable.name.endswith(("_URL", "_KEY", "_KEYS")):
            assert variable.valueFrom is not None, variable.name
            assert variable.valueFrom.secretKeyRef.name == secret_name(variable.name)


def test_a_drain_ends_before_cloud_run_kills() -> None:
    assert 0 < int(cloudrun_manifests.DRAIN.removesuffix("s")) < 10
    for process in PROCESSES:
        told = {one["name"]: one.get("value") for one in cloudrun_manifests.container(process)["env"]}
        drains = {
            told.get("MESH_DRAIN"),
            told.get("API_DRAIN") if process.name == "api" else told["MESH_DRAIN"],
        }
        assert drains == {cloudrun_manifests.DRAIN}


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "Deployment"},
        {"spec": {"template": {"metadata": {"annotations": {}}, "spec": {"containers": [], "replicas": 2}}}},
        {"metadata": {"name": "mesh", "annotations": {"run.googleapis.com/manualInstanceCount": 2}}},
    ],
)
def test_what_cloud_run_does_not_know_is_seen(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Document.model_validate({**read(FOLDER / "dispatcher.yaml"), **broken})
