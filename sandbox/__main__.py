"""``python -m sandbox``: serve a sandbox until it is interrupted."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from pathlib import Path

from . import create_sandbox


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--webhook-url", help="where events are sent; none if left out")
    parser.add_argument(
        "--webhook-secret", default="whsec_sandbox", help="several: comma-separated"
    )
    parser.add_argument("--journal", type=Path, help="file that keeps the ledger over restarts")
    parser.add_argument("--seed", type=int, default=0, help="of ids and of chaos")
    parser.add_argument("--public-url", help="how browsers reach it, if not by host and port")
    args = parser.parse_args()
    box = create_sandbox(
        webhook_url=args.webhook_url,
        webhook_secret=args.webhook_secret,
        journal=args.journal,
        seed=args.seed,
        public_url=args.public_url,
    )
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    try:
        box.start(args.host, args.port)
    except (OSError, SystemExit) as error:
        sys.stderr.write(f"The sandbox cannot listen on {args.host}:{args.port}: {error}\n")
        return 1
    sys.stdout.write(f"Sandbox at {box.url}/_sandbox/\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        done.wait()
    box.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
