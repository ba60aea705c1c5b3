"""What we ask Stripe for, built from our own rows. Pure, so that it can be stored before the call.

Sources: Stripe's reference of POST /v1/checkout/sessions, /v1/payment_intents, /v1/setup_intents,
/v1/subscriptions, version 2026-10-28.endive.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain import plans
from gateway.facts import ATTEMPT_KEY, PRODUCT
from gateway.pricing import PARCEL

MOST_ONCE = 20  # line items that a session takes beside those that recur


def session(
    *,
    attempt_id: str,
    lines: list[dict[str, Any]],
    currency: str,
    locale: str,
    delivery: dict[str, Any],
    contact: dict[str, Any],
    address: dict[str, Any],
    expires_at: datetime,
    origin: str,
    embedded: bool = False,
    promotion: str | None = None,
    tax_behavior: str | None = None,
) -> dict[str, Any]:
    """Parameters of a Checkout Session, on Stripe's page or ``embedded`` in ours; amounts are minor
    units of ``currency``. One with a line that recurs subscribes. ``promotion`` is the id of a
    discount code; with ``tax_behavior`` Stripe adds up the tax for the customer that is named at
    the call. Stripe speaks ``locale`` there.

    Metadata holds the attempt's id and nothing else, on the session and on what comes of it,
    because Stripe hands none of it from one to the other.
    """
    link = {ATTEMPT_KEY: attempt_id}
    asked = {
        "ui_mode": "embedded_page" if embedded else "hosted_page",
        "client_reference_id": attempt_id,
        "metadata": link,
        "locale": locale,
        "customer_email": contact["email"],
        "expires_at": int(expires_at.timestamp()),
        **_ways_back(attempt_id, origin, embedded),
    }
    if plans.recurring(lines):
        return asked | _subscribing(lines, currency, delivery, link)
    # Where the parcel goes is told in the field that Stripe has for it: its fraud rules look at it,
    # and an order can be made anew from it.
    return asked | {
        "mode": "payment",
        "payment_intent_data": {"metadata": link, "shipping": shipping_to(contact, address)},
        "line_items": [_item(line, currency, tax_behavior) for line in lines],
        "shipping_options": [_parcel(delivery, currency, tax_behavior)],
        **({"discounts": [{"promotion_code": promotion}]} if promotion else {}),
        **({"automatic_tax": {"enabled": True}} if tax_behavior else {}),
    }


def _parcel(delivery: dict[str, Any], currency: str, tax_behavior: str | None) -> dict[str, Any]:
    rate: dict[str, Any] = {
        "type": "fixed_amount",
        "display_name": delivery["label"],
        "fixed_amount": {"amount": delivery["amount"], "currency": currency},
    }
    days = delivery.get("days")
    if days:
        least, most = ({"unit": "business_day", "value": value} for value in days)
        rate["delivery_estimate"] = {"minimum": least, "maximum": most}
    if tax_behavior:
        rate |= {"tax_behavior": tax_behavior, "tax_code": PARCEL}
    return {"shipping_rate_data": rate}


def _subscribing(
    lines: list[dict[str, Any]],
    currency: str,
    delivery: dict[str, Any],
    link: dict[str, str],
) -> dict[str, Any]:
    """Lines that recur with what is bought once beside them. Such a session has no shipping
    options: the parcel is a line of its own."""
    recurring = plans.recurring(lines)
    once = [line for line in lines if not plans.recurs(line)]
    trial_days = recurring[0]["plan"]["trial_days"]
    beside = [_item(line, currency) for line in once]
    if delivery["amount"]:
        beside.append(_named(delivery["label"], delivery["amount"], currency))
    if len(beside) > MOST_ONCE:
        total = sum(map(plans.price, once)) + delivery["amount"]
        beside = [_named(f"{len(once)} different items, sent to you", total, currency)]
    return {
        "mode": "subscription",
        "subscription_data": {
            "metadata": link,
            **({"trial_period_days": trial_days} if trial_days else {}),
        },
        "line_items": [_item(line, currency) for line in recurring] + beside,
    }


def _item(line: plans.Line, currency: str, tax_behavior: str | None = None) -> dict[str, Any]:
    price: dict[str, Any] = {
        "currency": currency,
        "unit_amount": line["unit_amount"],
        "product_data": {"name": line["title"]},
    }
    if plans.recurs(line):
        price["recurring"] = _rhythm(line)
    if tax_behavior:
        price["tax_behavior"] = tax_behavior
    return {"quantity": line["quantity"], "price_data": price}


def _named(name: str, amount: int, currency: str) -> dict[str, Any]:
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": name}}
    return {"quantity": 1, "price_data": price}


def _rhythm(line: plans.Line) -> dict[str, Any]:
    return {"interval": line["plan"]["interval"], "interval_count": line["plan"]["count"]}


def setup_intent(*, attempt_id: str) -> dict[str, Any]:
    """Parameters of a SetupIntent for a page of ours; whose card it saves is added at the call."""
    return {
        "usage": "off_session",
        "automatic_payment_methods": {"enabled": True},
        "metadata": {ATTEMPT_KEY: attempt_id},
    }


def subscription(
    *, attempt_id: str, line: plans.Line, currency: str, setup_intent: str
) -> dict[str, Any]:
    """What begins the subscription of one line, with the card that ``setup_intent`` has saved; see
    ``StripeGateway.open_subscription``."""
    trial_days = line["plan"]["trial_days"]
    product = {"id": f"{PRODUCT}{line['sku']}", "name": line["title"]}
    return {
        "setup_intent": setup_intent,
        "product": product,
        "subscription": {
            "items": [
                {
                    "quantity": line["quantity"],
                    "price_data": {
                        "currency": currency,
                        "unit_amount": line["unit_amount"],
                        "product": product["id"],
                        "recurring": _rhythm(line),
                    },
                }
            ],
            "metadata": {ATTEMPT_KEY: attempt_id},
            "off_session": True,  # the shopper is not there to answer the bank's questions
            **({"trial_period_days": trial_days} if trial_days else {}),
        },
    }


def payment_intent(
    *,
    attempt_id: str,
    amount: int,
    currency: str,
    contact: dict[str, Any],
    address: dict[str, Any],
    calculation: str | None = None,
) -> dict[str, Any]:
    """Parameters of a PaymentIntent for a page of ours; ``amount`` in minor units of ``currency``.
    ``calculation`` is the id of the tax calculation that found out the tax in it.

    Source: Stripe's reference of POST /v1/payment_intents, version 2026-10-28.endive.
    """
    return {
        "amount": amount,
        "currency": currency,
        "automatic_payment_methods": {"enabled": True},
        "metadata": {ATTEMPT_KEY: attempt_id},
        "shipping": shipping_to(contact, address),
        **({"hooks": {"inputs": {"tax": {"calculation": calculation}}}} if calculation else {}),
    }


def _ways_back(attempt_id: str, origin: str, embedded: bool) -> dict[str, Any]:
    back = origin + "/checkout/success?session_id={CHECKOUT_SESSION_ID}"
    if embedded:
        return {"return_url": back}
    return {"success_url": back, "cancel_url": f"{origin}/checkout/cancel?attempt={attempt_id}"}


def shipping_to(contact: dict[str, Any], address: dict[str, Any]) -> dict[str, Any]:
    """Who gets the parcel and where, as Stripe takes it."""
    told = {"name": contact["name"], "phone": contact.get("phone")}
    parts = ("line1", "line2", "city", "postal_code", "state", "country")
    return {
        **{name: value for name, value in told.items() if value},
        "address": {name: address[name] for name in parts if address.get(name)},
    }
