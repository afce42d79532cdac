"""The audit worker's own settings: environment variables `AUDIT_*` and `.env`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AuditSettings(BaseSettings):
    """What the audit worker needs beside the mesh's settings."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIT_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    file: Path = Field(
        Path("var/audit/audit.jsonl"), description="The audit log; all workers of one machine may share it."
    )
