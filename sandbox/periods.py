"""When billing periods begin and end; times are seconds since 1970, in UTC."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import Any

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}


def after(anchor: int, recurring: dict[str, Any], periods: int) -> int:
    """The end of so many periods since ``anchor``.

    Counted from the anchor, not from the period before: what begins on the 31st ends on the 28th
    of February and on the 31st of March.
    """
    interval, count = recurring["interval"], recurring["interval_count"] * periods
    start = datetime.fromtimestamp(anchor, UTC)
    if interval in DAYS:
        return int((start + timedelta(days=DAYS[interval] * count)).timestamp())
    months = start.month - 1 + MONTHS[interval] * count
    year, month = start.year + months // 12, months % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int(start.replace(year=year, month=month, day=day).timestamp())
