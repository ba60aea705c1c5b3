"""Money back. One row per refund; only a row with Stripe's id counts as money that went back.

``ask`` is the counter's way in; ``owe`` is the shop's own, for a payment that was too much. Both
only note what is owed; ``services.payback`` carries it out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select, update

from domain.clock import now
from domain.errors import NotFound, ShopError
from domain.facts import RefundSeen
from domain.money import LARGEST_AMOUNT, display
from domain.transitions import LineState
from extensions import atomic, db, insert_once, reading, retrying
from models import AuditEntry, Order, OrderItem, Payment, Refund, StockMovement
from services import attempts, disputes, history, outbox, stock
from services.announcements import announce
from services.causes import Cause
from services.exceptions import open_exception

# A refund in one of these states takes its part of the payment: the money went, or is on its way.
TAKEN = ("asked", "pending", "requires_action", "succeeded")
ON_ITS_WAY = ("asked", "pending", "requires_action")
LONGEST_REASON = 200
LONGEST_KEY = 64


class NotARefund(ShopError):
    """Something in the form cannot be refunded or put back as it stands; ``field`` says what."""

    code = "refund_invalid"
    http_status = 422
    headline = "Nothing was refunded"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NothingToRefund(ShopError):
    """There is no money of this order to give back."""

    code = "nothing_to_refund"
    http_status = 409
    headline = "Nothing was refunded"


class ChargedBack(NothingToRefund):
    """The shopper's bank has taken the money already, and Stripe gives none of it back twice."""

    code = "charged_back"
    headline = "This payment cannot be refunded"

    def __init__(self, status: str) -> None:
        super().__init__(
            "The shopper’s bank has taken this payment back, so the shopper has the money already."
            if status == "lost"
            else "The shopper’s bank disputes this payment and has taken the money, so Stripe "
            "refunds nothing of it. Answer the dispute, or accept it at Stripe."
        )


class MoreThanIsLeft(ShopError):
    """The refunds that were asked for would together be more than was paid."""

    code = "refund_above_left"
    http_status = 409
    headline = "Nothing was refunded"

    def __init__(self, wanted: int, left: int, currency: str) -> None:
        self.left = left
        super().__init__(
            f"{display(wanted, currency)} is more than is left: {display(left, currency)} of this "
            "payment can still be refunded."
        )


class KeyUsed(ShopError):
    """The same form was sent before, with something else in it."""

    code = "refund_key_used"
    http_status = 409
    headline = "This form was sent before"

    def __init__(self, amount: int, currency: str) -> None:
        super().__init__(
            f"It asked for {display(amount, currency)}, and that refund stands. Open the form anew "
            "to refund more."
        )


@retrying
def ask(
    order_id: str,
    amount: int | None,
    restock: Mapping[int, int],
    *,
    reason: str,
    actor: str,
    key: str,
    currency: str | None = None,
    renewal: str | None = None,
) -> list[Refund]:
    """Ask for a refund of what paid for an order; the outbox carries it out.

    ``amount`` in minor units, None for all that is left; ``restock`` says how many units of which
    order item go back on the shelf, and nothing else does. An order may be paid by several
    payments: there is one refund of each that is touched, of the one with the most left first.
    ``renewal`` is the payment intent of a subscription's renewal that is to go back instead.
    ``key`` comes with the form: the same one is the same refunds, so that a double click asks once.
    Raises NotFound, NotARefund, NothingToRefund, ChargedBack, MoreThanIsLeft, KeyUsed; then nothing
    was written.
    """
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise NotARefund("reason", f"Say why, in 1 to {LONGEST_REASON} characters.")
    if not 8 <= len(key) <= LONGEST_KEY:
        raise NotARefund("key", "This form lost its key. Open it anew.")
    with atomic() as session:
        attempt = attempts.lock(order_id)  # two who ask at once see each other's rows
        order = attempts.order_of(order_id)
        if attempt is None or order is None:
            raise NotFound("There is no such order.")
        payments = _payments(order_id, renewal)
        ids = _row_ids(order_id, key, len(payments))
        known = _rows(ids)
        if known:
            asked = sum(row.amount or 0 for row in known)
            is_same = known[0].payment_intent in [payment.payment_intent for payment in payments]
            if not is_same or amount not in (None, asked):
                raise KeyUsed(asked, known[0].currency or order.currency)
            return known
        payments = _still_ours(payments)
        lefts = [(payment, left_of(payment)) for payment in payments]
        amount = _checked(amount, lefts, currency)
        lines = _checked_lines(order, {} if renewal else restock)
        rows = [
            _asked(row_id, payment, part, order_id, reason)
            for row_id, (payment, part) in zip(ids, _parts(amount, lefts), strict=False)
        ]
        order.version += 1
        _write_down(order_id, rows, lines, actor)
        session.flush()
        stock.restock(lines, order_id=order_id, reason=reason, actor=actor)
        return rows


def _row_ids(order_id: str, key: str, count: int) -> list[str]:
    """The ids of the refunds that a form asks for: they follow from its key."""
    first = uuid.uuid5(uuid.NAMESPACE_OID, f"refund:{order_id}:{key}")
    return [str(first), *(str(uuid.uuid5(first, str(place))) for place in range(1, count))]


def _rows(ids: list[str]) -> list[Refund]:
    """Those of them that are there, in their order."""
    found = db.session.scalars(select(Refund).where(Refund.id.in_(ids)))
    return sorted(found, key=lambda row: ids.index(row.id))


def _checked(amount: int | None, lefts: Sequence[tuple[Payment, int]], currency: str | None) -> int:
    """The amount, if these payments can still give it back."""
    paid_in = lefts[0][0].currency
    if currency is not None and currency.lower() != paid_in:
        raise NotARefund(
            "amount", f"This order was paid in {paid_in.upper()}, and is refunded in it."
        )
    left = sum(left for _, left in lefts)
    if left <= 0:
        raise NothingToRefund("All of this payment has been refunded, or is on its way back.")
    if amount is None:
        return left
    if not 1 <= amount <= LARGEST_AMOUNT:
        raise NotARefund("amount", "The amount must be more than nothing.")
    if amount > left:
        raise MoreThanIsLeft(amount, left, paid_in)
    return amount


def _parts(amount: int, lefts: Iterable[tuple[Payment, int]]) -> Iterator[tuple[Payment, int]]:
    """How an amount is spread over payments: as few as can be, and none gives more than it has."""
    for payment, left in sorted(lefts, key=lambda pair: (-pair[1], pair[0].id)):
        part = min(left, amount)
        if part <= 0:
            return
        amount -= part
        yield payment, part


def _asked(row_id: str, payment: Payment, amount: int, order_id: str, reason: str) -> Refund:
    """One refund, noted and owed in the caller's transaction."""
    row = Refund(
        id=row_id,
        payment_intent=payment.payment_intent,
        order_id=order_id,
        amount=amount,
        currency=payment.currency,
        state="asked",
        reason=reason,
        created_at=now(),
    )
    db.session.add(row)
    outbox.owe(
        "refund",
        row_id,
        order_id=order_id,
        reason=reason,
        payment_intent=payment.payment_intent,
        amount=amount,
    )
    return row


def payments_of(order_id: str, renewal: str | None = None) -> list[Payment]:
    """The payments that paid for an order, oldest first, or the one that renewed a subscription of
    it; without those that the shopper's bank has taken back. Raises NothingToRefund, ChargedBack.
    """
    with reading():
        return _still_ours(_payments(order_id, renewal))


def _payments(order_id: str, renewal: str | None) -> list[Payment]:
    found = [
        payment
        for payment in attempts.payments_of(order_id)
        if (
            payment.role == "settles"
            if renewal is None
            else (payment.role, payment.payment_intent) == ("renewal", renewal)
        )
    ]
    if not found:
        raise NothingToRefund(
            "This order is not paid, so there is nothing to give back."
            if renewal is None
            else "That is no renewal of this order."
        )
    return found


def _still_ours(payments: list[Payment]) -> list[Payment]:
    """Those that can be refunded; of what a bank has taken back Stripe refuses it."""
    taken = disputes.not_refundable([payment.payment_intent for payment in payments])
    found = [payment for payment in payments if payment.payment_intent not in taken]
    if not found:
        raise ChargedBack(next(iter(taken.values())))
    return found


def left_of(payment: Payment) -> int:
    """What can still be refunded of a payment, minor units; call it under the attempt's lock to
    decide by it."""
    return payment.amount - _sum(
        Refund.payment_intent == payment.payment_intent, Refund.state.in_(TAKEN)
    )


def left_of_all(payments: Iterable[Payment]) -> int:
    """What a page may offer; the press of the button is decided anew."""
    with reading():
        return sum(left_of(payment) for payment in payments)


def left_by_intent(payments: Iterable[Payment]) -> dict[str, int]:
    """The same for each of them, by its payment intent."""
    with reading():
        return {payment.payment_intent: left_of(payment) for payment in payments}


def _checked_lines(order: Order, restock: Mapping[int, int]) -> list[stock.Line]:
    """What goes back on the shelf, never more than was bought of it."""
    if not restock:
        return []
    items = {item.id: item for item in order.items}
    back = restocked(order.id)
    lines = []
    for item_id, quantity in restock.items():
        item = items.get(item_id)
        if item is None:
            raise NotARefund("restock", "One of the lines is not of this order.")
        most = restockable(item, back)
        if not 0 <= quantity <= most:
            raise NotARefund("restock", f"{item.title}: from 0 to {most} can be put back in stock.")
        if quantity:
            lines.append(
                {
                    "product_id": item.product_id,
                    "sku": item.sku,
                    "title": item.title,
                    "quantity": quantity,
                }
            )
    return lines


def restockable(item: OrderItem, back: Mapping[int, int]) -> int:
    """How many units of a line may still go back on the shelf; ``back`` is what already did."""
    if item.product_id is None or item.state != LineState.ACTIVE:
        return 0  # what never began was never sold
    return item.quantity - back.get(item.product_id, 0)


def restocked(order_id: str) -> dict[int, int]:
    """Units that went back on the shelf, by product."""
    rows = db.session.execute(
        select(StockMovement.product_id, func.sum(StockMovement.quantity))
        .where(StockMovement.order_id == order_id, StockMovement.kind == "restocked")
        .group_by(StockMovement.product_id)
    )
    return {row[0]: int(row[1]) for row in rows}


def _write_down(order_id: str, rows: list[Refund], lines: list[stock.Line], actor: str) -> None:
    wanted = display(sum(row.amount or 0 for row in rows), rows[0].currency or "")
    of_how_many = f" of {len(rows)} payments" if len(rows) > 1 else ""
    said = f"{wanted}{of_how_many} asked for: {rows[0].reason}"
    if lines:
        put_back = ", ".join(f"{line['quantity']} × {line['title']}" for line in lines)
        said += f" (back in stock: {put_back})"
    history.noted(order_id, "refund", Cause("admin", actor=actor), said)
    db.session.add(AuditEntry(actor=actor, action="refunded", subject=order_id, detail=said))


def owe(payment_intent: str, order_id: str, reason: str) -> None:
    """Owe what is left of a payment, once, inside the caller's transaction."""
    outbox.owe("refund", payment_intent, order_id=order_id, reason=reason)


def versions(payment_intent: str) -> dict[str, int]:
    """The refund rows of a payment as they are now: note them before a look at Stripe, and apply
    the look only if they still are the same (rule R3)."""
    rows = db.session.execute(
        select(Refund.id, Refund.version).where(Refund.payment_intent == payment_intent)
    )
    return {row.id: row.version for row in rows}


def record(fact: RefundSeen, order_id: str) -> bool:
    """Write one refund down, in the row that asked for it if there is one; says if it changed.

    Call it under the attempt's lock. The shopper is told once that it succeeded, and a person here
    once that it failed."""
    row = db.session.scalar(select(Refund).where(Refund.stripe_id == fact.refund_id))
    if row is None and fact.our_row:
        row = db.session.get(Refund, fact.our_row)
    if row is None:
        row = Refund(id=str(uuid.uuid4()), payment_intent=fact.payment_intent, state="asked")
        db.session.add(row)
    seen = (fact.refund_id, fact.amount, fact.currency, fact.status)
    if (row.stripe_id, row.amount, row.currency, row.state) == seen:
        return False
    if fact.status != row.state:
        _tell(row, fact, order_id)
    row.stripe_id, row.amount, row.currency, row.state = seen
    row.order_id = order_id
    row.version = (row.version or 0) + 1
    return True


def _tell(row: Refund, fact: RefundSeen, order_id: str) -> None:
    if fact.status == "succeeded":
        if outbox.owe("refunded", row.id, order_id=order_id):
            announce("order.refunded", order_id, row.id)
    elif fact.status == "failed" or (fact.status == "canceled" and row.state == "succeeded"):
        why = (
            "A refund that had succeeded was given back by the bank. The shopper was not repaid."
            if row.state == "succeeded"
            else "The bank did not take this refund. The shopper was not repaid."
        )
        open_exception(
            "refund_failed",
            fact.refund_id,
            why,
            order_id=order_id,
            amount=fact.amount,
            currency=fact.currency,
        )


def refuse(row_id: str, order_id: str, why: str) -> None:
    """Stripe will not make this refund: its part of the payment is free again, and a person is
    told. Call it under the attempt's lock; safe to repeat."""
    row = db.session.scalar(select(Refund).where(Refund.id == row_id))
    if row is None or row.state != "asked":
        return
    row.state = "refused"
    row.version += 1
    history.noted(order_id, "refund", Cause("refund"), f"Stripe refused it: {why}")
    open_exception(
        "refund_failed",
        row.id,
        f"Stripe refused this refund: {why} What was put back in stock for it stays there.",
        order_id=order_id,
        amount=row.amount,
        currency=row.currency,
    )


def sum_of(payment_intents: list[str]) -> int:
    """Succeeded refunds of these payments, minor units."""
    if not payment_intents:
        return 0
    return _sum(Refund.payment_intent.in_(payment_intents), Refund.state == "succeeded")


def at_stripe(payment_intents: list[str]) -> int:
    """What Stripe counts as refunded of these payments, minor units: also what is on its way."""
    return _sum(
        Refund.payment_intent.in_(payment_intents),
        Refund.state.in_(TAKEN),
        Refund.stripe_id.is_not(None),
    )


def _sum(*where: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.coalesce(func.sum(Refund.amount), 0)).where(*where)) or 0


def row_of(message: Any) -> Refund:
    """The row that a message asks for, committed before Stripe is called. The id of one that the
    shop itself owes follows from the message, so that asking again asks for the same refund."""
    intent = message.payload.get("payment_intent")
    row_id = message.key
    if intent is None:
        intent = message.key
        row_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{message.kind}:{message.key}"))
    with atomic() as session:
        insert_once(
            Refund,
            id=row_id,
            payment_intent=intent,
            order_id=message.order_id,
            state="asked",
            reason=message.payload["reason"],
            generation=1,
            version=1,
            created_at=now(),
        )
        return session.scalars(select(Refund).where(Refund.id == row_id)).one()


def next_generation(row: Refund) -> None:
    """The next call asks under a new key; only after Stripe was searched (rule R2)."""
    with atomic() as session:
        session.execute(
            update(Refund)
            .where(Refund.id == row.id, Refund.generation == row.generation)
            .values(generation=row.generation + 1)
            .execution_options(synchronize_session=False)
        )
        row.generation += 1


def of_order(order_id: str) -> list[Refund]:
    """Oldest first."""
    with reading():
        return list(
            db.session.scalars(
                select(Refund)
                .where(Refund.order_id == order_id)
                .order_by(Refund.created_at, Refund.id)
            )
        )
