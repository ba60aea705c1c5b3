"""Signed webhooks to the addresses named in settings: built, signed and sent when their turn comes.

The body shows the order as it is then, and its ``version``, so that one which was delayed for days
tells nothing old, and nothing of a person who was forgotten meanwhile. At least once: a receiver
takes an ``id`` that it knows for done.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from sqlalchemy import func, select

from domain.clock import now
from extensions import reading
from models import Order, OutboxMessage, Payment, Refund, Shipment, Subscription
from services import announcements, orders, outbox, outward

SIGNATURE = "Quittance-Signature"
# Three days, as Stripe gives us: a weekend's outage loses nothing. A quarter of an hour is how long
# a target that is back may have to wait.
PATIENCE = outbox.Patience(longest_wait_s=900, lasts=timedelta(days=3))
# Of what the API shows of an order; none of it says who the shopper is.
SHOWN = (
    "id",
    "number",
    "status",
    "paymentStatus",
    "currency",
    "subtotal",
    "discount",
    "shipping",
    "tax",
    "total",
    "items",
    "paymentIntentId",
    "amountReceived",
    "createdAt",
    "updatedAt",
)


@outbox.handles(announcements.KIND, PATIENCE)
def send(message: OutboxMessage) -> outbox.Result:
    """Tell one target of one event. Raises Undelivered unless it answers 2xx, and NotYet while
    the target rests: one that is down is asked for one message at a time."""
    type_, subject, code = message.key.split(":")
    url = next((url for url in announcements.targets() if announcements.code_of(url) == code), None)
    if url is None:
        return {"not_sent": "this target is no longer in the settings"}
    _let_rest(message, code)
    body = json.dumps(_body(message, type_, subject), separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Quittance",
        SIGNATURE: signature(body, int(now().timestamp()), _secrets()),
    }
    host = urlsplit(url).hostname
    try:
        status = outward.post(url, body, headers)
    except outward.Unreached as error:
        raise outbox.Undelivered(str(error)) from error
    if not 200 <= status < 300:
        raise outbox.Undelivered(f"{host} answered {status}")
    return {"status": status, "host": host}


def signature(body: bytes, at: int, secrets: Iterable[str]) -> str:
    """``t=…,v1=…``, with one ``v1`` for each secret, so that a receiver may know either of them
    while they are rotated."""
    signed = f"{at}.".encode() + body
    made = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join((f"t={at}", *(f"v1={one}" for one in made)))


def _secrets() -> tuple[str, ...]:
    found: tuple[str, ...] = current_app.extensions["settings"].webhook_signing_secrets
    return found


def _let_rest(message: OutboxMessage, code: str) -> None:
    """While an older message has failed at this target and waits, so does this one: a target that
    hangs would take ten seconds of a worker for each of a hundred. The oldest always tries."""
    waits = select(func.max(OutboxMessage.next_at)).where(
        OutboxMessage.state == "new",
        OutboxMessage.kind == announcements.KIND,
        OutboxMessage.key.endswith(f":{code}"),
        OutboxMessage.tries > 0,
        OutboxMessage.id < message.id,
    )
    with reading() as session:
        until = session.scalar(waits)
    if until and until > now():
        raise outbox.NotYet(until)


def _body(message: OutboxMessage, type_: str, subject: str) -> dict[str, Any]:
    order_id = message.order_id or ""
    case = orders.dossier(order_id)
    assert case is not None  # what was confirmed is never buried
    assert case.order is not None
    whole = orders.as_dict(case)
    order = {name: whole[name] for name in SHOWN if name in whole}
    order |= {"version": case.order.version, "refunded": case.order.refunded}
    if type_ == "order.confirmed":
        order["shipTo"] = _ship_to(case.order)
    if type_ == "order.shipped":
        order["parcels"] = [_parcel(parcel) for parcel in case.shipments]
    told: dict[str, Any] = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{type_}:{subject}")),
        "type": type_,
        "created": message.created_at.isoformat(),
        "order": order,
    }
    if type_ == "order.refunded":
        told["refund"] = _refund(subject)
    if type_.startswith("subscription."):
        told["subscriptions"] = _subscriptions(order_id, subject)
    return told


def _ship_to(order: Order) -> dict[str, Any] | None:
    """Who it goes to, for whoever packs it; None once the person is forgotten. No e-mail address:
    the shop itself writes to the shopper."""
    if order.address is None:
        return None
    where = order.address
    lines = ("line1", "line2", "city", "state", "country")
    return {
        "name": order.name,
        "phone": order.phone or None,
        **{name: where.get(name) or None for name in lines},
        "postalCode": where.get("postal_code"),
        "delivery": (order.delivery or {}).get("code"),
    }


def _parcel(parcel: Shipment) -> dict[str, Any]:
    items = [{"sku": line["sku"], "quantity": line["quantity"]} for line in parcel.lines]
    return {"carrier": parcel.carrier, "tracking": parcel.tracking or None, "items": items}


def _refund(row_id: str) -> dict[str, Any]:
    with reading() as session:
        row = session.scalars(select(Refund).where(Refund.id == row_id)).one()
    return {"id": row.stripe_id, "amount": row.amount, "currency": row.currency}


def _subscriptions(order_id: str, subject: str) -> list[dict[str, Any]]:
    """The lines that it is about: of a renewal's payment, of a subscription, or one by its sku."""
    row = Subscription
    _, _, sku = subject.partition(".")
    paid = select(Payment.part).where(Payment.payment_intent == subject)
    about = (row.stripe_id == subject) | (row.part == sku) | row.part.in_(paid)
    mine = select(row).where(row.checkout_attempt_id == order_id, about).order_by(row.id)
    with reading() as session:
        found = session.scalars(mine).all()
    if not found:
        return [{"sku": sku, "status": "ended"}] if sku else []
    return [
        {
            "sku": one.part,
            "quantity": one.quantity,
            "status": one.status,
            "paidUntil": one.period_end and one.period_end.isoformat(),
        }
        for one in found
    ]
