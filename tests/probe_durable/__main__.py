"""`python -m tests.probe_durable`."""

from tests.probe_durable.service import service

service.run()
