"""The inbox of Stripe's events, and whether they reach us. A part of the counter."""

from __future__ import annotations

from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints.admin import bp
from blueprints.forms import tidy
from blueprints.timeline import masked
from domain.errors import NotFound, ShopError
from gateway.facts import FOLLOWED_TYPES
from logs import redact
from models import StripeEvent
from services import by_hand, diagnosis, events, metrics, rehearsal
from services.events import Filter

__all__ = ["bp"]  # the counter's, with the inbox in it

Page = Response | str | tuple[str, int]

VIEWS = {"": "All", "new": "Waiting", "done": "Done", "ignored": "Ignored", "dead": "Gave up"}
LANES = {"webhook": "by webhook", "sync": "fetched"}


@bp.get("/webhooks")
def webhooks() -> Page:
    return _page(said=session.pop("inbox_said", None))


@bp.get("/webhooks/<event_id>")
def webhook(event_id: str) -> Page:
    return _event_page(event_id)


@bp.get("/webhook-setup")
def webhook_setup() -> Page:
    """Asks Stripe, and so it is a page of its own: the list must not wait for it."""
    findings = diagnosis.webhooks()
    broken = [one for one in findings if not one["ok"]]
    return render_template("admin/webhook_setup.html", findings=findings, broken=len(broken))


@bp.post("/webhook-rehearsals")
def rehearse_events() -> Page:
    """What replaying would change; nothing is changed by asking."""
    try:
        rows = events.chosen(_ticked())
    except ShopError as error:
        return _refused(error)
    told = [rehearsal.of_event(row) for row in rows]
    return render_template(
        "admin/webhook_rehearsal.html",
        rehearsals=told,
        numbers=events.numbers(one.order_id for one in told),
    )


@bp.post("/webhook-replays")
def replay_events() -> Page:
    try:
        again = events.replay(g.admin.email, _ticked())
    except ShopError as error:
        return _refused(error)
    return _done("One event is applied again." if again == 1 else f"{again} are applied again.")


@bp.post("/webhooks/<event_id>/dismissals")
def ignore_event(event_id: str) -> Page:
    try:
        events.ignore(g.admin.email, event_id, tidy(request.form.get("note")) or "")
    except NotFound:
        raise
    except ShopError as error:
        return _event_page(event_id, problem=error), error.http_status
    return _done("Ignored, with your note. Replaying it takes that back.")


@bp.post("/webhook-fetches")
def fetch_events() -> Page:
    hours = request.form.get("hours", "")
    try:
        fetched = by_hand.fetch_missed(g.admin.email, int(hours) if hours in _PERIODS else 0)
    except ShopError as error:
        return _page(problem=error), error.http_status
    if not fetched.missed:
        return _done(f"Nothing was missed in the last {_PERIODS[hours]}.")
    missed = "One event" if fetched.missed == 1 else f"{fetched.missed} events"
    became = {"done": fetched.done, "ignored": fetched.ignored, "waiting": fetched.waiting}
    told = ", ".join(f"{count} {state}" for state, count in became.items() if count)
    return _done(f"{missed} had been missed, and fetched now: {told or 'see below'}.")


_PERIODS = {str(h): "hour" if h == 1 else f"{h} hours" for h in by_hand.PERIODS_H}


def _done(said: str) -> Response:
    session["inbox_said"] = said
    return redirect(url_for(".webhooks"), code=303)


def _refused(error: ShopError) -> Page:
    if isinstance(error, NotFound):
        raise error
    return _page(problem=error), error.http_status


def _ticked() -> list[str]:
    return [text[:255] for text in request.form.getlist("event")[: events.MOST_AT_ONCE + 1]]


def _page(*, said: str | None = None, problem: ShopError | None = None) -> str:
    wanted = Filter(*(request.args.get(name, "").strip()[:200] for name in ("state", "type", "q")))
    after = request.args.get("after")
    found = events.newest(wanted, after, events.PAGE + 1)
    rows, more = found[: events.PAGE], len(found) > events.PAGE
    numbers, waiting = events.numbers(row.attempt_id for row in rows), metrics.inbox_waiting()
    here: dict[str, Any] = {
        "state": wanted.state or None,
        "type": wanted.type or None,
        "q": wanted.text or None,
    }
    counts = {"new": waiting.count, "dead": waiting.dead}
    return render_template(
        "admin/webhooks.html",
        events=[_row(row, numbers) for row in rows],
        views=[
            {
                "label": label,
                "url": url_for(".webhooks", **{**here, "state": code or None}),
                "count": counts.get(code),
                "current": code == wanted.state,
            }
            for code, label in VIEWS.items()
        ],
        wanted=wanted,
        is_filtered=any(here.values()),
        types=FOLLOWED_TYPES,
        periods=_PERIODS,
        older=url_for(".webhooks", **here, after=rows[-1].id) if more else None,
        newest=url_for(".webhooks", **here) if after else None,
        endpoint=current_app.extensions["settings"].public_origin + "/stripe/webhook",
        said=said,
        problem=problem,
    )


def _event_page(event_id: str, *, problem: ShopError | None = None) -> str:
    row = events.find(event_id)
    return render_template(
        "admin/webhook.html",
        event={
            **_row(row, events.numbers([row.attempt_id])),
            "api_version": row.api_version,
            "livemode": row.livemode,
            "next_at": row.next_at if row.state == "new" else None,
            "applied_at": row.applied_at,
            "payload": masked(row.payload),
        },
        can_be_ignored=row.state in ("new", "dead"),
        longest_note=events.LONGEST_NOTE,
        typed=request.form.get("note", "")[: events.LONGEST_NOTE],
        problem=problem,
    )


def _row(row: StripeEvent, numbers: dict[str, str]) -> dict[str, Any]:
    worked = row.work_ms / 1000 if row.work_ms is not None else None
    waited = None
    if row.applied_at:
        waited = max(0.0, (row.applied_at - row.received_at).total_seconds() - (worked or 0))
    return {
        "id": row.id,
        "type": row.type,
        "object_id": row.object_id,
        "order_id": row.attempt_id,
        "order_number": numbers.get(row.attempt_id or ""),
        "state": row.state,
        "reason": redact(row.error) if row.error else None,
        "tries": row.tries,
        "wait_s": waited,
        "work_s": worked,
        "lane": LANES.get(row.lane, row.lane),
        "received_at": row.received_at,
        "why_not": events.why_not(row),
    }
