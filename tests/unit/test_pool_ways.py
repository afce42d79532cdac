"""In a pool with a loop every delivery is run there, however Celery accepted it: none passes Celery's tracer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.exceptions import TaskRevokedError
from celery.worker import state
from celery.worker.request import create_request_cls
from streammesh import Service
from streammesh.settings import MeshSettings
from streammesh.tasks.task import AttemptOutcome
from streammesh.worker.request import MeshRequest

service = Service("ways", settings=MeshSettings(_env_file=None))


@service.on("way.asked")
async def ask(data: Any) -> None: ...


class Flights:
    """What a pool with a loop has."""

    def __init__(self):
        self.accepted, self.handed_over = [], 0

    def accept(self, request):
        self.accepted.append(request)

    def hand_over(self):
        self.handed_over += 1


class Pool:
    """Celery's side of it."""

    def __init__(self, flights=None):
        self.traced = []
        if flights is not None:
            self.flights = flights

    def apply_async(self, target, **options):
        self.traced.append(options["args"][1])


@pytest.fixture
def request_of():
    """A request as Celery's strategy makes one."""

    def request_of(pool, task_id="one", **headers):
        task = service.celery_app.tasks["ways.ask"]
        made = create_request_cls(MeshRequest, task, pool, "ways@host", None, app=service.celery_app)
        headers = {
            "id": task_id,
            "task": task.name,
            "lang": "py",
            "argsrepr": "",
            "kwargsrepr": "",
            **headers,
        }
        message = SimpleNamespace(
            headers=headers, delivery_tag="t", properties={}, delivery_info={}, body=b"[[{}],{},{}]",
            parsed=[[{"id": "e"}], {}, {}], _decoded_cache=None, channel=SimpleNamespace(), acknowledged=False,
            content_type="application/json", content_encoding="utf-8",
        )  # fmt: skip
        acked = []
        request = made(
            message,
            hostname="ways@host",
            on_ack=lambda *_: acked.append(task_id),
            app=service.celery_app,
            task=task,
            headers=headers,
        )
        return request, acked

    yield request_of
    state.revoked.clear()
    state.reset_state()


def test_what_celerys_strategy_accepted_goes_to_the_loop(request_of):
    flights = Flights()
    pool = Pool(flights)
    request, _ = request_of(pool, eta="2026-01-01T00:00:00Z")

    job = request.execute_using_pool(pool)

    assert (flights.accepted, flights.handed_over, pool.traced) == ([request], 1, [])
    assert request._apply_result() is job is request.job
    assert (request.worker, request.envelope) == ("ways@host", {"id": "e"})


def test_a_pool_without_a_loop_has_celerys_tracer(request_of):
    pool = Pool()
    request, _ = request_of(pool)

    request.execute_using_pool(pool)

    assert pool.traced == ["one"]


def test_what_was_revoked_meanwhile_does_not_begin(request_of, monkeypatch):
    flights = Flights()
    pool = Pool(flights)
    request, _ = request_of(pool)
    ended = []
    monkeypatch.setattr(MeshRequest, "_end", lambda self, ending: ended.append(ending.state))
    state.revoked.add("one")

    with pytest.raises(TaskRevokedError):
        request.execute_using_pool(pool)

    assert (ended, flights.accepted) == (["cancelled"], [])


@pytest.mark.parametrize(
    ("outcome", "said", "final"),
    [("succeeded", "success", "SUCCESS"), ("failed", "failure", "FAILURE"), ("retrying", "retry", "RETRY")],
)
def test_whoever_listens_to_celerys_signals_hears_of_it(request_of, outcome, said, final):
    heard = []
    listened = [
        getattr(signals, f"task_{name}") for name in ("prerun", "success", "failure", "retry", "postrun")
    ]

    def hear(signal=None, sender=None, **about):
        heard.append((signal.name, about.get("state")))

    for signal in listened:
        signal.connect(hear, weak=False)
    try:
        pool = Pool(Flights())
        request, acked = request_of(pool)
        request.execute_using_pool(pool)
        request.tell_begin()
        request.ended(AttemptOutcome(outcome))
    finally:
        for signal in listened:
            signal.disconnect(hear)

    assert heard == [("task_prerun", None), (f"task_{said}", None), ("task_postrun", final)]
    assert acked == ["one"]
