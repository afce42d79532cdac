"""The deployment files agree with the code: no engine is needed to see it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy import env_example
from deploy.image.install_locked import canonical, wanted

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))


def compose() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def own_settings(service: str) -> set[str]:
    """The variables that the settings classes of one service read, or the mesh's for the kit."""
    room = "streammesh.settings" if service == "streammesh" else f"services.{service}.settings"
    classes = [item for item in env_example.settings_classes() if item.__module__ == room]
    return {name for item in classes for name, _, _ in env_example.variables(item)}


def test_env_example_lists_every_setting_with_its_default() -> None:
    written = (ROOT / ".env.example").read_text()
    assert written == env_example.render(), "run: python -m deploy.env_example > .env.example"


def test_every_variable_that_compose_asks_for_is_explained() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text()))
    explained = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked - explained == set()


def test_compose_runs_every_service_there_is() -> None:
    assert SERVICES, "found no service at all"
    assert set(SERVICES) - set(compose()) == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_given_its_own_settings_and_no_other_services(service: str) -> None:
    given = set(compose()[service]["environment"])
    wanted = own_settings("streammesh") | own_settings(service)
    assert given == wanted


@pytest.mark.parametrize("service", sorted(compose()))
def test_a_container_is_unprivileged_and_open_on_loopback_only(service: str) -> None:
    container = compose()[service]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in container or service == "tools"
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))
    # Our own images name their user themselves; a third party's image must be told.
    assert "build" in container or not str(container["user"]).startswith("0")


def test_the_dockerfile_takes_any_base_and_ends_unprivileged() -> None:
    lines = [line.strip() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith("#")]
    assert code[0] == "ARG BASE_IMAGE=python:3.13-slim"
    assert {line.split(" AS ")[0] for line in code if line.startswith("FROM")} == {"FROM ${BASE_IMAGE}"}
    assert not any(re.match(r"#\s*(syntax|escape)\s*=", line) for line in lines)
    [user] = [line.split()[1] for line in code if line.startswith("USER")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert code[-1].startswith('ENTRYPOINT ["'), "the shell form would keep the signals"


def test_every_container_is_asked_on_the_health_port_of_its_image() -> None:
    dockerfile, services = (ROOT / "Dockerfile").read_text(), compose()
    assert "MESH_HEALTH_HOST=0.0.0.0" in dockerfile and "MESH_HEALTH_PORT=8090" in dockerfile
    assert 'CMD ["python", "/app/healthy.py"]' in dockerfile
    for service in SERVICES:
        assert services[service]["healthcheck"]["test"] == ["CMD", "python", "/app/healthy.py"]
    assert "containerPort: 8090" in (ROOT / "docs/deploy.md").read_text()


def test_the_build_is_sent_nothing_but_what_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {
        "!requirements.lock",
        "!shared",
        "!services",
        "!deploy",
    }
    assert "**/.env" in rules


def brought_by(requirements: list[str]) -> set[str]:
    """The names of all packages that these requirements bring here, with their own requirements."""
    found: set[str] = set()
    todo = [Requirement(line) for line in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonical(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                below = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            found.add(name)
            for line in map(Requirement, below):
                if line.marker is None or line.marker.evaluate({"extra": extra}):
                    todo.append(line)
    return found


def third_parties(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, module) of each import of something that is neither Python's nor ours, tests left out."""
    for path in sorted(folder.rglob("*.py")):
        if "tests" in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            for top in {module.partition(".")[0] for module in modules}:
                if top not in sys.stdlib_module_names and top not in ("services", "streammesh"):
                    yield f"{path.relative_to(ROOT)}", top


@pytest.mark.parametrize(
    "folder", [f"services/{name}" for name in SERVICES] + ["deploy/flower", "deploy/tools"]
)
def test_an_image_holds_whatever_its_service_imports(folder: str) -> None:
    lines = (ROOT / folder / "requirements.txt").read_text().splitlines()
    there = brought_by(wanted(lines, ROOT / "shared" / "pyproject.toml"))
    owners = importlib.metadata.packages_distributions()
    missing = {
        (path, module)
        for path, module in third_parties(ROOT / folder)
        if not there & {canonical(owner) for owner in owners.get(module, [module])}
    }
    assert missing == set()
