"""What is bought again and again, and what of a checkout is due now.

A *line* is a dict as the attempt's snapshot holds it. One that recurs has a ``plan``:
``{"interval": "month", "count": 1, "trial_days": 0}``. Amounts are minor units.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

Line = Mapping[str, Any]

# Stripe's recurring intervals (POST /v1/prices, version 2026-10-28.endive).
INTERVALS = ("day", "week", "month", "year")
ONCE = ""  # the part of a checkout that is bought once; a line that recurs is a part by its sku


def plan(interval: str | None, count: int, trial_days: int) -> dict[str, Any] | None:
    """A line's plan, or None for what is bought once."""
    if interval is None:
        return None
    return {"interval": interval, "count": count, "trial_days": trial_days}


def recurs(line: Line) -> bool:
    return bool(line.get("plan"))


def recurring(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if recurs(line)]


def price(line: Line) -> int:
    """What a line costs, each time."""
    amount: int = line["unit_amount"] * line["quantity"]
    return amount


def first_amount(line: Line) -> int:
    """What is due now for a line: nothing while a trial lasts. What is bought once may have a
    ``discount``, and ``tax`` on top of what is left."""
    if recurs(line):
        return 0 if line["plan"]["trial_days"] else price(line)
    return price(line) - int(line.get("discount", 0)) + int(line.get("tax", 0))


def before_discount(line: Line) -> int:
    """The same before any discount or tax."""
    return first_amount({**line, "discount": 0, "tax": 0})


def due_now(lines: Iterable[Line], shipping: int) -> dict[str, int]:
    """What is due now, by part: the things bought once with their ``shipping``, and the first
    amount of each line that recurs. Without anything bought once there is no such part."""
    lines = list(lines)
    once = [line for line in lines if not recurs(line)]
    parts = {ONCE: sum(map(first_amount, once)) + shipping} if once else {}
    return parts | {line["sku"]: first_amount(line) for line in recurring(lines)}


def rhythm(plan: Mapping[str, Any]) -> tuple[str, int, int]:
    """Plans are charged on the same days if this is the same."""
    return plan["interval"], plan["count"], plan["trial_days"]


def rhythms(lines: Iterable[Line]) -> set[tuple[str, int, int]]:
    """The different plans among these lines; one payment page can carry one of them."""
    return {rhythm(line["plan"]) for line in recurring(lines)}


def every(plan: Mapping[str, Any]) -> str:
    """How often, in words: ``every month``, ``every 2 weeks``."""
    interval, count = plan["interval"], plan["count"]
    return f"every {interval}" if count == 1 else f"every {count} {interval}s"


def free_time(plan: Mapping[str, Any]) -> str:
    """What a trial gives, in words: ``14 days free``; nothing without one."""
    days = plan["trial_days"]
    return f"{days} {'day' if days == 1 else 'days'} free" if days else ""


def charged_next(plan: Mapping[str, Any], since: datetime) -> datetime:
    """When what begins at ``since`` costs again; with a trial, when it costs for the first time.

    What begins on a 31st renews on the last day of a shorter month, as Stripe has it.
    """
    if plan["trial_days"]:
        return since + timedelta(days=plan["trial_days"])
    interval, count = plan["interval"], plan["count"]
    if interval in ("day", "week"):
        return since + timedelta(**{f"{interval}s": count})
    months = since.month - 1 + count * (12 if interval == "year" else 1)
    year, month = since.year + months // 12, months % 12 + 1
    last_day = calendar.monthrange(year, month)[1]
    return since.replace(year=year, month=month, day=min(since.day, last_day))
