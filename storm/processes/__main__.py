"""``make storm``: one storm of processes, with a line that lives, and a page at the end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from storm.processes.house import ROOT, DidNotStart
from storm.processes.page import written
from storm.processes.run import Result, blow
from storm.processes.servers import Unavailable

PAGE = ROOT / "instance" / "storm.html"
CLEAR = "\r\x1b[2K"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="chooses faults and shoppers")
    parser.add_argument("--checkouts", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long it blows")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the report goes")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of all processes")
    parser.add_argument("--json", action="store_true", help="figures as JSON on the last line")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        result = blow(
            seed=asked.seed,
            checkouts=max(1, asked.checkouts),
            minutes=max(0.1, asked.minutes),
            say=_say,
            keep=asked.keep,
        )
    except (Unavailable, DidNotStart) as error:
        _clear()
        print(f"The storm cannot blow: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _clear()
        print("Interrupted; nothing was proved.", file=sys.stderr)
        return 130
    _clear()
    written(result, asked.page)
    print(json.dumps(result.figures()) if asked.json else _summary(result))
    print(f"report: {asked.page}", file=sys.stderr)
    return 0 if result.holds else 1


def _interrupted(*_: Any) -> None:
    """SIGTERM ends a storm as Ctrl-C does, with everything that it started."""
    raise KeyboardInterrupt


def _summary(result: Result) -> str:
    lines = [f"  {name}: {figure}" for name, figure in result.figures().items()]
    for name, found in result.verdict.broken.items():
        lines += [f"BROKEN {name}: {text}" for text in found[:10]]
    lines += [f"STILL PENDING {text}" for text in result.verdict.pending[:10]]
    lines += [f"5xx {code} {path}" for _, code, path in result.failures_outside[:10]]
    lines.append("Every promise held." if result.holds else "NOT every promise held.")
    return "\n".join(lines)


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR + line[:150])
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR)


if __name__ == "__main__":
    sys.exit(main())
