"""`python -m tests.probe_queues`."""

from tests.probe_queues.service import service

service.run()
