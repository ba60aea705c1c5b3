"""What we ask Stripe for, built from our own rows. Pure, so that it can be stored before the call.

Sources: Stripe's reference of POST /v1/checkout/sessions, version 2026-10-28.endive.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.facts import ATTEMPT_KEY


def session(
    *,
    attempt_id: str,
    lines: list[dict[str, Any]],
    currency: str,
    delivery: dict[str, Any],
    contact: dict[str, Any],
    address: dict[str, Any],
    expires_at: datetime,
    origin: str,
    embedded: bool = False,
) -> dict[str, Any]:
    """Parameters of a Checkout Session, on Stripe's page or ``embedded`` in ours; amounts are minor
    units of ``currency``.

    Metadata holds the attempt's id and nothing else, on the session and on its intent, because
    Stripe hands none of it from one to the other. Where the parcel goes is told in the field that
    Stripe has for it: its fraud rules look at it, and an order can be made anew from it.
    """
    link = {ATTEMPT_KEY: attempt_id}
    return {
        "mode": "payment",
        "ui_mode": "embedded_page" if embedded else "hosted_page",
        "client_reference_id": attempt_id,
        "metadata": link,
        "payment_intent_data": {"metadata": link, "shipping": _shipping(contact, address)},
        "customer_email": contact["email"],
        "expires_at": int(expires_at.timestamp()),
        **_ways_back(attempt_id, origin, embedded),
        "line_items": [
            {
                "quantity": line["quantity"],
                "price_data": {
                    "currency": currency,
                    "unit_amount": line["unit_amount"],
                    "product_data": {"name": line["title"]},
                },
            }
            for line in lines
        ],
        "shipping_options": [
            {
                "shipping_rate_data": {
                    "type": "fixed_amount",
                    "display_name": delivery["label"],
                    "fixed_amount": {"amount": delivery["amount"], "currency": currency},
                }
            }
        ],
    }


def payment_intent(
    *,
    attempt_id: str,
    amount: int,
    currency: str,
    contact: dict[str, Any],
    address: dict[str, Any],
) -> dict[str, Any]:
    """Parameters of a PaymentIntent for a page of ours; ``amount`` in minor units of ``currency``.

    Source: Stripe's reference of POST /v1/payment_intents, version 2026-10-28.endive.
    """
    return {
        "amount": amount,
        "currency": currency,
        "automatic_payment_methods": {"enabled": True},
        "metadata": {ATTEMPT_KEY: attempt_id},
        "shipping": _shipping(contact, address),
    }


def _ways_back(attempt_id: str, origin: str, embedded: bool) -> dict[str, Any]:
    back = origin + "/checkout/success?session_id={CHECKOUT_SESSION_ID}"
    if embedded:
        return {"return_url": back}
    return {"success_url": back, "cancel_url": f"{origin}/checkout/cancel?attempt={attempt_id}"}


def _shipping(contact: dict[str, Any], address: dict[str, Any]) -> dict[str, Any]:
    told = {"name": contact["name"], "phone": contact.get("phone")}
    parts = ("line1", "line2", "city", "postal_code", "state", "country")
    return {
        **{name: value for name, value in told.items() if value},
        "address": {name: address[name] for name in parts if address.get(name)},
    }
