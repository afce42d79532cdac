"""`python -m services.email_worker` runs the worker."""

from __future__ import annotations

from services.email_worker.handlers import mailroom, service

if __name__ == "__main__":
    mailroom()  # a wrong setting or a broken template is told now, not at the first mail
    service.run()
