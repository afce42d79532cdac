"""A hook of the documentation's site: links to files beside docs/ go to the repository. One that leads nowhere fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Called with each page. Raises FileNotFoundError."""

    def link(found: re.Match[str]) -> str:
        if not (ROOT / found[1]).exists():
            raise FileNotFoundError(f"docs/{page.file.src_uri}: ../{found[1]} is not there")
        return f"]({config['repo_url']}/blob/main/{found[1]}{found[2] or ''})"

    return OUTSIDE.sub(link, markdown)
