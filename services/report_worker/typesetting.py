"""A document and its charts as a PDF, with typst."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import orjson
import structlog
import typst

from services.report_worker.document import Document

LAYOUT = Path(__file__).parent / "layout"
TEMPLATE = LAYOUT / "report.typ"
STANDARD: Any = "ua-1"  # PDF/UA-1: tagged, so that a screen reader can read it
LETTER_MISSING = "could not be displayed"  # typst's words when PDF/UA cannot be had for want of a font

log = structlog.get_logger()


class TypesettingError(RuntimeError):
    """The template did not take the document. It is a fault of this worker, not of the request."""


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    # The system's fonts are only for letters that IBM Plex Sans has not (CJK, say).
    return typst.Fonts(include_system_fonts=True, font_paths=[LAYOUT / "fonts"])


def typeset(document: Document, charts: Sequence[str | None], *, made: datetime) -> tuple[bytes, int]:
    """(PDF, number of pages). The same arguments give the same bytes. Raises TypesettingError.

    A letter that no font on this machine has is an empty box, and the PDF is then not PDF/UA any more.
    """
    compiler = _compiler(document, charts)
    made = made.astimezone(UTC).replace(microsecond=0)  # PDF dates, and typst, know whole seconds
    try:
        try:
            pdf = compiler.compile(format="pdf", pdf_standards=STANDARD, timestamp=made)
        except typst.TypstError as error:
            if LETTER_MISSING not in error.message:
                raise
            log.warning("report.letters_missing")
            pdf = compiler.compile(format="pdf", timestamp=made)
        pages = orjson.loads(compiler.query("<pages>", field="value", one=True))
    except typst.TypstError as error:
        raise TypesettingError(f"{error.message} {' '.join(error.hints)}".strip()) from None
    assert isinstance(pdf, bytes)
    return pdf, int(pages)


def pictures(document: Document, charts: Sequence[str | None], *, ppi: float = 144) -> list[bytes]:
    """Every page as a PNG, for documentation and for looking at."""
    format: Literal["png"] = "png"
    images = _compiler(document, charts).compile(format=format, ppi=ppi)
    return list(images) if isinstance(images, list) else [images] if images else []


def _compiler(document: Document, charts: Sequence[str | None]) -> typst.Compiler:
    return typst.Compiler(
        input=TEMPLATE,
        root=LAYOUT,
        font_paths=_fonts(),
        sys_inputs={
            "document": orjson.dumps(document).decode(),
            "charts": orjson.dumps(list(charts)).decode(),
        },
    )
