"""`/v1/types` and `/asyncapi.json`: who publishes and who reads what, as far as a key may read."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel
from streammesh import lua
from streammesh.cli.check import Checked, _look_at_others
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.api.asyncapi import document, hoist
from services.api.type_catalogue import MOST_TYPES, KnownType, TypeCatalogue, catalogue


class Line(BaseModel):
    sku: str


class Order(BaseModel):
    order_id: int
    lines: list[Line]


ORDER = Order.model_json_schema()


def manifest(
    service: str, *types: str, publishes: dict[str, Any] | None = None, schema: Any = None
) -> Manifest:
    wanted = tuple(Subscription(service, f"{service}.handle{n}", one) for n, one in enumerate(types))
    schemas = {one.task: schema for one in wanted} if schema else {}
    return Manifest(service, subscriptions=wanted, schemas=schemas, publishes=publishes or {})


@pytest.fixture
async def known(api, mesh_redis, mesh_keys, make_key) -> Any:
    """Two services and a shop, and a key that may read what is the billing's alone."""
    billing = manifest("billing", "order.*", "bill.late", publishes={"bill.sent": ORDER})
    for one in (manifest("audit", "order.placed", schema=ORDER), billing):
        await lua.run(mesh_redis, register_call(mesh_keys, one))
    for n in range(3):
        await api.post("/v1/events", json={"type": "order.placed", "data": n})
    await api.post("/v1/events", json={"type": "org.example/Thing"})
    await mesh_redis.xadd(mesh_keys.events("order"), {"e": b'{"type":5}'})
    await mesh_redis.xadd(mesh_keys.events("order"), {"x": b"garbage"})
    return {"authorization": f"Bearer {await make_key('narrow', publish=['*'], subscribe=['bill.*'])}"}


async def test_each_type_has_who_publishes_who_reads_and_when_it_was_seen(api, known):
    page = (await api.get("/v1/types")).json()
    types = {one["type"]: one for one in page["types"]}
    order, bill = types["order.placed"], types["bill.sent"]

    assert (
        sorted(types) == ["bill.late", "bill.sent", "order.placed", "org.example/Thing"]
        and page["next"] is None
    )
    assert [(one["source"], one["declared"]) for one in order["publishers"]] == [("shop", False)]
    assert [(one["task"], one["type"]) for one in order["readers"]] == [
        ("audit.handle0", "order.placed"),
        ("billing.handle0", "order.*"),
    ]
    assert (
        order["readers"][0]["schema"] == ORDER and order["last_seen"] == order["publishers"][0]["last_seen"]
    )
    assert (bill["publishers"][0]["schema"], bill["last_seen"], bill["domain"]) == (ORDER, None, "bill")

    some = (await api.get("/v1/types", params={"limit": 2})).json()
    rest = (await api.get("/v1/types", params={"after": some["next"]})).json()
    assert [one["type"] for one in some["types"] + rest["types"]] == sorted(types)
    assert (await api.get("/v1/types/org.example%2FThing")).json() == types["org.example/Thing"]
    assert (await api.get("/v1/types/none")).status_code == 404


async def test_a_narrow_key_is_told_of_its_own_types_only(api, known):
    page = (await api.get("/v1/types", headers=known)).json()
    hidden = await api.get("/v1/types/order.placed", headers=known)
    told = (await api.get("/asyncapi.json", headers=known)).text
    everybody = await api.get("/asyncapi.json", headers={"authorization": ""})
    del api.headers["authorization"]

    assert [one["type"] for one in page["types"]] == ["bill.late", "bill.sent"]
    assert hidden.status_code == 404 and "order" not in hidden.json()["detail"].replace("'order.placed'", "")
    assert "bill.sent" in told and "order.placed" not in told and "org.example" not in told
    assert everybody.status_code == 401
    assert "bill.sent" not in (await api.get("/asyncapi.json")).text


async def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_but_its_own(api):
    page = await api.get("/asyncapi")

    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"(?:https?:)?//[a-z]|<script>|<style>| on[a-z]+=|style=", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await api.get(f"/{path}")).status_code == 200, path
    script = (await api.get("/asyncapi/page.js")).text
    assert "innerHTML" not in script and "//" not in script.replace("// ", "")
    assert (await api.get("/asyncapi/..%2Fapp.py")).status_code == 404


def test_references_of_schemas_lead_into_the_document():
    schemas: dict[str, Any] = {}
    named = {
        "properties": {"$ref": {"type": "string"}, "$defs": {"$ref": "#"}},
        "x": {"$ref": "http://else/x"},
    }
    hoist(ORDER, "o", schemas)
    hoist(named, "n", schemas)
    hoist("garbage", "g", schemas)

    assert schemas["o"]["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/o.Line"}
    assert schemas["o.Line"]["properties"]["sku"]["type"] == "string" and "$defs" not in schemas["o"]
    assert schemas["n"]["properties"]["$ref"] == {"type": "string"} and schemas["n"]["x"] == {}


def test_every_reference_of_the_document_is_there():
    odd = {"a b": KnownType("a b"), "a_b": KnownType("a_b"), "日本": KnownType("日本")}
    found = document(
        [*odd.values(), *catalogue([manifest("audit", "order.placed", schema=ORDER)], {}).values()],
        "h",
        "http",
    )

    for ref in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(found)):
        place: Any = found
        for step in ref.split("/"):
            place = place[step]
    assert len(found["channels"]["events"]["messages"]) == 4


async def test_what_is_remembered_has_a_bound(mesh_redis, mesh_keys):
    types = TypeCatalogue(mesh_redis, mesh_keys, None)
    for n in range(MOST_TYPES + 50):
        types._see(b"%d-0" % n, b'{"type":"t.%d","source":"s"}' % n)
    for n in range(200):
        types._see(b"9-9", b'{"type":"t.5000","source":"s%d"}' % n)

    assert len(types._seen) == MOST_TYPES and "t.0" not in types._seen
    assert len(types._seen["t.5000"]) == 50


HANDLERS = """
from pydantic import BaseModel
from streammesh import Service


class Bill(BaseModel):
    total: float | str


service = Service("bill_worker")
service.publishes("bill.sent", Bill)


@service.on("order.placed")
async def bill(order: Bill) -> None:
    pass
"""


async def test_a_pipeline_is_stopped_by_a_break_and_by_nothing_else(
    live, admin, make_key, mesh_redis, mesh_keys, tmp_path
):
    """`streammesh check --against`, as a process: what it says, and its exit code."""
    home = tmp_path / "services" / "bill_worker"
    (home / "tests").mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "settings.py"):
        (home / name).touch()
    (tmp_path / "services" / "__init__.py").touch()
    (home / "handlers.py").write_text(HANDLERS)
    (home / "requirements.txt").write_text("streammesh[celery]\n")
    total = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    await lua.run(mesh_redis, register_call(mesh_keys, manifest("audit", "bill.*", schema=total)))
    url = str(live.base_url)

    command = ("-m", "streammesh.cli", "check", "bill_worker", "--against", url, "--key", admin, "--json")
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-B", *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told, said = await run.communicate()
    assert run.returncode == 1 and told, said
    found = json.loads(told)
    assert (found["breaks"], found["problems"]) == (
        ["bill.sent, which audit.handle0 reads: /total may be string, and number is read"],
        [],
    )

    narrow = Checked("bill_worker", publishes={"bill.sent": total})
    await asyncio.to_thread(_look_at_others, narrow, url, await make_key("narrow", subscribe=["order.*"]))
    assert narrow.breaks == [] and "may not read every type" in narrow.warnings[0]
