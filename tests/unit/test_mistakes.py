"""Mistakes are said where they are made: the file and line, what is wrong, and what to write. And decorators keep types."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any, assert_type

import pytest
from pydantic import BaseModel
from streammesh import Context, Reject, Service
from streammesh.cli.check import check_worker
from streammesh.events.envelope import build
from streammesh.tasks.handler import bind

HEAD = "from streammesh import Context, Event, Service\nservice = Service('shop_worker')\n"
MISTAKES = {
    "unknown option": ("@service.on('order.placed', retry=3)\nasync def a(): ...\n", "retry"),
    "option that cannot be": (
        "@service.on('order.placed', retries='many')\nasync def a(): ...\n",
        r"worker\.py:3: retries",
    ),
    "annotation that is no type": (
        "@service.on('order.placed')\nasync def a(order: Nothing): ...\n",
        r"worker\.py:\d: .*name 'Nothing' is not defined",
    ),
    "annotation that cannot be validated": (
        "class Plain: ...\n@service.on('order.placed')\nasync def a(order: Plain): ...\n",
        r"worker\.py:\d: .*pydantic cannot validate the annotation of 'order'",
    ),
    "parameter that nobody gives": (
        "@service.on('order.placed')\nasync def a(order, db: int): ...\n",
        r"worker\.py:\d: .*nothing is known to give for 'db'",
    ),
    "two handlers of one name": (
        "@service.on('order.placed')\nasync def a(): ...\n@service.on('order.paid')\nasync def a(): ...\n",
        r"worker\.py:\d: .*two handlers have the name 'shop_worker\.a'.*|two handlers",
    ),
    "a former name that is another handler's": (
        "@service.on('order.placed')\nasync def a(): ...\n@service.on('order.paid', formerly=['a'])\nasync def b(): ...\n",
        r"worker\.py:\d: .*two handlers have the name 'shop_worker\.a'",
    ),
    "no event type": (
        "@service.on\nasync def a(): ...\n",
        r"worker\.py:\d: .*write @shop_worker\.on\(TYPE\)",
    ),
    "a method": (
        "class Orders:\n    @service.on('order.placed')\n    async def a(self, data): ...\n",
        r"worker\.py:\d: Orders\.a: a handler is a function: nothing would make the 'self'",
    ),
    "a module that ends the process": (
        "import sys\nsys.exit(3)\n",
        r"worker\.py:4: it ends the process \(exit code 3\) when it is imported",
    ),
    "run at import": ("service.run()\n", r"worker\.py:3: service\.run\(\) stands under `if __name__ =="),
    "no handler": ("", r"worker\.py: it subscribes to nothing"),
    "a service of another variable": (
        "shop, billing = service, Service('billing_worker')\ndel service\n",
        r"worker\.py: its Service should be called `service`, and is called shop, billing",
    ),
    "a circular import": (
        "from worker import nothing\n",
        r"worker\.py:3: ImportError: .*circular import",
    ),
    "a mistake of syntax": ("async def a() -> None\n    pass\n", r"worker\.py: SyntaxError: expected ':'"),
    "import that fails": (
        "import nothing_of_this_name\n",
        r"worker\.py:3: ModuleNotFoundError: .*nothing_of_this_name",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `streammesh check` says of each mistake; one process for all."""
    root = tmp_path_factory.mktemp("mistakes")
    for number, (text, _) in enumerate(MISTAKES.values()):
        (root / f"n{number}").mkdir()
        (root / f"n{number}" / "worker.py").write_text(HEAD + text)
    program = (
        "import sys, json; from pathlib import Path; from streammesh.cli.check import check_worker\n"
        "for n in range(int(sys.argv[1])):\n"
        "    print(json.dumps(check_worker('worker.py', Path(f'n{n}').resolve()).problems)); sys.modules.pop('worker', None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(len(MISTAKES))],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(MISTAKES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_with_its_line(said, mistake):
    assert re.search(MISTAKES[mistake][1], said[mistake]), said[mistake]
    assert "Traceback" not in said[mistake]


def test_a_worker_that_is_not_there_is_said_with_those_that_are(tmp_path):
    (tmp_path / "worker.py").write_text(HEAD)
    (tmp_path / "second.py").write_text(HEAD)
    assert "say: streammesh check second.py" in check_worker("second", tmp_path).problems[0]
    assert "the workers here are shop_worker" in check_worker("third", tmp_path).problems[0]


class Order(BaseModel):
    order_id: int
    lines: list[dict[str, int]]


def test_a_payload_that_does_not_fit_names_the_field_and_the_event():
    async def confirm(order: Order) -> None: ...

    event = build("shop", "order.placed", {"order_id": "seven", "lines": [{"n": "x"}]}, id="e-1")
    with pytest.raises(Reject) as found:
        bind(confirm).arguments(event, None)
    said = str(found.value)
    assert "order.placed e-1 does not fit confirm" in said
    assert "/order_id: " in said and "/lines/0/n: " in said


def test_decorators_keep_the_types_of_what_they_decorate():
    service = Service("typed_worker")

    @service.on("order.placed")
    async def confirm(order: Order, ctx: Context) -> int:
        return order.order_id

    @service.on("order.paid")
    def paid(order: Order) -> str:
        return str(order.order_id)

    order = Order(order_id=7, lines=[])
    assert_type(paid(order), str)
    called: Coroutine[Any, Any, int] = confirm(order, Context)  # type: ignore[arg-type]
    called.close()
