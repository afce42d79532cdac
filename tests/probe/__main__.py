"""`python -m tests.probe`."""

from tests.probe.service import service

service.run()
