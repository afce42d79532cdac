"""Whether the process of this container is at work: exit code 0 or 1, with one line that says why not.

python healthy.py                                  /readyz on the process's own health port
python healthy.py /livez                           another page there
python healthy.py http://127.0.0.1:5555/healthcheck
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 3


def page(url: str) -> str | None:
    """Why the page is not fine, or None."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}: {_said(error.read(4096))}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def _said(body: bytes) -> str:
    try:
        parts = json.loads(body)["parts"]
        return "; ".join(f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"])
    except (ValueError, KeyError, TypeError):
        return "no details"


def main() -> None:
    usual = "/readyz"
    if (
        Path(__file__).parent / "services" / "flower"
    ).exists():  # no process of the mesh; it has a page of its own
        usual = f"http://127.0.0.1:{os.environ.get('FLOWER_PORT') or 5555}/healthcheck"
    asked = sys.argv[1] if len(sys.argv) > 1 else usual
    here = f"http://127.0.0.1:{os.environ.get('MESH_HEALTH_PORT') or 8090}"
    wrong = page(asked if "://" in asked else here + asked)
    if wrong:
        raise SystemExit(wrong)


if __name__ == "__main__":
    main()
