"""A document and its charts as a PDF, with typst."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import typst

from services.report_worker.document import Document
from services.report_worker.fonts import LAYOUT, families, fonts, missing, spelled_out
from services.report_worker.source_table import SourceError, quoted

TEMPLATE = LAYOUT / "report.typ"
STANDARD: Any = "ua-1"  # PDF/UA-1: tagged, so that a screen reader can read it
# typst's words when PDF/UA cannot be had: for want of a font, and for Thai or Hindi, whose letters are all drawn but
# cannot all be copied out of the PDF again.
LETTER_MISSING = re.compile(r'the text `"(.*)"` could not be displayed')
NOT_COPIED = "missing codepoints"


class TypesettingError(RuntimeError):
    """The template did not take the document. It is a fault of this worker, not of the request."""


def check_letters(document: Document) -> None:
    """Raises SourceError where no font has a letter of the document: it would be an empty box."""
    if letters := missing("\n".join(_texts(document))):
        text = next((one for one in _texts(document) if any(letter in one for letter in letters)), "")
        raise _no_letters(letters, text)


def with_letters_spelled_out(document: Document) -> Document:
    """Return the document with `[U+1F9EA]` for each letter that no font has."""
    letters = missing("\n".join(_texts(document)))
    return _mapped(document, letters) if letters else document


def typeset(document: Document, charts: Sequence[str | None], *, made: datetime) -> tuple[bytes, int]:
    """Return (PDF, number of pages). The same arguments give the same bytes. The PDF is PDF/UA where it can be.

    Raises SourceError for a letter that no font has (`check_letters` knows it before), and TypesettingError.
    """
    compiler = _compiler(document, charts)
    made = made.astimezone(UTC).replace(microsecond=0)  # PDF dates, and typst, know whole seconds
    try:
        try:
            pdf = compiler.compile(format="pdf", pdf_standards=STANDARD, timestamp=made)
        except typst.TypstError as error:
            if not _is_all_there(error.message):
                raise
            pdf = compiler.compile(format="pdf", timestamp=made)
        pages = orjson.loads(compiler.query("<pages>", field="value", one=True))
    except typst.TypstError as error:
        if found := LETTER_MISSING.search(error.message):
            raise SourceError(
                f"no font here can set the sequence {found[1]}; leave it out, or have a font installed for it"
            ) from None
        raise TypesettingError(f"{error.message} {' '.join(error.hints)}".strip()) from None
    assert isinstance(pdf, bytes)
    return pdf, int(pages)


def pictures(document: Document, charts: Sequence[str | None], *, ppi: float = 144) -> list[bytes]:
    """Every page as a PNG, for documentation and for looking at."""
    format: Literal["png"] = "png"
    images = _compiler(document, charts).compile(format=format, ppi=ppi)
    return list(images) if isinstance(images, list) else [images] if images else []


def _is_all_there(trouble: str) -> bool:
    """Whether every letter is drawn, though the PDF cannot be PDF/UA."""
    found = LETTER_MISSING.search(trouble)
    return NOT_COPIED in trouble or (
        found is not None and not found[1].strip("\u200b\u200c\u200d\ufe0e\ufe0f")
    )


def _compiler(document: Document, charts: Sequence[str | None]) -> typst.Compiler:
    text = "".join(_texts(document))
    return typst.Compiler(
        input=TEMPLATE,
        root=LAYOUT,
        font_paths=fonts(),
        sys_inputs={
            "document": orjson.dumps(document).decode(),
            "charts": orjson.dumps(list(charts)).decode(),
            "fonts": orjson.dumps(families(text)).decode(),
        },
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a document, those of its charts too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _mapped(value: Any, letters: Sequence[str]) -> Any:
    if isinstance(value, str):
        return spelled_out(value, letters)
    if isinstance(value, dict):
        return {name: _mapped(each, letters) for name, each in value.items()}
    return [_mapped(each, letters) for each in value] if isinstance(value, list | tuple) else value


def _no_letters(letters: Sequence[str], text: str) -> SourceError:
    shown = ", ".join(f"{letter!r} (U+{ord(letter):04X})" for letter in letters[:5])
    return SourceError(
        f"no font here has {shown}, which is in {quoted(text)}; leave it out, or have a font installed for it"
    )
