"""Exit code 0 when Flower answers where its settings put it: `python -m services.flower.healthy` in its image."""

from __future__ import annotations

import sys
import urllib.request

from streammesh.settings import load_settings

from .settings import FlowerSettings

SECONDS = 5


def main() -> int:
    url = load_settings(FlowerSettings).health_url
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return 0
    except OSError as error:
        sys.stderr.write(f"{url} does not answer well: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
