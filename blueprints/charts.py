"""Lines and bars drawn by the server; a line also in words and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

WIDTH, HEIGHT, EDGE = 240, 60, 3


def line(
    title: str,
    starts: Sequence[datetime],
    values: Sequence[float | None],
    words: Callable[[float | None], str],
    *,
    bottom: float = 0.0,
    top: float,
    goal: float | None = None,
    span: tuple[str, str] = ("24 hours", "hour"),
) -> dict[str, Any]:
    """A line of one value for each part of a ``span``, which is named by its whole and its part.
    ``bottom`` and ``top`` are shown at least; a part without a value is a gap, and one between two
    gaps a dot."""
    there = [value for value in values if value is not None]
    low, high = min([bottom, *there]), max([top, *there])

    def height(value: float) -> float:
        return round(HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2 * EDGE), 1)

    step = (WIDTH - 2 * EDGE) / max(1, len(values) - 1)
    spots = [
        None if value is None else f"{EDGE + number * step:.1f},{height(value)}"
        for number, value in enumerate(values)
    ]
    return {
        "title": title,
        "summary": _summary(title, there, words, values, span),
        "strokes": [" ".join(run if len(run) > 1 else run * 2) for run in _runs(spots)],
        "goal_y": None if goal is None else height(goal),
        "goal": None if goal is None else words(goal),
        "high": words(high),
        "low": words(low),
        "rows": [(start, words(value)) for start, value in zip(starts, values, strict=True)],
        "is_empty": not there,
    }


def shares(**parts: int) -> list[tuple[str, float, float]]:
    """Each part of a bar of 100: its name, where it begins, how wide it is. No part, no bar."""
    whole = sum(parts.values()) or 1
    there, start = [], 0.0
    for name, part in parts.items():
        width = 100 * part / whole
        if part:
            there.append((name, round(start, 1), round(width, 1)))
        start += width
    return there


def _summary(
    title: str,
    there: list[float],
    words: Callable[[float | None], str],
    values: Sequence[float | None],
    span: tuple[str, str],
) -> str:
    whole, part = span
    if not there:
        return f"{title}: nothing in the last {whole}."
    now = (
        f"in the last {part} {words(values[-1])}"
        if values[-1] is not None
        else f"nothing in the last {part}"
    )
    return f"{title}: between {words(min(there))} and {words(max(there))}, {now}."


def _runs(spots: list[str | None]) -> list[list[str]]:
    """What hangs together, between the gaps."""
    runs: list[list[str]] = [[]]
    for spot in spots:
        if spot:
            runs[-1].append(spot)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
