"""What we ask Stripe for, built from our own rows. Pure, so that it can be stored before the call.

Sources: Stripe's reference of POST /v1/checkout/sessions, version 2026-10-28.endive.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.facts import ATTEMPT_KEY


def hosted_session(
    *,
    attempt_id: str,
    lines: list[dict[str, Any]],
    currency: str,
    delivery: dict[str, Any],
    email: str,
    expires_at: datetime,
    origin: str,
) -> dict[str, Any]:
    """Parameters of a hosted Checkout Session; amounts are minor units of ``currency``.

    Metadata holds the attempt's id and nothing else, on the session and on its intent, because
    Stripe hands none of it from one to the other.
    """
    link = {ATTEMPT_KEY: attempt_id}
    return {
        "mode": "payment",
        "ui_mode": "hosted_page",
        "client_reference_id": attempt_id,
        "metadata": link,
        "payment_intent_data": {"metadata": link},
        "customer_email": email,
        "expires_at": int(expires_at.timestamp()),
        "success_url": origin + "/checkout/success?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": f"{origin}/checkout/cancel?attempt={attempt_id}",
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
