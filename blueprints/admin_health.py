"""How the shop is: four lights, the last day in lines, alerts, and the proof of the books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flask import g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from blueprints import roles
from blueprints.admin import bp
from blueprints.charts import line
from services import alerts, by_hand, metrics
from services.metrics import Figures, Hour

__all__ = ["bp"]  # the counter's, with the health page in it


SPANS = {"day": ("24 hours", "hour"), "week": ("7 days", "half day")}


@bp.get("/health")
def health() -> str:
    """It reads figures and checks nothing: the books are checked by a press."""
    is_week = request.args.get("span") == "week"
    figures = metrics.read(by_hour=not is_week)
    slots = metrics.week() if is_week else figures.hours
    standing = roles.only_reachable(g.admin.role, alerts.standing())
    return render_template(
        "admin/health.html",
        lights=_lights(figures),
        charts=_charts(slots, SPANS["week" if is_week else "day"]),
        spans=[
            (whole, url_for(".health", span=name, _anchor="charts"), is_week == (name == "week"))
            for name, (whole, _) in SPANS.items()
        ],
        span=SPANS["week" if is_week else "day"][0],
        gauges=_gauges(figures),
        firing=standing,
        quiet=[code for code in alerts.codes() if code not in {one.code for one in standing}],
        alerts=(),  # they stand on this page already, with more to each
        proof=by_hand.last_proof(),
        at=figures.at,
    )


@bp.post("/proofs")
def prove() -> Response:
    by_hand.prove(g.admin.email)
    return redirect(url_for(".health", _anchor="books"), code=303)


def _lights(told: Figures) -> list[dict[str, Any]]:
    most_failing, most_waiting = 1 - alerts.MOST_FAILING, alerts.LONGEST_EVENT_WAIT.total_seconds()
    return [
        _light(
            "Sync success",
            told.sync_success,
            percent,
            good=lambda part: part >= metrics.SYNC_GOAL,
            bad=lambda part: part < most_failing,
            goal="at least 99.5 %",
            of=f"{told.synced} in step, {told.undecided.count} undecided",
        ),
        _light(
            "Webhook processing",
            told.event_time.p95_s,
            seconds,
            good=lambda took: took <= metrics.EVENT_GOAL_S,
            bad=lambda took: took > most_waiting,
            goal="95 of 100 within 60 s",
            of=_events(told),
        ),
        _light(
            "Payment to order",
            told.payment_to_order.p95_s,
            seconds,
            good=lambda took: took <= metrics.PAID_GOAL_S,
            bad=lambda took: took > metrics.LEFT_ALONE.total_seconds(),
            goal="95 of 100 within 3 s",
            of=_lanes(told),
        ),
        _light(
            "Manual interventions",
            told.manual_rate,
            percent,
            good=lambda part: part <= metrics.MANUAL_GOAL,
            bad=lambda part: part > alerts.MOST_FAILING,
            goal="at most 1 %",
            of=f"{told.touched} of {told.orders} orders",
        ),
    ]


def _light(
    title: str,
    value: float | None,
    words: Callable[[float | None], str],
    *,
    good: Callable[[float], bool],
    bad: Callable[[float], bool],
    goal: str,
    of: str,
) -> dict[str, Any]:
    look = ("line", "ring", "Nothing yet")
    if value is not None:
        look = ("wait", "clock", "Below its goal")
        if bad(value):
            look = ("bad", "alert", "Bad")
        elif good(value):
            look = ("ok", "check", "Good")
    return {"title": title, "value": words(value), "look": look, "goal": goal, "of": of}


def _events(told: Figures) -> str:
    took = told.event_time
    return (
        f"half within {seconds(took.p50_s)}, of {took.count} events"
        if took.count
        else ("no event yet")
    )


def _lanes(told: Figures) -> str:
    if not told.by_lane:
        return "no payment yet"
    lanes = (f"{spread.count} by {lane}" for lane, spread in told.by_lane.items())
    return f"half within {seconds(told.payment_to_order.p50_s)}; {', '.join(lanes)}"


def _charts(slots: Sequence[Hour], span: tuple[str, str]) -> list[dict[str, Any]]:
    drawn = partial(line, starts=[slot.start for slot in slots], span=span)
    return [
        drawn("Orders in step with Stripe", values=[slot.sync_success for slot in slots],
              words=percent, bottom=0.9, top=1.0, goal=metrics.SYNC_GOAL),
        drawn("Webhook processing, 95 of 100 within",
              values=[slot.event_p95_s for slot in slots], words=seconds, top=1.0),
        drawn("Payment to order, 95 of 100 within",
              values=[slot.paid_p95_s for slot in slots], words=seconds, top=metrics.PAID_GOAL_S,
              goal=metrics.PAID_GOAL_S),
        drawn("Orders that a person had to touch",
              values=[float(slot.manual) if slot.orders else None for slot in slots], words=whole,
              top=1.0),
    ]  # fmt: skip


def _gauges(told: Figures) -> list[tuple[str, str, str, bool | None]]:
    """Name, value, goal, and whether it is met; None: nothing to say yet."""
    shares = [
        ("Webhook success", told.webhook_success, metrics.WEBHOOK_GOAL),
        *(
            (f"Uptime of the {name}", part, metrics.UPTIME_GOAL)
            for name, part in told.uptime.items()
        ),
    ]
    rows = [
        (name, percent(part), f"at least {percent(goal)}", None if part is None else part >= goal)
        for name, part, goal in shares
    ]
    for name, box in (("inbox", told.inbox), ("outbox", told.outbox)):
        waits = f"{box.count}, for {seconds(box.oldest_s)}" if box.count else "0"
        rows.append((f"Waiting in the {name}", waits, "within 60 s", box.oldest_s <= 60))
        rows.append((f"Given up in the {name}", str(box.dead), "0", box.dead == 0))
    rows.append(("Exceptions open", str(told.exceptions_open), "0", told.exceptions_open == 0))
    return rows


def percent(part: float | None) -> str:
    """Two digits where they matter; what is not all is never called 100 %."""
    if part is None:
        return "–"
    shown = f"{part * 100:.2f}".rstrip("0").rstrip(".")
    return "99.99 %" if shown == "100" and part < 1 else f"{shown} %"


def seconds(took: float | None) -> str:
    if took is None:
        return "–"
    return (
        f"{took * 1000:.0f} ms"
        if took < 1
        else alerts.minutes(took)
        if took >= 10
        else (f"{took:.1f} s")
    )


def whole(count: float | None) -> str:
    return "–" if count is None else f"{count:.0f}"
