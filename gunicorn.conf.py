"""How the web process serves: threads, because a request waits for the database, not the CPU."""

import os
import sys
from pathlib import Path
from typing import Any

from dotenv import load_dotenv

from config import Settings, SettingsError

load_dotenv(".env")  # `flask` reads it by itself, gunicorn does not
try:
    settings = Settings.from_env(os.environ)
except SettingsError as error:
    # Read here too, so that a wrong setting is one clear answer and not a worker dying in a loop.
    print(error, file=sys.stderr)  # noqa: T201 - nothing logs yet
    raise SystemExit(2) from None

bind = f"0.0.0.0:{settings.port}"
workers = settings.web_concurrency
worker_class = "gthread"
threads = settings.web_threads
timeout = 30  # seconds; Stripe is given less than that in any request
graceful_timeout = 20  # seconds to finish requests; a dyno is killed 30 s after SIGTERM
keepalive = 75  # seconds; longer than the usual 60 s of a proxy, so that the proxy closes first
control_socket_disable = True  # one file for every gunicorn of a user; signals are enough for us
# A heartbeat on a slow disk would look like a hung worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def post_worker_init(worker: Any) -> None:
    """Let open streams end with their worker, which would wait for them in vain otherwise."""
    streams = getattr(worker.wsgi, "extensions", {}).get("streams")
    if streams is not None:
        streams.is_closing = lambda: not worker.alive
