"""The archiver's own settings, beside the mesh's."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.setting_kinds import Duration


class ArchiverSettings(BaseSettings):
    """Environment variables `ARCHIVER_*`."""

    model_config = SettingsConfigDict(
        env_prefix="ARCHIVER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    batch: int = Field(
        1_000, ge=1, le=10_000, description="Most entries of one stream that are written together."
    )
    linger: Duration = Field(
        timedelta(seconds=10),
        description="How long an event is left before it is archived: one that has ended by then is written once.",
    )
    reclaim_idle: Duration = Field(
        timedelta(minutes=2), description="Entries that an archiver held this long are taken over by another."
    )
    look_every: Duration = Field(
        timedelta(seconds=15),
        description="How often events that had not ended when they were archived are looked at, and dead letters.",
    )

    @field_validator("reclaim_idle", "look_every")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=100):
            raise ValueError("should be at least 100ms")
        return value
