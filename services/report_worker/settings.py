"""The report worker's own settings: environment variables `REPORT_*` and `.env`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.setting_kinds import Duration

STORE_SCHEMES = ("s3", "gs", "az", "file")


class ReportSettings(BaseSettings):
    """What the report worker needs beside the mesh's settings. One instance per process."""

    model_config = SettingsConfigDict(
        env_prefix="REPORT_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    store_url: str = Field(
        "var/store",
        description="Where reports are kept: a local folder, or s3://bucket/prefix (also gs://, az://).",
    )
    organisation: str = Field(
        "streammesh", min_length=1, max_length=60, description="The name in the header of every page."
    )
    max_source_bytes: int = Field(
        33_554_432, ge=1024, le=1_073_741_824, description="Largest CSV or JSON that is read, in bytes."
    )
    max_rows: int = Field(200_000, ge=1, le=5_000_000, description="Most rows one report may have.")
    max_cells: int = Field(
        4_000_000, ge=1, description="Most cells (rows times columns) of a source; memory goes into these."
    )
    max_groups: int = Field(
        1_000, ge=1, le=5_000, description="Most different values that `group_by` may have in one report."
    )
    rows_per_part: int = Field(
        1_000, ge=1, description="Rows that one part of the workflow aggregates; parts run in parallel."
    )
    max_parts: int = Field(
        32, ge=1, le=256, description="Most parts one report is split into; larger inputs get larger parts."
    )
    max_operations: int = Field(
        200_000, ge=1, description="Most tasks (and most events) that a report about the mesh itself reads."
    )
    kept: Duration = Field(timedelta(days=30), description="Reports are removed after this; 0s keeps them.")
    uploads_kept: Duration = Field(
        timedelta(days=7), description="Uploaded files are removed after this; 0s keeps them."
    )
    quota: int = Field(
        1_000, ge=1, description="Most reports that are kept for one source (an API key, a schedule)."
    )
    work_kept: Duration = Field(
        timedelta(days=1), description="Intermediate data of reports that never ended is removed after this."
    )

    @field_validator("store_url")
    @classmethod
    def _store_url(cls, value: str) -> str:
        scheme, found, rest = value.partition("://")
        if not value.strip() or (found and (scheme not in STORE_SCHEMES or not rest)):
            raise ValueError(
                "should be a folder such as var/store, or a URL that starts with s3://, gs://, az:// or file://"
            )
        return value
