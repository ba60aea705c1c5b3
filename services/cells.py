"""Cells of a CSV file that a spreadsheet shows and does not run as a formula."""

from __future__ import annotations

import re

_RUNS = re.compile(r"'*[=+\-@\t\r]")


def guarded(text: str) -> str:
    """Text that would run gets an apostrophe in front, and so does text that only looks guarded:
    ``bare`` brings back exactly what went in."""
    return f"'{text}" if _RUNS.match(text) else text


def bare(text: str) -> str:
    """What ``guarded`` was given."""
    return text[1:] if text.startswith("'") and _RUNS.match(text) else text
