"""`python -m tests.probe_sync`."""

from tests.probe_sync import threads  # noqa: F401 - more handlers
from tests.probe_sync.service import service

service.run()
