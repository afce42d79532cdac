"""The deployment files agree with the code: no engine is needed to see it."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deploy import env_example, kubernetes_manifests, redis_users
from deploy.image.install_locked import canonical, wanted

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))
READERS = {
    "archiver",
    "api",
    "dispatcher",
    "report_worker",
}  # and no others are told where the history is, and its password
OWN = {path.parent.name for path in ROOT.glob("services/*/compose.yml")}  # they bring their container along


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
    files = (COMPOSE, *COMPOSE.parent.glob("deploy/compose/*.yml"))
    asked = {name for file in files for name in re.findall(r"\$\{([A-Z_]+)", file.read_text())}
    explained = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked - explained == set()


def test_compose_runs_every_service_there_is() -> None:
    assert SERVICES, "found no service at all"
    missing = set(SERVICES) - set(compose()) - OWN
    assert missing == set(), "give it a compose.yml of its own, as `streammesh new-worker` makes one"


@pytest.mark.parametrize("service", sorted(OWN))
def test_a_team_with_a_compose_file_of_its_own_gives_its_settings_there(service: str) -> None:
    container = yaml.safe_load((ROOT / "services" / service / "compose.yml").read_text())["services"][service]
    assert container["extends"] == {"file": "docker-compose.yml", "service": "dispatcher"}
    assert container["build"]["args"] == {"SERVICE": service}
    # What the dispatcher is told of the history is not the team's.
    assert container["environment"].pop("MESH_HISTORY_URL") == ""
    assert set(container["environment"]) == own_settings_of_team(service)


def own_settings_of_team(service: str) -> set[str]:
    """Return the variables of a settings class that `.env.example` leaves to its team."""
    module = importlib.import_module(f"services.{service}.settings")
    classes = [item for item in vars(module).values() if getattr(item, "__module__", "") == module.__name__]
    return {
        name
        for item in classes
        if hasattr(item, "model_config")
        for name, _, _ in env_example.variables(item)
    }


@pytest.mark.parametrize("service", sorted(set(SERVICES) - OWN))
def test_a_container_is_given_its_own_settings_and_no_other_services(service: str) -> None:
    given = set(compose()[service]["environment"])
    wanted = own_settings("streammesh") | own_settings(service)
    assert given == wanted - (set() if service in READERS else {"MESH_HISTORY_URL"})


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


@pytest.mark.parametrize("service", sorted(compose()))
def test_a_container_is_limited_in_memory_and_processes(service: str) -> None:
    container = compose()[service]
    assert container["mem_limit"] and container["pids_limit"] <= 1024


def test_redis_is_reached_by_services_alone_and_reaches_nothing() -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert compose()["redis"]["networks"] == ["data"] and networks["data"]["internal"] is True
    assert "data" not in compose()["mail"]["networks"]
    assert "ports" not in compose()["redis"]


SECRETS: dict[str, Any] = {
    "REDIS_PASSWORD": "p",
    "HISTORY_PASSWORD": "h",
    "API_ADMIN_KEY": "k" * 24,
    "FLOWER_BASIC_AUTH": "a:b",
}
COMMAND = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def configured(*files: str, code: int = 0, **env: str) -> Any:
    """What Compose makes of these files beside docker-compose.yml; its error where it is to refuse them."""
    options = [part for name in ("docker-compose.yml", *files) for part in ("-f", name)]
    given = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env}
    command = [*COMMAND, "--env-file", os.devnull, *options, "config", "--format", "json"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no Docker Compose here")
    if (
        "unknown command" in done.stderr
        or "not a docker command" in done.stderr
        or "unknown flag" in done.stderr
    ):
        pytest.skip("there is no Docker Compose here")
    assert done.returncode == code, done.stderr
    return done.stderr if code else json.loads(done.stdout)


def test_compose_takes_a_redis_elsewhere_without_an_edit() -> None:
    url = "rediss://user:secret@redis.example.com:6380/0"
    secrets: dict[str, Any] = {name: value for name, value in SECRETS.items() if name != "REDIS_PASSWORD"}
    found = configured("deploy/compose/redis-elsewhere.yml", MESH_REDIS_URL=url, **secrets)

    assert "redis" not in found["services"]
    used = {s["environment"]["MESH_REDIS_URL"] for s in found["services"].values() if "build" in s}
    assert used == {url}
    assert not found["networks"]["data"].get("internal")
    assert all(
        not d["required"] for s in found["services"].values() for d in s.get("depends_on", {}).values()
    )


def test_compose_says_which_secret_is_missing() -> None:
    said = configured(code=1, HISTORY_PASSWORD="h", API_ADMIN_KEY="k" * 24, FLOWER_BASIC_AUTH="a:b")
    assert "REDIS_PASSWORD is missing a value: set it in .env" in said


def test_compose_runs_several_apis_behind_a_proxy() -> None:
    found = configured("deploy/compose/proxy.yml", **SECRETS)["services"]
    assert not found["api"].get("ports")
    assert [port["published"] for port in found["proxy"]["ports"]] == ["8000"]
    assert set(found["proxy"]["networks"]) & set(found["api"]["networks"])


SHARDS = ROOT / "deploy" / "compose" / "shards.yml"


def test_the_file_of_shards_gives_every_process_of_the_mesh_the_same_shards() -> None:
    """Without an engine: what is merged by Compose is shown by the test after this one."""
    services = yaml.safe_load(SHARDS.read_text().replace("!override ", ""))["services"]
    mesh = {
        name for name, container in compose().items() if "MESH_REDIS_URL" in container.get("environment", {})
    }
    assert mesh <= set(services)
    urls = {services[name]["environment"]["MESH_REDIS_URL"] for name in mesh}
    assert len(urls) == 1 and urls.pop().endswith("@redis:6379,redis-1:6379,redis-2:6379")
    assert {services[name]["environment"]["MESH_SHARDS"] for name in mesh} == {"3"}
    for name in READERS:
        assert len(services[name]["environment"]["MESH_HISTORY_URL"].split(" postgresql:")) == 3
    nodes = {n for n, one in services.items() if one.get("environment", {}).get("REDIS_CLUSTER") == "yes"}
    assert nodes == {*("redis", "redis-1", "redis-2")}


def test_compose_runs_three_redis_as_a_cluster_and_three_shards() -> None:
    found = configured("deploy/compose/shards.yml", **SECRETS)["services"]
    for name in ("redis", "redis-1", "redis-2", "redis-cluster"):
        assert found[name]["read_only"] is True and "ports" not in found[name]
        assert list(found[name]["networks"]) == ["data"]
    data = [
        one["source"]
        for n in ("redis", "redis-1", "redis-2")
        for one in found[n]["volumes"]
        if one["type"] == "volume"
    ]
    assert data == ["redis-data", "redis-1-data", "redis-2-data"]
    assert not [one for one in found["redis-cluster"]["volumes"] if one["type"] == "volume"]
    assert found["api"]["environment"]["MESH_SHARDS"] == "3"
    assert found["api"]["environment"]["API_PORT"] == "8000"


USERS = ROOT / "deploy" / "compose" / "users.yml"


def test_every_container_that_reaches_redis_has_a_user_of_its_own_there() -> None:
    """Without an engine; `tools` is the operator's own."""
    services = yaml.safe_load(USERS.read_text())["services"]
    mesh = {name for name, one in compose().items() if "MESH_REDIS_URL" in one.get("environment", {})}
    assert mesh - {"tools"} == set(services) - {"redis"} == set(redis_users.CONTAINERS)
    for name in redis_users.CONTAINERS:
        password = "${" + redis_users.variable_of(name) + "}"
        url = f"redis://{redis_users.user_of(name)}:{password}@redis:6379/0"
        assert services[name]["environment"] == {"MESH_REDIS_URL": url}
        asked = services["redis"]["environment"][redis_users.variable_of(name)]
        assert asked.startswith("${" + redis_users.variable_of(name) + ":?")
    assert len({redis_users.user_of(name) for name in redis_users.CONTAINERS}) == len(redis_users.CONTAINERS)


def test_the_users_are_those_that_the_rules_make() -> None:
    written = (ROOT / "deploy" / "redis" / "users.acl").read_text()
    assert written == redis_users.render(), "run: python -m deploy.redis_users"
    users = [line.split()[1] for line in written.splitlines() if not line.startswith("#")]
    assert sorted(users) == sorted(map(redis_users.user_of, redis_users.CONTAINERS))


def test_compose_merges_a_user_of_redis_into_each_container() -> None:
    secrets: dict[str, Any] = {**SECRETS, **dict(line.split("=") for line in redis_users.passwords())}
    found = configured("deploy/compose/users.yml", **secrets)["services"]
    for name in redis_users.CONTAINERS:
        password = secrets[redis_users.variable_of(name)]
        environment = found[name]["environment"]
        assert environment["MESH_REDIS_URL"] == f"redis://{redis_users.user_of(name)}:{password}@redis:6379/0"
        assert "MESH_LOG_FORMAT" in environment
    assert found["redis"]["environment"]["REDIS_USERS"] == "yes"
    assert found["redis"]["environment"]["REDISCLI_AUTH"] == SECRETS["REDIS_PASSWORD"]


def test_compose_runs_the_source_of_this_folder_in_development() -> None:
    found = configured("deploy/compose/develop.yml", **SECRETS)["services"]
    for service in set(SERVICES) - OWN:
        sources = {volume["source"] for volume in found[service]["volumes"] if volume["type"] == "bind"}
        assert sources == {str(ROOT / "shared" / "streammesh"), str(ROOT / "services" / service)}
        watched = {rule["path"] for rule in found[service]["develop"]["watch"]}
        assert watched == sources and found[service]["environment"]["PYTHONPATH"] == "/source"


def test_two_dispatchers_run_so_that_one_may_die() -> None:
    assert configured(**SECRETS)["services"]["dispatcher"]["deploy"]["replicas"] == 2


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
    for service in set(SERVICES) - OWN:
        assert services[service]["healthcheck"]["test"] == ["CMD", "python", "/app/healthy.py"]
    assert kubernetes_manifests.HEALTH_PORT == 8090


def test_compose_takes_nothing_of_an_images_own_environment_away() -> None:
    """A variable that is named without a value, and not set where Compose runs, is removed from the container."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    [block] = re.findall(r"^ENV (PATH=(?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)
    own = set(re.findall(r"(\w+)=", block))
    assert "MESH_HEALTH_PORT" in own
    for name, service in compose().items():
        bare = {variable for variable, value in service.get("environment", {}).items() if value is None}
        assert not own & bare, f"{name}: {sorted(own & bare)}"


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
