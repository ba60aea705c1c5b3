"""Carry refunds out at Stripe, and tell the shopper."""

from __future__ import annotations

from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import select

from domain.clock import now
from domain.errors import StripeRefused, StripeReplayedFailure
from domain.facts import RefundSeen
from extensions import atomic, reading
from gateway import current_gateway
from models import Order, OutboxMessage, Refund
from services import attempts, language, letters, links, mail, orders, outbox, refunds, settle
from services.causes import Cause

KEY_LIVES = timedelta(hours=23)  # Stripe forgets an idempotency key after 24
CAUSE = Cause("refund")


@outbox.handles("refund")
def carry_out(message: OutboxMessage) -> outbox.Result:
    """Refund a part of a payment, or what is left of it. The row and its key are committed before
    the call. An unknown outcome asks again under the same key, and searches first when Stripe may
    have forgotten it."""
    order_id = message.order_id or ""
    row = refunds.row_of(message)
    amount: int | None = message.payload.get("amount")
    refused: StripeRefused | None = None
    if not (row.stripe_id or _is_made_after_all(row)):
        try:
            _ask(row, amount)
        except StripeReplayedFailure:
            # The key repeats a failure. Was the refund made all the same? If not, a new key may ask
            if not _was_made(row):
                refunds.next_generation(row)
                raise
        except StripeRefused as error:
            # Usually: not so much left to refund, because somebody did it in the dashboard. Look.
            refused = error
            if amount is None and not current_gateway().refunds_of(row.payment_intent):
                raise
    # Its row and its order in one transaction, by the one function that settles.
    settle.settle(order_id, CAUSE, refunds_of=row.payment_intent)
    if refused and amount is not None:
        with atomic():
            attempts.lock(order_id)
            refunds.refuse(row.id, order_id, refused.message)
    with reading() as session:
        made = session.scalars(select(Refund).where(Refund.id == row.id)).one()
    return {"refund": made.stripe_id, "state": made.state}


def _is_made_after_all(row: Refund) -> bool:
    """For a row so old that its key no longer protects: look before asking under a new one."""
    if now() - row.created_at < KEY_LIVES:
        return False
    if _was_made(row):
        return True
    refunds.next_generation(row)
    return False


def _was_made(row: Refund) -> bool:
    seen = current_gateway().refunds_of(row.payment_intent)
    return row.id in [fact.our_row for fact in seen]


def _ask(row: Refund, amount: int | None) -> RefundSeen:
    key = f"refund:{row.id}:g{row.generation}"
    return current_gateway().refund(row.payment_intent, amount, row=row.id, key=key)


@outbox.handles("refunded")
def tell(message: OutboxMessage) -> outbox.Result:
    """Write to the shopper that money went back; once per refund, wherever it was made."""
    with reading() as session:
        row = session.scalars(select(Refund).where(Refund.id == message.key)).one()
        order = session.scalar(select(Order).where(Order.id == message.order_id))
    if order is None or not order.email:
        return {"not_sent": "there is no order with an address"}
    number = orders.number(order)
    with language.speaking(order.language):
        amount = language.money(row.amount or 0, row.currency or order.currency)
        about = {"number": number, "amount": amount, "link": letters.origin() + links.path(order)}
        subject = _("%(amount)s is on its way back to you", amount=amount)
        return mail.send(letters.letter(message, order.email, subject, "refunded", **about))
