"""Events as Stripe would send them, signed by hand: for what the sandbox would never send."""

from __future__ import annotations

import json
from typing import Any

import stripe

from tests.shop import SECRET, Shop

API_VERSION = "2026-10-28.endive"


def event(type_: str, obj: dict[str, Any], *, id_: str = "evt_test_1", **envelope: Any) -> bytes:
    """The body of an event about ``obj``."""
    body = {
        "id": id_,
        "object": "event",
        "api_version": API_VERSION,
        "created": 1_795_000_000,
        "livemode": False,
        "pending_webhooks": 1,
        "request": None,
        "type": type_,
        "data": {"object": obj},
        **envelope,
    }
    return json.dumps(body).encode()


def signed(body: bytes, *, at: float, secret: str = SECRET) -> dict[str, str]:
    """The headers with which Stripe would deliver ``body`` at ``at`` (seconds since 1970)."""
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode("utf-8", "surrogateescape"), secret, timestamp=int(at)
    )
    return {"Stripe-Signature": header, "Content-Type": "application/json"}


def post(shop: Shop, body: bytes, **how: Any) -> int:
    """Deliver ``body``, signed well and now unless said otherwise."""
    return shop.post_webhook(body, signed(body, at=how.pop("at", shop.clock.seconds()), **how))


def paid_intent(
    intent: str, amount: int, attempt_id: str | None, currency: str = "eur", **more: Any
) -> dict[str, Any]:
    """A payment intent that succeeded."""
    return {
        "id": intent,
        "object": "payment_intent",
        "status": "succeeded",
        "amount": amount,
        "amount_received": amount,
        "currency": currency,
        "customer": None,
        "latest_charge": "ch_1",
        "metadata": {"checkout_attempt_id": attempt_id} if attempt_id else {},
        "created": 1_795_000_000,
        **more,
    }


def paid_session(
    session: str, intent: str, amount: int, attempt_id: str | None, **more: Any
) -> dict[str, Any]:
    """A checkout session that is complete and paid."""
    return {
        "id": session,
        "object": "checkout.session",
        "status": "complete",
        "payment_status": "paid",
        "payment_intent": intent,
        "amount_total": amount,
        "currency": "eur",
        "customer": None,
        "client_reference_id": attempt_id,
        "metadata": {"checkout_attempt_id": attempt_id} if attempt_id else {},
        "created": 1_795_000_000,
        **more,
    }
