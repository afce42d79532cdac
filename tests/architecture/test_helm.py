"""The Helm chart is what its source makes, and renders to what kustomize's base is; by Helm itself where it is there.

`pip install helm-python-sdk` brings Helm's own engine, without a cluster and without the command.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy import helm_chart, kubernetes_manifests
from deploy.helm_chart import FOLDER
from deploy.kubernetes_manifests import PROCESSES

FILES = kubernetes_manifests.files()
BASE = [
    document
    for path, documents in FILES.items()
    for document in documents
    if path.startswith("base/") and document["kind"] != "Kustomization"
]


def test_the_chart_is_what_its_source_makes() -> None:
    written = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.*")}
    assert written == helm_chart.files(), "run: python -m deploy.helm_chart"


def rendered(values: dict[str, Any] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
    """What Helm makes of the chart, by kind and name."""
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk brings Helm's engine")
    with helm.Chart.load(FOLDER) as chart:
        chart.validate_schema(chart.merge_values(values))
        made = chart.render(values, name="mesh", namespace="streammesh")
    documents = [one for text in made.values() for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def by_name(documents: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def test_with_its_own_values_it_is_the_base() -> None:
    assert rendered() == by_name(BASE)


def test_helm_finds_nothing_wrong() -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk brings Helm's engine")
    report = helm.lint(FOLDER, strict=True)
    assert not report["errors"] and not [one for one in report["messages"] if one["severity"] > 1]


def test_with_keda_workers_are_scaled_as_by_the_overlay() -> None:
    found = rendered({"keda": {"enabled": True, "prometheus": "http://elsewhere:9090"}})
    for process in (one for one in PROCESSES if one.scales):
        assert "replicas" not in found["Deployment", process.pod]["spec"]
        [trigger] = found["ScaledObject", process.pod]["spec"]["triggers"]
        [expected] = kubernetes_manifests.scaled_object(process)["spec"]["triggers"]
        assert trigger["metadata"] == {**expected["metadata"], "serverAddress": "http://elsewhere:9090"}


def test_values_reach_the_pods_and_a_process_can_be_left_out() -> None:
    room = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    found = rendered(
        {
            "image": {"prefix": "registry.example/mesh/", "tag": "1.4.0"},
            "secret": "mesh-secret",
            "config": {"MESH_NAMESPACE": "shop", "MESH_SHARDS": "3"},
            "processes": {"email_worker": {"enabled": False}, "api": {"replicas": 5, "resources": room}},
        }
    )
    assert not [name for _, name in found if name == "email-worker"]
    api = found["Deployment", "api"]["spec"]
    [container] = api["template"]["spec"]["containers"]
    assert (api["replicas"], container["resources"]) == (5, room)
    assert container["image"] == "registry.example/mesh/api:1.4.0"
    secrets = {one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"] if "valueFrom" in one}
    assert secrets == {"mesh-secret"}
    told = found["ConfigMap", "streammesh"]["data"]
    assert told["MESH_SHARDS"] == "3" and told["MESH_HEALTH_PORT"] == "8090"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"replica": 3}, "replica"),
        ({"processes": {"api": {"replicas": "3"}}}, "got string, want integer"),
        ({"config": {"MESH_SHARDS": 3}}, "got number, want string"),
    ],
    ids=["unknown", "text", "number"],
)
def test_a_value_that_is_none_is_refused(wrong: dict[str, Any], says: str) -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk brings Helm's engine")
    with pytest.raises(helm.HelmError, match=says):
        rendered(wrong)
