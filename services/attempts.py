"""The checkout attempt's own rows: lock it, give birth to its order, move its lines.

Every function here belongs inside the caller's ``atomic()``, after ``lock``. Locks are taken in
one order everywhere: attempt, then cart, then products by id.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, delete, func, or_, select, update

from domain import plans
from domain.clock import now
from domain.errors import Conflict
from domain.strategies import Moment
from domain.transitions import LineState
from domain.words import Words
from extensions import db, is_postgresql, reading
from models import Cart, CartItem, CheckoutAttempt, Order, OrderItem, Payment, StripeLeg
from services import history
from services.causes import Cause

MOST_PER_LINE = 99

# Built once: every event asks these, and building a statement costs more than sending it.
_THIS: Any = bindparam("attempt")
_LOCK = select(CheckoutAttempt).where(CheckoutAttempt.id == _THIS).with_for_update()
_ORDER = select(Order).where(Order.id == _THIS)
_LEGS = select(StripeLeg).where(StripeLeg.attempt_id == _THIS).order_by(StripeLeg.id)
_PAYMENTS = select(Payment).where(Payment.attempt_id == _THIS).order_by(Payment.id)


def lock(attempt_id: str) -> CheckoutAttempt | None:
    """The attempt, locked until the transaction ends (SQLite locks the whole file already)."""
    return db.session.scalar(_LOCK, {"attempt": attempt_id})


def exists(attempt_id: str | None) -> bool:
    """Whether there is such an attempt, as far as is committed now."""
    with reading() as session:
        found = select(CheckoutAttempt.id).where(CheckoutAttempt.id == attempt_id)
        return session.scalar(found) is not None


def is_settled(attempt_id: str) -> bool:
    """Whether it is paid for, or as much of it as confirms its order."""
    state = select(CheckoutAttempt.state).where(CheckoutAttempt.id == attempt_id)
    return db.session.scalar(state) == "settled"


def order_of(attempt_id: str) -> Order | None:
    return db.session.scalar(_ORDER, {"attempt": attempt_id})


def legs_of(attempt_id: str) -> list[StripeLeg]:
    """Oldest first."""
    return list(db.session.scalars(_LEGS, {"attempt": attempt_id}))


def payments_of(attempt_id: str) -> list[Payment]:
    return list(db.session.scalars(_PAYMENTS, {"attempt": attempt_id}))


def owner_of_leg(stripe_id: str) -> str | None:
    """The attempt whose leg this is, by our own records."""
    return db.session.scalar(select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == stripe_id))


def reach(
    attempt: CheckoutAttempt, moment: Moment, cause: Cause, order: Order | None = None
) -> Order | None:
    """A moment of the checkout has come: make the order, and take its lines out of the cart, if
    its strategy says so. Returns the order, if there is one by now. Safe to repeat."""
    order = order or ensure_order(attempt, moment, cause)
    if moment >= attempt.strategy.lines_leave_cart:
        take_lines(attempt)
    return order


def ensure_order(attempt: CheckoutAttempt, moment: Moment, cause: Cause) -> Order | None:
    """The order of this attempt, made now if its strategy says so; None while it is too early.

    Safe to repeat: the order's id is the attempt's, so there is never a second one.
    """
    strategy = attempt.strategy
    order = order_of(attempt.id)
    if order or moment < strategy.order_born:
        return order
    is_provisional = strategy.provisional and moment < Moment.PAYMENT
    contact = attempt.snapshot.get("contact") or {}
    order = Order(
        id=attempt.id,
        checkout_attempt_id=attempt.id,
        number=_next_number(),
        user_id=attempt.user_id,
        shopper_id=attempt.shopper_id,
        strategy=attempt.strategy_name,
        status=attempt.status,
        is_provisional=is_provisional,
        provisional_created_at=now() if is_provisional else None,
        currency=attempt.currency,
        subtotal=attempt.subtotal,
        discount=attempt.discount,
        shipping=attempt.shipping,
        tax=attempt.tax,
        total=attempt.total,
        tax_rates=attempt.tax_rates,
        code=attempt.code,
        name=contact.get("name"),
        email=contact.get("email"),
        phone=contact.get("phone"),
        language=attempt.language,
        address=attempt.snapshot.get("address"),
        delivery=attempt.snapshot.get("delivery"),
        created_at=now(),
        updated_at=now(),
    )
    db.session.add(order)
    db.session.flush()  # the items point at it
    db.session.add_all(
        OrderItem(
            order_id=order.id,
            **{name: line[name] for name in _ITEM_COLUMNS},
            discount=line.get("discount", 0),
            tax=line.get("tax", 0),
            plan=line.get("plan"),
            state=LineState.PENDING if plans.recurs(line) else LineState.ACTIVE,
        )
        for line in attempt.lines
    )
    if moment > Moment.START:  # else its history has just begun, and says so
        made = "provisionally, before its payment was seen" if is_provisional else "now"
        history.noted(order.id, "note", cause, f"the order was made {made}")
    return order


_ITEM_COLUMNS = ("product_id", "sku", "title", "subtitle", "picture", "unit_amount", "quantity")


def _next_number() -> Any:
    """Consecutive enough for people; SQLite has no sequences, but only one writer."""
    if is_postgresql():
        return Order.__table__.c.number.default.next_value()
    return select(func.coalesce(func.max(Order.number), 10000) + 1).scalar_subquery()


def take_lines(attempt: CheckoutAttempt) -> None:
    """Take the snapshot's lines, and nothing else, out of the cart; once."""
    if attempt.lines_out:
        return
    attempt.lines_out = True
    if not lock_cart(attempt):
        return
    for line in attempt.lines:
        same = (
            CartItem.cart_id == attempt.cart_id,
            CartItem.product_id == line["product_id"],
        )
        db.session.execute(delete(CartItem).where(*same, CartItem.quantity <= line["quantity"]))
        db.session.execute(
            update(CartItem)
            .where(*same, CartItem.quantity > line["quantity"])
            .values(quantity=CartItem.quantity - line["quantity"])
        )


def return_lines(attempt: CheckoutAttempt) -> None:
    """Put the snapshot's lines back, added to whatever is in the cart now; once."""
    if not attempt.lines_out:
        return
    attempt.lines_out = False
    if not lock_cart(attempt):
        return
    present = {
        item.product_id: item
        for item in db.session.scalars(select(CartItem).where(CartItem.cart_id == attempt.cart_id))
    }
    for line in attempt.lines:
        item = present.get(line["product_id"])
        if item:
            item.quantity = min(item.quantity + line["quantity"], MOST_PER_LINE)
        else:
            db.session.add(
                CartItem(
                    cart_id=attempt.cart_id,
                    product_id=line["product_id"],
                    quantity=line["quantity"],
                    shown_amount=line["unit_amount"],
                    shown_currency=attempt.currency,
                )
            )


def take_lines_again(attempt: CheckoutAttempt, cause: Cause) -> None:
    """For a retry: the lines that came back must still be in the cart, as many of each; they leave
    it again when their strategy says so. Raises Conflict."""
    there: dict[int, int] = {}
    if lock_cart(attempt):
        there = {
            item.product_id: item.quantity
            for item in db.session.scalars(
                select(CartItem).where(CartItem.cart_id == attempt.cart_id)
            )
        }
    gone = [line for line in attempt.lines if there.get(line["product_id"], 0) < line["quantity"]]
    if gone:
        titles = ", ".join(line["title"] for line in gone)
        raise Conflict(
            Words(
                "%(titles)s: no longer in your basket as it was then, so this order cannot be paid "
                "again. Nothing was charged. Check out what is in your basket instead.",
                titles=titles,
            )
        )
    reach(attempt, Moment.START, cause)


def bought_or_out_again(attempt: CheckoutAttempt) -> bool:
    """Whether another attempt of the same cart is about to buy these lines, or has bought them
    since this one ended."""
    wanted = {line["sku"] for line in attempt.lines}
    others = db.session.scalars(
        select(CheckoutAttempt).where(
            CheckoutAttempt.shopper_id == attempt.shopper_id,  # whose cart it is; this has an index
            CheckoutAttempt.cart_id == attempt.cart_id,
            CheckoutAttempt.cart_id.is_not(None),
            CheckoutAttempt.id != attempt.id,
            or_(
                CheckoutAttempt.state == "open",
                and_(
                    CheckoutAttempt.state == "settled",
                    CheckoutAttempt.closed_at >= attempt.closed_at,
                ),
            ),
        )
    )
    return any(wanted & {line["sku"] for line in other.lines} for other in others)


def lock_cart(attempt: CheckoutAttempt) -> bool:
    """Lock the cart if it is still there; an order settles without one."""
    if attempt.cart_id is None:
        return False
    return (
        db.session.scalar(select(Cart.id).where(Cart.id == attempt.cart_id).with_for_update())
        is not None
    )
