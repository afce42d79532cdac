"""Writes the Helm chart: the manifests of `deploy/kubernetes_manifests.py` with what differs between installations as values.

python -m deploy.helm_chart                # writes deploy/helm/streammesh/
helm install mesh deploy/helm/streammesh --namespace streammesh --create-namespace
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from deploy import kubernetes_manifests as base
from deploy.kubernetes_manifests import PROCESSES, PROMETHEUS, Document, Process

FOLDER = Path(__file__).parent / "helm" / "streammesh"
GENERATED = "# Made by `python -m deploy.helm_chart`.\n"
CHART = {
    "apiVersion": "v2",
    "name": "streammesh",
    "description": "An event-driven service mesh for Python: Redis Streams, Celery, FastAPI",
    "type": "application",
    "version": "0.1.0",
    "kubeVersion": ">=1.29.0-0",
}
SECRET = "streammesh"


def values() -> Document:
    """What an installation may say; as it stands here the chart makes what kustomize's base is."""
    return {
        "image": {"prefix": "streammesh/", "tag": ""},
        "secret": SECRET,
        "config": base.config()["data"],
        "keda": {"enabled": False, "prometheus": PROMETHEUS},
        "processes": {
            one.name: {
                "enabled": True,
                "replicas": one.replicas,
                "resources": base.deployment(one)["spec"]["template"]["spec"]["containers"][0]["resources"],
            }
            for one in PROCESSES
        },
    }


def schema() -> Document:
    """What values may be: a name that is written wrongly is refused and not passed over."""

    def closed(**properties: Document) -> Document:
        return {"type": "object", "properties": properties, "additionalProperties": False}

    text, flag = {"type": "string"}, {"type": "boolean"}
    process = closed(enabled=flag, replicas={"type": "integer", "minimum": 0}, resources={"type": "object"})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **closed(
            image=closed(prefix=text, tag=text),
            secret={"type": "string", "minLength": 1},
            config={"type": "object", "additionalProperties": text},
            keda=closed(enabled=flag, prometheus=text),
            processes=closed(**{one.name: process for one in PROCESSES}),
            **{"global": {"type": "object"}},
        ),
    }


class Template:
    """A file of the chart: YAML in which some values are expressions of Helm."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, expression: str) -> str:
        """Return what stands for an expression while the document is data."""
        name = f"HELM{len(self._marks)}X"
        self._marks[name] = expression
        return name

    def text(self, documents: list[Document], condition: str = "") -> str:
        """Return the file."""
        made: str = yaml.safe_dump_all(documents, sort_keys=False, width=1_000)
        for name, expression in reversed(self._marks.items()):
            made = made.replace(name, expression)
        return GENERATED + (f"{{{{- if {condition} }}}}\n{made}{{{{- end }}}}\n" if condition else made)


def process_file(process: Process) -> str:
    """One kind of process: its pods, and what belongs to them."""
    template, own = Template(), f".Values.processes.{process.name}"
    pods = base.deployment(process)
    [container] = pods["spec"]["template"]["spec"]["containers"]
    tag = "{{ with .Values.image.tag }}:{{ . }}{{ end }}"
    container["image"] = template.mark(f'"{{{{ .Values.image.prefix }}}}{process.name}{tag}"')
    container["resources"] = template.mark(f"{{{{- toYaml {own}.resources | nindent 10 }}}}")
    for variable in container["env"]:
        if "valueFrom" in variable:
            variable["valueFrom"]["secretKeyRef"]["name"] = template.mark("{{ .Values.secret }}")
    pods["spec"]["replicas"] = template.mark(f"{{{{ {own}.replicas }}}}")
    documents = [pods, base.disruption_budget(process), base.network_policy(process)]
    if process.port:
        documents.append(base.service(process))
    made = template.text(documents, f"{own}.enabled")
    if process.scales:  # KEDA says how many, and each upgrade would set it back
        line = f"  replicas: {{{{ {own}.replicas }}}}\n"
        assert line in made
        made = made.replace(line, f"  {{{{- if not .Values.keda.enabled }}}}\n{line}  {{{{- end }}}}\n")
    return made


def scaling_file(process: Process) -> str:
    """KEDA's object of one kind of process."""
    template = Template()
    scaled = base.scaled_object(process)
    [trigger] = scaled["spec"]["triggers"]
    trigger["metadata"]["serverAddress"] = template.mark("{{ .Values.keda.prometheus | quote }}")
    return template.text([scaled], f"and .Values.keda.enabled .Values.processes.{process.name}.enabled")


def config_file() -> str:
    """What all processes are told that is no secret."""
    template, document = Template(), base.config()
    each = "{{- range $name, $value := .Values.config }}\n  {{ $name }}: {{ $value | quote }}\n{{- end }}"
    document["data"] = template.mark(each)
    return template.text([document]).replace("data: {{-", "data:\n  {{-")


def files() -> dict[str, str]:
    """Every file by its path in the chart."""

    def dumped(value: Any) -> str:
        text: str = yaml.safe_dump(value, sort_keys=False, width=120)
        return GENERATED + text

    return {
        "Chart.yaml": dumped(CHART),
        "values.yaml": dumped(values()),
        "values.schema.json": json.dumps(schema(), indent=1) + "\n",
        "templates/config.yaml": config_file(),
        **{f"templates/{one.pod}.yaml": process_file(one) for one in PROCESSES},
        **{f"templates/{one.pod}-scaling.yaml": scaling_file(one) for one in PROCESSES if one.scales},
    }


def main() -> None:
    """Write all files."""
    for path, text in files().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
