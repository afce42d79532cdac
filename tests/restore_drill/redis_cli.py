"""As much of `redis-cli` as `docs/backup.md` uses, where none is installed: `-u URL`, one command, its answer."""

from __future__ import annotations

import sys
from typing import Any

import redis


def main(words: list[str]) -> int:
    """Print the answer as redis-cli does when it is not on a terminal."""
    url, command = words[1], words[2:]
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=10) as client:
        client.response_callbacks.clear()
        try:
            answer: Any = client.execute_command(*command)
        except redis.ConnectionError as error:
            if command[0].upper() == "SHUTDOWN":
                return 0
            sys.stderr.write(f"Could not connect: {error}\n")
            return 1
        except redis.RedisError as error:
            sys.stdout.write(f"{error}\n")
            return 0
    lines = answer if isinstance(answer, list) else [answer]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
