"""`python -m services.report_worker` runs the worker."""

from __future__ import annotations

from services.report_worker.handlers import service, settings

if __name__ == "__main__":
    settings()  # a wrong setting is told now, not at the first report
    service.run()
