"""Telling programs what happened to an order: those of this process, and those elsewhere.

Told is what is true of a confirmed order, whatever strategy it came about by; what becomes of a
checkout that was never paid is told to nobody.
"""

from __future__ import annotations

import hashlib

from flask import current_app
from sqlalchemy import select

from domain.transitions import PAID_STATUSES, Status
from extensions import db
from models import Order
from services import outbox, signals

KIND = "webhook"

_SIGNALS = {
    "order.confirmed": signals.order_confirmed,
    "order.shipped": signals.order_shipped,
    "order.refunded": signals.order_refunded,
    "order.cancelled": signals.order_cancelled,
    "subscription.renewed": signals.subscription_renewed,
    "subscription.ended": signals.subscription_ended,
}
EVENTS = tuple(_SIGNALS)
_MOVES = {
    Status.PAYMENT_CONFIRMED: "order.confirmed",
    Status.SHIPPED: "order.shipped",
    Status.CANCELLED: "order.cancelled",
}


def announce_move(order_id: str, before: Status | None, to: Status) -> None:
    """An order has moved, inside the caller's transaction. Moves that concern nobody outside are
    passed over. An order may be confirmed a second time, when its refund failed."""
    type_ = _MOVES.get(to)
    if type_ is None or (to is Status.CANCELLED and before not in PAID_STATUSES):
        return
    nth = ""
    if targets():
        # As it was before this move, which raises it: another one for every move of an order.
        nth = f".{db.session.scalar(select(Order.version).where(Order.id == order_id))}"
    _tell(type_, order_id, order_id, order_id + nth)


def announce(type_: str, order_id: str, subject: str) -> None:
    """Something else happened, inside the caller's transaction, to ``subject``: a refund, a payment
    of a renewal, a subscription. Asked twice, each target is told once."""
    _tell(type_, order_id, subject, subject)


def _tell(type_: str, order_id: str, subject: str, key: str) -> None:
    for target in targets():
        outbox.owe(KIND, f"{type_}:{key}:{code_of(target)}", order_id=order_id)
    signals.send_after_commit(_SIGNALS[type_], order_id, subject)


def targets() -> tuple[str, ...]:
    """The addresses that signed webhooks go to."""
    found: tuple[str, ...] = current_app.extensions["settings"].webhook_targets
    return found


def code_of(target: str) -> str:
    """A target's name in keys and logs: its address may hold a secret."""
    return hashlib.sha256(target.encode()).hexdigest()[:12]
