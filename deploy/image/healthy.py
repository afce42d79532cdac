"""Whether the service in this container is at work: exit code 0 or 1, with one line that says why not.

python healthy.py http://127.0.0.1:8000/readyz     a page answers 200
python healthy.py                                  a process of this container told Redis that it is alive
"""

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from socket import gethostname

FRESH_SECONDS = 30  # signs of life come every few seconds; a busy machine may delay some


def page(url: str) -> str | None:
    """Why the page is not fine, or None."""
    try:
        with urllib.request.urlopen(url, timeout=3):
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def sign_of_life(role: str) -> str | None:
    """Why no process of this container counts as alive in that role, or None."""
    from streammesh.keys import Keys
    from streammesh.redisio.client import open_sync
    from streammesh.settings import MeshSettings, load_settings

    settings = load_settings(MeshSettings)
    redis = open_sync(settings, "health")
    since = (time.time() - FRESH_SECONDS) * 1000
    names = redis.zrangebyscore(Keys(settings.namespace).alive(role), since, "+inf")
    if any(name.decode().startswith(f"{role}@{gethostname()}:") for name in names):
        return None
    return f"no sign of life of {role} on {gethostname()} for {FRESH_SECONDS} s"


def main() -> None:
    if len(sys.argv) > 1:
        wrong = page(sys.argv[1])
    else:
        services = Path(__file__).parent / "services"
        wrong = sign_of_life(next(services.glob("*/__main__.py")).parent.name)
    if wrong:
        raise SystemExit(wrong)


if __name__ == "__main__":
    main()
