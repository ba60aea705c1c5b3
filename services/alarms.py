"""Alerts by mail: one when an alert begins to stand, one when it has cleared, to one address.

The clock watches, and so does every worker, each for the case that the other is silent. Which
alerts were told stands in one row of the ``settings`` table, changed in the transaction that owes
the mail: however many watch, each mail is owed once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import current_app, render_template
from sqlalchemy import select

from domain.clock import now
from extensions import atomic, retrying
from models import OutboxMessage, Setting
from services import alerts, leases, letters, mail, outbox, shop
from services.alerts import Alert

ROW = "told_alerts"
EVERY_S = 30  # a look costs as much as an admin's page
FIRED, CLEARED = "alert", "alert_cleared"


def watch() -> None:
    """Owe a mail for each alert that has begun to stand or has cleared since the last look. Safe to
    call from many processes at once, and as often as one likes."""
    if current_app.extensions["settings"].alert_mail is None:
        return
    standing = {alert.code: alert for alert in alerts.standing()}
    if set(standing) != set(_told()) and _note(standing):
        outbox.drain()  # the alert may be that nobody else does


@retrying
def _note(standing: dict[str, Alert]) -> bool:
    """Whether a mail is owed that was not."""
    moment, owes = now(), False
    with atomic() as session:
        session.scalar(select(Setting).where(Setting.name == ROW).with_for_update())
        told: dict[str, Any] = dict(_told())
        for code, alert in standing.items():
            if code in told:
                continue
            since = moment.isoformat(timespec="microseconds")
            told[code] = {"since": since, "headline": alert.headline}
            about = {"headline": alert.headline, "detail": alert.detail, "link": alert.link}
            owes |= outbox.owe(FIRED, f"{code}:{since}", **about)
        for code in set(told) - set(standing):
            over = told.pop(code)
            about = {"headline": over["headline"], "since": over["since"]}
            owes |= outbox.owe(CLEARED, f"{code}:{over['since']}", **about)
        leases.put(ROW, told)
    return owes


def _told() -> dict[str, Any]:
    kept = leases.read(ROW)
    return kept if isinstance(kept, dict) else {}


@outbox.handles(FIRED)
def tell_fired(message: OutboxMessage) -> outbox.Result:
    """Write that an alert stands, and where to see to it."""
    return _tell(message, f"Alert: {message.payload['headline']}", "email/alert.txt")


@outbox.handles(CLEARED)
def tell_cleared(message: OutboxMessage) -> outbox.Result:
    """Write that it is over."""
    about = f"Cleared: {message.payload['headline']}"
    return _tell(message, about, "email/alert_cleared.txt")


def _tell(message: OutboxMessage, subject: str, template: str) -> outbox.Result:
    settings = current_app.extensions["settings"]
    if settings.alert_mail is None:
        return {"not_sent": "nobody is to be told any more"}
    mail_ = letters.addressed(message, settings.alert_mail, subject)
    told = message.payload
    since = told.get("since")
    mail_.set_content(
        render_template(
            template,
            headline=told["headline"],
            detail=told.get("detail"),
            link=settings.public_origin + (told.get("link") or alerts.HEALTH_PAGE),
            since=datetime.fromisoformat(since) if since else message.created_at,
            at=message.created_at,
            shop=shop.IDENTITY,
        )
    )
    return mail.send(mail_)
