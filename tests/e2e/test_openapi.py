"""The OpenAPI document, fuzzed over HTTP: nothing breaks, and every refusal is a problem document."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from streammesh.embedded import EmbeddedServer
from streammesh.settings import MeshSettings

from services.api.app import create_app
from services.api.settings import ApiSettings, StoreSettings

EXAMPLES = 12  # per operation and kind of test; all together stay well under 40 s
KEY = "a-key-for-the-fuzzer-only-1234"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url(mesh_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API as a process of its own."""
    folder = tmp_path_factory.mktemp("api")
    environment = {
        "PATH": "/usr/bin:/bin",
        "MESH_REDIS_URL": mesh_server.url,
        "MESH_NAMESPACE": "openapi",
        "MESH_LOG_FORMAT": "json",
        "API_PORT": "0",
        "API_ADMIN_KEY": KEY,
        "REPORT_STORE_URL": str(folder / "store"),
        "PYTHONUNBUFFERED": "1",
    }
    log = folder / "log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.api"], env=environment, stderr=out, stdout=out
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r'"url":"(http://[^"]+)"', log.read_text())):
            assert child.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield found[1]
        assert child.poll() is None, log.read_text()[-5_000:]
        assert "Traceback" not in log.read_text(), log.read_text()[-5_000:]
    finally:
        child.terminate()
        child.wait(15)


def operations() -> dict[str, Any]:
    """Every operation of the document, by its name."""
    door = create_app(
        MeshSettings(_env_file=None), ApiSettings(_env_file=None), StoreSettings(_env_file=None)
    )
    schema = schemathesis.openapi.from_dict(door.app.openapi())
    found = {}
    for one in schema.get_all_operations():
        assert isinstance(one, Ok), one.err()
        found[one.ok().label] = one.ok()
    return found


OPERATIONS = operations()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("label", list(OPERATIONS))
def test_every_operation_keeps_its_word(label: Any, mode: Any, url: Any) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def keeps_its_word(case: Any) -> None:
        check(case, url)

    try:
        keeps_its_word()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation without parameters cannot be asked wrongly


def check(case: schemathesis.Case[Any], url: str) -> None:
    request = case.as_transport_kwargs(base_url=url)
    request["headers"]["Authorization"] = f"Bearer {KEY}"
    with requests.request(**request, stream=True, timeout=10) as response:
        if response.headers.get("content-type") == "text/event-stream":
            assert response.status_code == 200 and next(response.iter_lines()) == b": connected"
            return
        response.content  # noqa: B018  read before it is closed
        if response.status_code >= 400:
            assert_problem(response)
        if (case.path, response.status_code) != ("/readyz", 503):  # there is no dispatcher here
            case.validate_response(response, checks=CHECKS)


def assert_problem(response: requests.Response) -> None:
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["type"].startswith("/problems/") and document["detail"] and document["title"]


def test_every_operation_has_examples_and_describes_its_refusals(url: Any) -> None:
    document = requests.get(f"{url}/openapi.json", timeout=10).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert media.get("examples") or "schema" in media, where
            for status, answer in operation["responses"].items():
                if status >= "400":
                    content = answer["content"]["application/problem+json"]
                    assert content["examples"], (where, status)
                elif status == "200" and "application/json" in answer.get("content", {}):
                    assert "example" in answer["content"]["application/json"], where
            if path.startswith("/v1/"):
                assert operation["security"] and {"401", "422", "503"} <= set(operation["responses"]), where
