"""Stripe's door: verify the raw bytes, store, answer. Nothing else happens here."""

from __future__ import annotations

from flask import Blueprint, request

from domain.errors import UnverifiedEvent
from extensions import csrf
from gateway import current_gateway
from services import inbox

bp = Blueprint("webhooks", __name__)
csrf.exempt(bp)


@bp.post("/stripe/webhook")
@bp.post("/webhook", endpoint="webhook")
@bp.post("/api/payments/webhook", endpoint="payments_webhook")
@bp.post("/api/stripe/webhook", endpoint="api_stripe_webhook")
@bp.post("/api/webhooks", endpoint="api_webhooks")
def stripe() -> tuple[str, int]:
    signature = request.headers.get("Stripe-Signature", "")
    try:
        event = current_gateway().verify(request.get_data(), signature)
    except UnverifiedEvent as error:
        if error.about:
            inbox.note_refused(error.about)
        raise
    inbox.receive(event)
    return "", 200
