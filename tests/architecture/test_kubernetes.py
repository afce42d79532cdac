"""The Kubernetes manifests are those of their table, fit the schemas of Kubernetes, and say what the mesh's settings say."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from streammesh.settings import MeshSettings

from deploy import env_example, kubernetes_manifests
from deploy.kubernetes_manifests import FOLDER, PROCESSES
from tests.architecture.source_tree import SERVICES

FILES = kubernetes_manifests.files()
BASE = [
    (path, document)
    for path, documents in FILES.items()
    for document in documents
    if path.startswith("base/")
]
OWN_SCHEMA = {"Kustomization", "ScaledObject"}  # not of Kubernetes itself
VERSIONS = ("1.29", "1.33", "1.37")


def pods() -> dict[str, dict[str, Any]]:
    return {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for _, document in BASE
        if document["kind"] == "Deployment"
    }


def test_the_files_are_those_that_the_table_makes() -> None:
    written = {str(path.relative_to(FOLDER)): path.read_text("utf-8") for path in FOLDER.rglob("*.yaml")}
    made = {path: kubernetes_manifests.render(documents) for path, documents in FILES.items()}
    assert written == made, "run: python -m deploy.kubernetes_manifests"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_document_fits_the_schema_of_kubernetes(version: str) -> None:
    checked = 0
    for _, document in BASE:
        if document["kind"] not in OWN_SCHEMA:
            kubernetes_validate.validate(document, version, strict=True)
            checked += 1
    assert checked > 3 * len(PROCESSES)


def overlaid(shards: int) -> list[dict[str, Any]]:
    """The base as kustomize changes it for so many shards."""
    [overlay] = kubernetes_manifests.files(shards)["shards/kustomization.yaml"]
    assert overlay["resources"] == ["../base"]
    found = copy.deepcopy([document for _, document in BASE if "metadata" in document])
    for one in overlay["patches"]:
        target, changes = one["target"], json.loads(one["patch"])
        [document] = [
            document
            for document in found
            if (document["kind"], document["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        for change in changes:
            *way, last = change["path"].split("/")[1:]
            place: Any = document
            for step in way:
                place = place[int(step)] if isinstance(place, list) else place[step]
            assert (last in place) == (change["op"] == "replace"), change
            place[last] = change["value"]
    return found


def test_the_overlay_of_shards_fits_the_schema_and_gives_room_to_who_has_a_process_for_each() -> None:
    made = {(one["kind"], one["metadata"]["name"]): one for one in overlaid(4)}
    for one in made.values():
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    assert MeshSettings(
        _env_file=None, shards=made["ConfigMap", "streammesh"]["data"]["MESH_SHARDS"]
    ).shards == 4  # fmt: skip
    plain = {name: pod["containers"][0]["resources"] for name, pod in pods().items()}
    for process in PROCESSES:
        start = (SERVICES / process.name / "__main__.py").read_text("utf-8")
        is_parent = "serve_all_shards" in start or (
            "service.run()" in start and "serve_first_shard" not in start
        )
        assert process.is_per_shard == is_parent, process.name
        [container] = made["Deployment", process.pod]["spec"]["template"]["spec"]["containers"]
        factor = 4 if process.is_per_shard else 1
        for which in ("requests", "limits"):
            for name, amount in plain[process.pod][which].items():
                assert container["resources"][which][name] == kubernetes_manifests.times(amount, factor)


def test_every_service_of_the_mesh_is_there_with_its_budget_and_its_network_policy() -> None:
    ours = {path.parent.name for path in SERVICES.glob("*/__main__.py")}
    assert {process.name for process in PROCESSES} == ours
    for process in PROCESSES:
        kinds = [document["kind"] for document in FILES[f"base/{process.pod}.yaml"]]
        assert kinds[:3] == ["Deployment", "PodDisruptionBudget", "NetworkPolicy"], process.name


def test_the_secret_of_the_page_has_whatever_a_pod_does_not_start_without() -> None:
    page = (SERVICES.parent / "docs" / "deploy.md").read_text("utf-8")
    made = set(re.findall(r"--from-literal=([A-Z_]+)=", page))
    wanted = {"MESH_REDIS_URL"}.union(*(process.secrets for process in PROCESSES))
    assert wanted - set(kubernetes_manifests.OPTIONAL) <= made <= wanted


def test_they_name_settings_that_there_are() -> None:
    known = {
        name for settings in env_example.settings_classes() for name, _, _ in env_example.variables(settings)
    }
    named = set(kubernetes_manifests.config()["data"])
    for pod in pods().values():
        named |= {entry["name"] for entry in pod["containers"][0]["env"]}
    assert named <= known, named - known


def test_a_pod_is_given_longer_to_end_than_a_worker_takes_to_drain() -> None:
    for name, pod in pods().items():
        assert pod["terminationGracePeriodSeconds"] > kubernetes_manifests.DRAIN_SECONDS, name
        container = pod["containers"][0]
        assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {
            *("/readyz", "/livez"),
        }


def test_each_kustomization_lists_files_that_are_there() -> None:
    for path in FOLDER.rglob("kustomization.yaml"):
        for resource in yaml.safe_load(path.read_text())["resources"]:
            assert (path.parent / resource).exists(), resource
