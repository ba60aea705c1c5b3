"""Whom the shop tells by webhooks of its own, and how that fares. A part of the counter."""

from __future__ import annotations

from flask import g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints.admin import bp
from services import announcements, deliveries, events

__all__ = ["bp"]  # the counter's, with the targets in it


@bp.get("/webhook-targets")
def webhook_targets() -> str:
    found = deliveries.targets()
    about = {one.order_id for target in found for one in target.messages}
    return render_template(
        "admin/webhook_targets.html",
        targets=found,
        numbers=events.numbers(about),
        types=announcements.EVENTS,
        said=session.pop("targets_said", None),
    )


@bp.post("/webhook-targets/replays")
def replay_deliveries() -> Response:
    """One delivery that gave up, by its name, or all of one target."""
    name, code = request.form.get("delivery", "")[:300], request.form.get("target", "")[:20]
    if code:
        count = deliveries.replay_all(code, g.admin.email)
    else:
        count = int(deliveries.replay(name, g.admin.email))
    words = {0: "Nothing was waiting for that: it is on its way, or was taken.",
             1: "It is sent again."}  # fmt: skip
    session["targets_said"] = words.get(count, f"{count} are sent again.")
    return redirect(url_for(".webhook_targets"), code=303)
