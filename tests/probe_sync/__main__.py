"""`python -m tests.probe_sync`."""

from tests.probe_sync.service import service

service.run()
