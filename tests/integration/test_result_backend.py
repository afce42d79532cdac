"""Who may send a chord's body: Celery's own script on a real server, through what the mesh puts around it."""

from __future__ import annotations

import time

import pytest
from streammesh.worker.app import make_app
from streammesh.worker.result_backend import MeshBackend

KEYS = ("j", "t", "s", "d", "g", "c")  # results, difference, size, done parts, group, claim
SECONDS = 1  # that a claim lasts


@pytest.fixture
def backend(mesh_settings):
    return make_app("billing", mesh_settings).backend


@pytest.fixture
def returns(backend, mesh_settings):
    keys = [f"{mesh_settings.namespace}:{key}" for key in KEYS]
    backend.client.set(keys[2], 2)

    def part(task, token):
        args = [task, f"result of {task}", 1, {"a": 0, "b": 1}[task], 60, 60, SECONDS, token]
        return backend._chord_part_return_script(keys=keys, args=args, client=backend.client)[3]

    return part


def test_a_service_uses_it(backend):
    assert isinstance(backend, MeshBackend)


def test_the_last_part_claims_the_body_and_no_other(returns):
    assert [returns("a", "first"), returns("b", "second")] == [0, 1]


def test_a_call_that_was_repeated_because_its_reply_was_lost_still_has_its_claim(returns):
    returns("a", "first")

    assert [returns("b", "second"), returns("b", "second")] == [1, 1]


def test_a_part_that_is_run_again_after_its_worker_was_killed_gets_the_claim_when_it_has_run_out(returns):
    returns("a", "first")
    returns("b", "killed")
    began = time.monotonic()

    assert returns("b", "another") == 1
    assert time.monotonic() - began > SECONDS / 2


def test_nobody_claims_a_body_that_was_sent(returns, backend, mesh_settings):
    returns("a", "first")
    returns("b", "second")
    j, t, s, d, _, c = (f"{mesh_settings.namespace}:{key}" for key in KEYS)
    backend._chord_cleanup_script(keys=[c, j, t, s, d], args=["second", 60], client=backend.client)

    assert returns("b", "again") == 0
