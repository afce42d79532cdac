"""Which encoding the bytes of a text file are in: the one that was said, else what its bytes show, else a guess.

A byte order mark and valid UTF-8 are proof; anything else is a guess of charset-normalizer among the encodings that
spreadsheets and databases write. A guess is printed in the report, and `source.encoding` overrules it.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass

from charset_normalizer import from_bytes

from services.report_worker.source_table import SourceError, counted_lines

# What is said is read as browsers read it (WHATWG Encoding): the superset that programs really write under the name.
_READ_AS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "tis-620": "cp874",
    "iso8859-11": "cp874",
    "big5": "big5hkscs",
}
_GUESSED = (
    *("cp1252", "cp932", "euc_jp", "gb18030", "big5", "cp949", "cp874", "cp1250", "cp1251", "cp1253"),
    *("cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman", "cp850", "cp866"),
)
_KNOWN = frozenset(
    {codecs.lookup(name).name for name in (*_GUESSED, *_READ_AS.values(), *_READ_AS)}
    | {codecs.lookup(f"iso8859-{part}").name for part in (*range(1, 12), *range(13, 17))}
    | {"utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
    | {"cp437", "cp852", "cp1258", "koi8-u", "iso2022_jp", "shift_jisx0213", "mac-cyrillic"}
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 65_536  # bytes of lines beyond ASCII that a guess looks at
_SHOWN = {"cp932": "Shift_JIS (cp932)", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-16": "UTF-16"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec's name and how it is known; `guessed` where the bytes would be valid text in another one, too."""

    name: str
    guessed: bool = False

    @property
    def words(self) -> str:
        """How a report says it; empty for UTF-8, which nobody has to be told."""
        if self.name.startswith("utf-8"):
            return ""
        shown = _SHOWN.get(self.name, self.name)
        return f"read as {shown}, which was guessed" if self.guessed else f"read as {shown}"


def known(name: str) -> str:
    """Return the codec for the name of an encoding. Raises ValueError for one that is not read here."""
    try:
        found = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        found = ""
    if found not in _KNOWN:
        raise ValueError("should be the name of a text encoding such as utf-8, utf-16, cp1252 or shift_jis")
    return _READ_AS.get(found, found)


def encoding_of(body: bytes, said: str | None = None) -> Encoding:
    """Return the encoding of a text. Raises SourceError where it is not valid in the one that was said."""
    marked = next((name for mark, name in _MARKS if body.startswith(mark)), None)
    if said is not None:
        name = known(said)
        # Excel writes a mark and people say "utf-16-le" all the same: the mark must not end up in the first name.
        encoding = Encoding(marked if marked and marked[:6] == name[:6] else name)
    else:
        encoding = Encoding(marked) if marked else _recognised(body)
    _must_be_valid(body, encoding)
    return encoding


def _recognised(body: bytes) -> Encoding:
    if wide := _without_mark(body[:_SAMPLE]):
        return Encoding(wide, guessed=True)
    try:
        body.decode()
    except UnicodeDecodeError:
        pass
    else:
        return Encoding("utf-8")
    if b"\x00" in body[:_SAMPLE]:
        line = body[: body.index(b"\x00")].count(b"\n") + 1
        raise SourceError(f"line {line} contains a NUL byte; is it really a text file?")
    matches = from_bytes(_sample(body), cp_isolation=list(_GUESSED))
    best = matches.best()
    if best is None:
        line = _first_beyond_ascii(body)
        raise SourceError(
            f"line {line} is not UTF-8, nor clearly another encoding; say which with `encoding`"
        )
    # Where nothing tells them apart, the encoding of Western Europe's Windows is by far the likeliest.
    alike = (m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence))
    names = {name for match in alike for name in match.could_be_from_charset}
    return Encoding("cp1252" if "cp1252" in names else best.encoding, guessed=True)


def _without_mark(start: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of Latin text is NUL."""
    half = len(start) // 2
    if half and start[1::2].count(0) > 0.3 * half and start[::2].count(0) == 0:
        return "utf-16-le"
    if half and start[::2].count(0) > 0.3 * half and start[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _sample(body: bytes) -> bytes:
    lines: list[bytes] = []
    size = 0
    for line in io.BytesIO(body):
        if not line.isascii():
            lines.append(line[:_SAMPLE])
            size += len(line)
            if size > _SAMPLE:
                break
    return b"".join(lines)


def _first_beyond_ascii(body: bytes) -> int:
    return next((number for number, line in enumerate(io.BytesIO(body), 1) if not line.isascii()), 1)


def _must_be_valid(body: bytes, encoding: Encoding) -> None:
    decoder = codecs.getincrementaldecoder(encoding.name)()
    line, character = 1, 1
    for piece in _pieces(body):
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            text = error.object[: error.start].decode(encoding.name, "replace")
            line, character = counted_lines(text, line, character)
            hint = "; save it as UTF-8" if encoding.name.startswith("utf-8") else "; say which it is in"
            if encoding.guessed:
                hint = "; say which encoding it is in with `encoding`"
            raise SourceError(
                f"line {line}, character {character} is not valid {encoding.name}{hint}"
            ) from None
        line, character = counted_lines(text, line, character)


def _pieces(body: bytes) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), 1 << 20):
        yield bytes(view[start : start + (1 << 20)])
    yield b""
