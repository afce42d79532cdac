"""What a text from outside may hold that ends up in a mail: one line, something to read, no link. Pure."""

from __future__ import annotations

import re
import unicodedata

UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
OVERRIDES = "\u202d\u202e"  # they turn the letters after them around, so that another name is read
# What a mail program makes a link of: an address of the web or of mail, or a bare domain. The ideographic full stop
# stands for a dot too, and ends sentences: between Latin letters alone it is taken for one.
_LINK = re.compile(
    r"://|\bwww\.|\S@\S|(?<![\w.-])(?:[\w-]+\.)+(?:[^\W\d_]{2,63}|xn--[\w-]+)(?![\w-])"
    r"|(?<![\w.-])(?:[a-z0-9-]+[.\u3002])+[a-z]{2,63}(?![\w-])",
    re.IGNORECASE,
)


def one_line(text: str) -> str:
    """Return the text. Raises ValueError for a control character, a line end, half a character, nothing to read."""
    for at, letter in enumerate(text, start=1):
        if unicodedata.category(letter) in UNSEEN or letter in OVERRIDES:
            raise ValueError(
                f"character {at} (U+{ord(letter):04X}) is a control character or a line end; leave it out"
            )
    if text and not _read(text).strip():
        raise ValueError("holds nothing that can be read")
    return text


def link_in(text: str) -> str | None:
    """Return what a mail program would make a link of."""
    found = _LINK.search(_read(text))
    return found[0] if found else None


def _read(text: str) -> str:
    """The text as it is read: without letters that are not seen, and with one form of each that looks like another."""
    return unicodedata.normalize("NFKC", "".join(one for one in text if unicodedata.category(one) != "Cf"))
