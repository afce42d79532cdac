"""`python -m tests.probe`."""

from tests.probe import exits, plain, stubborn  # noqa: F401 - more handlers, and tasks
from tests.probe.service import service

service.run()
