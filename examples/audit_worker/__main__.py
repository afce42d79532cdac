"""`python -m services.audit_worker` runs the worker."""

from __future__ import annotations

from .handlers import journal, service

if __name__ == "__main__":
    journal()  # a wrong setting is told now, not at the first event
    service.run()
