"""A pytest plugin: the pool of the worker that all of Celery's integration tests share."""

from __future__ import annotations

import os
from typing import Any

import pytest

POOL = "CELERY_SUITE_POOL"


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> str | None:
    """Answer the fixture `celery_worker_pool`, which says `prefork`, in its place."""
    if fixturedef.argname != "celery_worker_pool":
        return None
    fixturedef.cached_result = (os.environ[POOL], fixturedef.cache_key(request), None)
    return os.environ[POOL]
