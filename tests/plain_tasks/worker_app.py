"""The app of a worker process: where it is is in its environment."""

import os

from tests.plain_tasks import make_app

app = make_app(
    os.environ["PLAIN_REDIS"],
    os.environ["PLAIN_NAMESPACE"],
    float(os.environ["PLAIN_LEASE"]),
    int(os.environ["PLAIN_PREFETCH"]),
)
