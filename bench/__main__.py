"""``python -m bench``: one JSON line per figure on stdout, progress and a table on stderr."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import ExitStack

from bench.figures import Figure
from bench.rounds import FULL, QUICK, Bench, WorkNotDone
from bench.servers import Servers, Unavailable


def main() -> int:
    """Measure and print. Answers 0, whether or not the goals are met; 1 when one side did not do
    its work, 2 when a program is missing."""
    asked = _arguments()
    scale = QUICK if asked.quick else FULL
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with us
    with ExitStack() as stack:
        try:
            servers = Servers(stack)
            bench = Bench(servers, scale)
            for number in range(1, (asked.rounds or scale.rounds) + 1):
                bench.measure_round()
                _say(f"round {number}: {bench.last_round()}")
        except Unavailable as reason:
            _say(f"not measured: {reason}")
            return 2
        except WorkNotDone as reason:
            _say(f"not measured: {reason}\n{servers.last_words()}")
            return 1
        figures = bench.figures()
    for figure in figures:
        print(json.dumps(figure.as_dict()), flush=True)
    _say(_table(figures))
    load = os.getloadavg()[1]
    _say(f"{os.cpu_count()} cores, load {load:.1f}, {time.monotonic() - started:.0f} s")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each pair is measured")
    parser.add_argument(
        "--quick", action="store_true", help="one tiny round: shows that it works, not how fast"
    )
    return parser.parse_args()


def _table(figures: list[Figure]) -> str:
    rows = [("figure", "ratio", "goal", "")]
    rows += [
        (figure.name, f"{figure.ratio:.2f}", figure.goal_text, "met" if figure.met else "MISSED")
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
