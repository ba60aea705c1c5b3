"""``flask doctor``: what is wrong with this shop, named one by one."""

from __future__ import annotations

from flask import current_app

from domain.errors import StripeBusy, StripeError
from gateway import current_gateway
from services import alerts, health

Finding = dict[str, object]


def examine(*, live: bool = False) -> list[Finding]:
    """Each finding is ``{"name", "ok", "detail"}``; ``live`` also reads the webhook endpoints."""
    findings: list[Finding] = [
        {"name": "settings", "ok": True, "detail": "complete and consistent"},
        *({"name": name, **part} for name, part in health.parts().items()),
        {"name": "stripe", **_stripe()},
        *_alerts(),
    ]
    if live:
        findings.append({"name": "webhook endpoint", **_endpoint()})
    return findings


def _stripe() -> health.Part:
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


def _endpoint() -> health.Part:
    wanted = current_app.extensions["settings"].public_origin + "/stripe/webhook"
    try:
        endpoints = current_gateway().webhook_endpoints()
    except StripeError as error:
        return {"ok": False, "detail": error.message}
    found = next((one for one in endpoints if one["url"] == wanted), None)
    if found is None:
        return {"ok": False, "detail": f"no endpoint at Stripe points to {wanted}: add one"}
    if found["status"] != "enabled":
        return {"ok": False, "detail": f"the endpoint {wanted} is {found['status']} at Stripe"}
    return {"ok": True, "detail": wanted}
