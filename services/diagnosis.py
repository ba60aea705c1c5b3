"""``flask doctor``: what is wrong with this shop, named one by one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from flask import current_app
from sqlalchemy import func, select

from domain.clock import now
from domain.errors import StripeBusy, StripeError
from extensions import reading
from gateway import current_gateway
from gateway.facts import FOLLOWED_TYPES
from models import StripeEvent
from services import alerts, health, inbox

Finding = dict[str, Any]
Endpoint = dict[str, Any]


def examine(*, live: bool = False) -> list[Finding]:
    """Each finding is ``{"name", "ok", "detail"}``; ``live`` also asks Stripe whether its
    webhooks reach us."""
    findings: list[Finding] = [
        {"name": "settings", "ok": True, "detail": "complete and consistent"},
        *({"name": name, **part} for name, part in health.parts().items()),
        {"name": "stripe", **stripe_answers()},
        *_alerts(),
    ]
    if live:
        findings += [
            {**one, "name": f"webhooks: {one['name']}", "detail": f"{one['detail']}. {one['fix']}"}
            for one in webhooks()
        ]
    return findings


def stripe_answers() -> health.Part:
    """Whether Stripe takes our secret key: one call that changes nothing."""
    try:
        current_gateway().ping()
    except StripeBusy:
        return {"ok": False, "detail": "Stripe does not accept the secret key, or is throttling"}
    except StripeError as error:
        return {"ok": False, "detail": error.message}
    return {"ok": True, "detail": "answers, and knows our key"}


def _alerts() -> list[Finding]:
    standing = [(alert, False) for alert in alerts.standing()]
    noted = [(note, True) for note in alerts.notes()]
    return [
        {"name": one.code.replace("_", " "), "ok": ok, "detail": f"{one.headline}. {one.detail}"}
        for one, ok in standing + noted
    ] or [{"name": "alerts", "ok": True, "detail": "none stands"}]


# -- does Stripe's news reach us?

ADDRESSES = (  # of this shop; the first is the one to use
    "/stripe/webhook",
    "/webhook",
    "/api/payments/webhook",
    "/api/stripe/webhook",
    "/api/webhooks",
)
DASHBOARD = "Stripe’s dashboard, Developers, Webhooks"
RECENT = timedelta(hours=1)
LONGEST_DELIVERY = timedelta(minutes=5)  # usually seconds; what is younger may be on its way
MOST_EVENTS = 200  # of Stripe's list, to see whether they came
SKEW = timedelta(seconds=30)  # Stripe's own times are whole seconds, and news takes some to come


def webhooks() -> list[Finding]:
    """What keeps Stripe's events from reaching this shop; each finding that is not ``ok`` has a
    ``fix``. Asks Stripe, so only when somebody wants to know. Raises nothing."""
    try:
        endpoints = current_gateway().webhook_endpoints()
        lost = _undelivered()
    except StripeError as error:
        told = f"{error.message} What only Stripe knows could not be looked at."
        return [
            _finding("stripe", False, told, "Check the secret key: flask doctor."),
            _mode(),
            _secret(),
            _clock(),
        ]
    ours = next((one for one in endpoints if one["url"] in _addresses()), None)
    return [
        _address(ours, endpoints),
        _enabled(ours),
        _types(ours),
        _mode(),
        _secret(),
        _clock(),
        lost,
    ]


def _addresses() -> list[str]:
    origin: str = current_app.extensions["settings"].public_origin
    return [origin + path for path in ADDRESSES]


def _finding(name: str, ok: bool, detail: str, fix: str = "") -> Finding:
    return {"name": name, "ok": ok, "detail": detail, "fix": "" if ok else fix}


def _address(ours: Endpoint | None, endpoints: list[Endpoint]) -> Finding:
    if ours:
        return _finding("address", True, f"Stripe sends to {ours['url']}")
    wanted = _addresses()[0]
    others = ", ".join(str(one["url"]) for one in endpoints[:3])
    detail = f"no endpoint at Stripe points to {wanted}"
    detail += f"; it knows {others}" if others else ", and it knows no other"
    fix = (
        f"{DASHBOARD}: add an endpoint with exactly this address, or correct the one that is "
        f"there. On your own machine: stripe listen --forward-to {wanted}"
    )
    return _finding("address", False, detail, fix)


def _enabled(ours: Endpoint | None) -> Finding:
    if ours is None:
        return _finding("endpoint", False, "there is none yet", "See the address first.")
    fix = f"{DASHBOARD}: open the endpoint and enable it. Then fetch what was missed."
    is_on = ours["status"] == "enabled"
    return _finding("endpoint", is_on, f"it is {ours['status']} at Stripe", fix)


def _types(ours: Endpoint | None) -> Finding:
    if ours is None:
        return _finding("event types", False, "there is no endpoint yet", "See the address first.")
    sent = ours["enabled_events"]
    missing = [] if "*" in sent else [one for one in FOLLOWED_TYPES if one not in sent]
    if not missing:
        return _finding("event types", True, f"all {len(FOLLOWED_TYPES)} that are followed")
    fix = f"{DASHBOARD}: edit the endpoint and add these events to it."
    return _finding("event types", False, f"not sent: {', '.join(missing)}", fix)


def _mode() -> Finding:
    """Events of the other mode are stored and ignored at the door."""
    live = current_gateway().livemode
    ours, other = ("live", "test") if live else ("test", "live")
    with reading() as session:
        strays = session.scalar(
            select(func.max(StripeEvent.received_at)).where(
                StripeEvent.livemode != live, StripeEvent.received_at > now() - timedelta(days=1)
            )
        )
    if strays is None:
        return _finding("mode", True, f"only {ours} events come, like our keys")
    fix = (
        f"Our keys are {ours} keys. Take this address out of the endpoint of Stripe’s {other} mode,"
        f" or give this shop {other} keys."
    )
    detail = f"{other} events come here, the last {_at(strays)}; they are ignored"
    return _finding("mode", False, detail, fix)


def _secret() -> Finding:
    """Nobody can read an endpoint's secret at Stripe, so what was refused says it."""
    refused = inbox.last_refused("secret")
    with reading() as session:
        good = session.scalar(
            select(func.max(StripeEvent.received_at)).where(StripeEvent.lane == "webhook")
        )
    if refused is None or (good and good >= refused):
        told = f"the last webhook that fits it came {_at(good)}" if good else "none was refused"
        return _finding("signing secret", True, told)
    fix = (
        f"{DASHBOARD}: reveal the signing secret of this very endpoint and set it as "
        "STRIPE_WEBHOOK_SECRET. stripe listen has one of its own. Strangers who knock are refused "
        "like this too: see whether Stripe lists failed deliveries."
    )
    detail = f"a body whose signature fits none of our secrets was refused {_at(refused)}"
    return _finding("signing secret", False, detail, fix)


def _clock() -> Finding:
    """Ours against Stripe's: by what was refused, and by an event that seems to come from later."""
    refused = inbox.last_refused("clock")
    recent = now() - timedelta(days=1)
    fix = "Set this machine’s clock by NTP (timedatectl set-ntp true); signatures last 300 s."
    if refused and refused > recent:
        detail = f"a signature more than 300 s off our clock was refused {_at(refused)}"
        return _finding("clock", False, detail, fix)
    with reading() as session:
        newest = session.scalar(
            select(StripeEvent)
            .where(StripeEvent.received_at > recent)
            .order_by(StripeEvent.received_at.desc(), StripeEvent.id.desc())
            .limit(1)
        )
    if newest:
        ahead = json.loads(newest.payload).get("created", 0) - newest.received_at.timestamp()
        if ahead > SKEW.total_seconds():
            return _finding("clock", False, f"our clock is {ahead:.0f} s behind Stripe’s", fix)
    return _finding("clock", True, "agrees with Stripe’s, as far as its events tell")


def _undelivered() -> Finding:
    """Events of the last hour that no webhook brought. Raises the Stripe errors."""
    since = now() - RECENT
    made = {
        event.id
        for event, created in islice(current_gateway().events_since(since), MOST_EVENTS)
        if created < now() - LONGEST_DELIVERY and not event.ignored
    }
    with reading() as session:
        came = set(
            session.scalars(
                select(StripeEvent.id).where(
                    StripeEvent.id.in_(made), StripeEvent.lane == "webhook"
                )
            )
        )
    if not made:
        return _finding("deliveries", True, "Stripe has sent nothing in the last hour")
    missing = len(made - came)
    detail = f"{len(came)} of the last hour’s {len(made)} events came by webhook"
    fix = "Mend what is wrong above, then fetch what was missed. Orders are safe meanwhile."
    return _finding("deliveries", not missing, detail, fix)


def _at(moment: datetime) -> str:
    return f"{moment.day} {moment:%b, %H:%M}"
