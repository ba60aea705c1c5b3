"""Signed events as Stripe would send them: ``checkout.session.completed``, paid, 4.8 KB."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from bench.servers import SECRET

SIZE = 4_800  # bytes of a body; what Stripe sends for a session with two lines and an address
SUBTOTAL, SHIPPING = 4_200, 490  # minor units
TOTAL = SUBTOTAL + SHIPPING
CURRENCY = "eur"


@dataclass(frozen=True)
class Purchase:
    """One order that waits for its payment, and the ids that Stripe will name."""

    attempt_id: str
    session_id: str
    intent_id: str
    event_id: str
    lines: tuple[tuple[int, int], ...]  # product and quantity, by product


def request(purchase: Purchase, path: str) -> bytes:
    """The whole HTTP request that brings the news of ``purchase``."""
    content = body(purchase)
    stamp = int(time.time())
    mac = hmac.new(SECRET.encode(), b"%d." % stamp + content, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Stripe/1.0\r\n"
        f"Accept: */*; q=0.5, application/xml\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Stripe-Signature: t={stamp},v1={mac}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def hello() -> bytes:
    return b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Stripe/1.0\r\nAccept: */*\r\n\r\n"


def body(purchase: Purchase) -> bytes:
    return (
        _TEMPLATE.replace("{event}", purchase.event_id)
        .replace("{session}", purchase.session_id)
        .replace("{intent}", purchase.intent_id)
        .replace("{attempt}", purchase.attempt_id)
        .encode()
    )


def _template() -> str:
    """The event with its ids left open, indented as Stripe indents it, filled up to its size."""
    now = int(time.time())
    session = {
        "id": "{session}",
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": True},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": SUBTOTAL,
        "amount_total": TOTAL,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://shop.example.com/checkout/cancel?attempt={attempt}",
        "client_reference_id": "{attempt}",
        "client_secret": None,
        "collected_information": {"business_name": None, "shipping_details": None},
        "consent": None,
        "consent_collection": None,
        "created": now - 60,
        "currency": CURRENCY,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        ),
        "customer": None,
        "customer_creation": "if_required",
        "customer_details": {
            "address": {
                "city": "Freiburg im Breisgau",
                "country": "DE",
                "line1": "Kaiser-Joseph-Straße 17",
                "line2": None,
                "postal_code": "79098",
                "state": None,
            },
            "email": "shopper@example.com",
            "name": "Ada Example",
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "customer_email": "shopper@example.com",
        "discounts": [],
        "expires_at": now + 3540,
        "invoice": None,
        "invoice_creation": {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": None,
                "metadata": {},
                "rendering_options": None,
            },
        },
        "livemode": False,
        "locale": None,
        "metadata": {"checkout_attempt_id": "{attempt}"},
        "mode": "payment",
        "origin_context": None,
        "payment_intent": "{intent}",
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_configuration_details": {"id": "pmc_1QbenchmarkConfig", "parent": None},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card", "bancontact", "eps", "klarna", "link", "sepa_debit"],
        "payment_status": "paid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": {
            "amount_subtotal": SHIPPING,
            "amount_tax": 0,
            "amount_total": SHIPPING,
            "shipping_rate": "shr_1QbenchmarkStandard",
        },
        "shipping_options": [
            {"shipping_amount": SHIPPING, "shipping_rate": "shr_1QbenchmarkStandard"}
        ],
        "status": "complete",
        "submit_type": None,
        "subscription": None,
        "success_url": "https://shop.example.com/checkout/success?{filler}",
        "total_details": {"amount_discount": 0, "amount_shipping": SHIPPING, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": None,
        "wallet_options": None,
    }
    event = {
        "id": "{event}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": now,
        "data": {"object": session},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "checkout.session.completed",
    }
    text = json.dumps(event, indent=2, ensure_ascii=False)
    ids = {
        "{attempt}": 36,
        "{session}": len(SESSION),
        "{intent}": len(INTENT),
        "{event}": len(EVENT),
    }
    size = len(text.encode()) - len("{filler}")
    size += sum(text.count(mark) * (length - len(mark)) for mark, length in ids.items())
    return text.replace("{filler}", "x" * (SIZE - size))


# Ids of Stripe's length: a prefix and as many characters as it uses.
SESSION = "cs_test_a1" + 56 * "0"
INTENT = "pi_3" + 23 * "0"
EVENT = "evt_1" + 23 * "0"
_TEMPLATE = _template()
