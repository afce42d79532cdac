"""The dispatcher's own settings, beside the mesh's."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.setting_kinds import Duration


class DispatcherSettings(BaseSettings):
    """Environment variables `DISPATCHER_*`."""

    model_config = SettingsConfigDict(
        env_prefix="DISPATCHER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    batch: int = Field(200, ge=1, le=1_000, description="Most events handed over in one call.")
    block: Duration = Field(timedelta(seconds=5), description="How long an idle lane waits in one read.")
    reclaim_idle: Duration = Field(
        timedelta(seconds=5), description="Entries that a dispatcher held this long are taken over."
    )
    reclaim_every: Duration = Field(
        timedelta(seconds=3), description="How often a lane looks for entries to take over."
    )
    janitor_every: Duration = Field(
        timedelta(seconds=30), description="How often tasks that lie nowhere are looked for."
    )
    janitor_after: Duration = Field(
        timedelta(minutes=1),
        description="A task that lies nowhere is queued again when it is older than this.",
    )
    trim_every: Duration = Field(
        timedelta(minutes=1), description="How often events older than MESH_RETENTION are removed."
    )
    dead_letters_kept: Duration = Field(
        timedelta(days=30), description="Dead letters that nobody replayed are dropped after this."
    )

    @field_validator("dead_letters_kept")
    @classmethod
    def _minutes(cls, value: timedelta) -> timedelta:
        if value < timedelta(minutes=1):
            raise ValueError("should be at least 1m")
        return value

    @field_validator("trim_every")
    @classmethod
    def _tenths(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=100):
            raise ValueError("should be at least 100ms")
        return value
