"""The fonts that reports are set in, and which letters they have.

IBM Plex Sans lies beside the layout; two packages carry the Noto fonts for the other scripts (Chinese, Japanese,
Korean, Arabic, Hebrew, Thai, the scripts of India, emoji in black and white). Fonts of the machine come last.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import manimgx_fonts
import manimgx_fonts_cjk
import typst
from fontTools.ttLib import TTFont

LAYOUT = Path(__file__).parent / "layout"
MAIN = "IBM Plex Sans"
# Chinese characters look different in each of these; what else a text is written in tells which it is.
_HAN = {"jp": "Noto Sans CJK JP", "kr": "Noto Sans CJK KR", "sc": "Noto Sans CJK SC"}
_FOLDERS = [LAYOUT / "fonts", *(Path(package.__path__[0]) for package in (manimgx_fonts, manimgx_fonts_cjk))]
_KANA = range(0x3040, 0x3100)
_HANGUL = (range(0x1100, 0x1200), range(0xAC00, 0xD7B0))
# Letters that are never drawn themselves: joiners, variation selectors, soft hyphens.
_UNSEEN = frozenset({"Cf", "Cc", "Zs", "Zl", "Zp"})
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


@lru_cache(maxsize=1)
def fonts() -> typst.Fonts:
    """Return the fonts as typst takes them; opening them takes half a second, once a process."""
    folders: list[Any] = list(_FOLDERS)
    return typst.Fonts(include_system_fonts=True, include_embedded_fonts=False, font_paths=folders)


def families(text: str) -> list[str]:
    """Return the names of the fonts for a document with this text, the first one that has a letter sets it."""
    letters = set(map(ord, text))
    kana = any(letter in _KANA for letter in letters)
    hangul = any(letter in block for letter in letters for block in _HANGUL)
    first = "jp" if kana else "kr" if hangul else "sc"
    return [MAIN, "Noto Sans", _HAN[first], *_others(), "Noto Emoji"]


def missing(text: str) -> list[str]:
    """Return the letters of a text that no font has, each once, in their order."""
    wanted = dict.fromkeys(unicodedata.normalize("NFC", text))
    left = [letter for letter in wanted if not _is_unseen(letter)]
    for covered in _coverage():
        left = [letter for letter in left if ord(letter) not in covered]
        if not left:
            break
    return left


def spelled_out(text: str, letters: Iterable[str]) -> str:
    """Return the text with `[U+1F9EA]` for each of these letters, which no font has."""
    for letter in letters:
        text = text.replace(letter, f"[U+{ord(letter):04X}]")
    return text


@lru_cache(maxsize=1)
def _others() -> tuple[str, ...]:
    ours = {font.family for font in fonts().fonts() if _is_ours(font)} - {MAIN, "Noto Sans", "Noto Emoji"}
    return tuple(sorted(name for name in ours if "CJK" not in name))


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSEEN or any(ord(letter) in block for block in _SELECTORS)


def _is_ours(font: Any) -> bool:
    return font.path is not None and any(Path(font.path).is_relative_to(folder) for folder in _FOLDERS)


def _coverage() -> Iterator[frozenset[int]]:
    """Yield the code points of each font, those of the machine last and only when nothing else has a letter."""
    return map(_letters, _paths())


@lru_cache(maxsize=1)
def _paths() -> tuple[str, ...]:
    # The other faces of a collection have the same letters as its first.
    found = {str(font.path): _is_ours(font) for font in fonts().fonts() if font.path and font.index == 0}
    return tuple(sorted(found, key=lambda path: (not found[path], Path(path).stat().st_size)))


@lru_cache(maxsize=512)
def _letters(path: str) -> frozenset[int]:
    with TTFont(path, fontNumber=0, lazy=True) as font:
        table: Iterable[int] = font.getBestCmap() or ()
        return frozenset(table)
