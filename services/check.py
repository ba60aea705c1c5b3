"""The proof: every invariant, on our side by SQL and against Stripe's own ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select

from domain.errors import StripeError
from domain.transitions import PAID_STATUSES, LineState
from extensions import db, is_postgresql, reading
from gateway import current_gateway, facts
from gateway.facts import ATTEMPT_KEY
from models import (
    CartItem,
    CheckoutAttempt,
    Dispute,
    Order,
    OrderEvent,
    OrderItem,
    OutboxMessage,
    Payment,
    Product,
    Refund,
    ShopException,
    StockMovement,
    StripeEvent,
    Subscription,
)
from services import attempts, books, plan_rows, refunds
from services.exceptions import SEEN_TO

BEGINNING = datetime(2011, 1, 1, tzinfo=UTC)  # Stripe has taken payments since then


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    subject: str
    detail: str
    repair: str


@dataclass(slots=True)
class Report:
    """What was checked and what does not hold."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.violations

    def as_dict(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "checked": self.checked,
            "violations": [asdict(violation) for violation in self.violations],
            "took_s": round(self.took_s, 3),
        }

    def text(self) -> str:
        lines = [f"  {count:>8}  {name}" for name, count in self.checked.items()]
        for violation in self.violations:
            lines.append(f"BROKEN {violation.invariant}: {violation.subject}: {violation.detail}")
            lines.append(f"       repair: {violation.repair}")
        verdict = (
            "Every payment has its order, every order has its payment, nothing is sold twice."
            if self.holds
            else f"{len(self.violations)} violation(s)."
        )
        return "\n".join([*lines, f"{verdict} ({self.took_s:.2f} s)"])


Check = Callable[[], tuple[int, list[Violation]]]


def run(*, against_stripe: bool = True) -> Report:
    """Check everything; never raises for what it finds."""
    started = time.perf_counter()
    report = Report()
    with _one_moment():
        for name, check in OURS.items():
            report.checked[name], found = check()
            report.violations += found
    if against_stripe:
        report.checked["payments in Stripe's ledger"], found = _ledger()
        report.violations += found
    report.took_s = time.perf_counter() - started
    return report


@contextmanager
def _one_moment() -> Iterator[None]:
    """All tables as they were at one moment, so that a busy shop does not look broken."""
    with reading() as session:
        if is_postgresql():
            session.commit()
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield


def _paid_orders() -> tuple[int, list[Violation]]:
    """A confirmed order's settling payments sum to its total, in its currency, less the lines that
    recur and are yet to be paid, or never will be."""
    paid = (
        select(
            Payment.attempt_id,
            func.sum(Payment.amount).label("amount"),
            func.min(Payment.currency).label("currency"),
        )
        .where(Payment.role == "settles")
        .group_by(Payment.attempt_id)
        .subquery()
    )
    unpaid = _unpaid_lines()
    waits = func.coalesce(
        select(func.sum(unpaid.c.amount)).where(unpaid.c.order_id == Order.id).scalar_subquery(), 0
    )
    rows = db.session.execute(
        select(Order.id, Order.total - waits, Order.currency, paid.c.amount, paid.c.currency)
        .outerjoin(paid, paid.c.attempt_id == Order.id)
        .where(
            Order.status.in_(PAID_STATUSES),
            Order.total - waits > 0,
            or_(
                paid.c.amount.is_(None),
                paid.c.amount != Order.total - waits,
                paid.c.currency != Order.currency,
            ),
        )
    ).all()
    found = [
        Violation(
            "paid orders",
            row[0],
            f"due {row[1]} {row[2]}, settled by {row[3]} {row[4]}",
            f"open the order in the admin and press Sync now, or: flask sync; order {row[0]}",
        )
        for row in rows
    ]
    return _count(Order, Order.status.in_(PAID_STATUSES)), found


def _unpaid_lines() -> Any:
    """Lines that recur and whose first amount is not paid; a trial has none."""
    trial = OrderItem.plan["trial_days"].as_integer() > 0
    return (
        select(
            OrderItem.order_id,
            case((trial, 0), else_=OrderItem.unit_amount * OrderItem.quantity).label("amount"),
        )
        .where(OrderItem.state != LineState.ACTIVE)
        .subquery()
    )


def _payments() -> tuple[int, list[Violation]]:
    """Each payment settles exactly one confirmed order, or is refunded, or is an open exception."""
    rows = db.session.execute(
        select(Payment.payment_intent, Payment.role, CheckoutAttempt.state)
        .outerjoin(CheckoutAttempt, CheckoutAttempt.id == Payment.attempt_id)
        .where(
            or_(
                and_(Payment.role == "settles", CheckoutAttempt.state != "settled"),
                and_(
                    Payment.role.in_(("surplus", "mismatch")),
                    ~_has_exception(Payment.payment_intent),
                    ~_is_refunded(),
                ),
            )
        )
    ).all()
    found = [
        Violation("payments", row[0], f"{row[1]} payment, attempt is {row[2]}", "flask sync")
        for row in rows
    ]
    return _count(Payment), found


def _is_refunded() -> Any:
    refunded = (
        select(func.coalesce(func.sum(Refund.amount), 0))
        .where(Refund.payment_intent == Payment.payment_intent, Refund.state == "succeeded")
        .scalar_subquery()
    )
    return refunded >= Payment.amount


def _has_exception(column: Any) -> Any:
    """Open, or a person has seen to it and said how."""
    waits = or_(ShopException.state == "open", ShopException.how == SEEN_TO)
    return select(ShopException.id).where(ShopException.stripe_id == column, waits).exists()


def _stock() -> tuple[int, list[Violation]]:
    """``held`` is what open attempts hold, and lines that wait for their first payment;
    ``initial + received = on_hand + sold``; sold is what was confirmed."""
    held: dict[int, int] = {}
    for lines in db.session.scalars(
        select(CheckoutAttempt.snapshot).where(CheckoutAttempt.hold == "held")
    ):
        for line in lines["lines"]:
            held[line["product_id"]] = held.get(line["product_id"], 0) + line["quantity"]
    confirmed_orders = OrderItem.order_id.in_(
        select(CheckoutAttempt.id).where(CheckoutAttempt.hold == "sold")
    )
    still = OrderItem.state.in_((LineState.PENDING, LineState.PAST_DUE))
    for id_, units in _sums(
        OrderItem.product_id, OrderItem.quantity, confirmed_orders, still
    ).items():
        held[id_] = held.get(id_, 0) + units
    came = _sums(
        StockMovement.product_id, StockMovement.quantity, StockMovement.kind != "restocked"
    )
    back = _sums(
        StockMovement.product_id, StockMovement.quantity, StockMovement.kind == "restocked"
    )
    confirmed = _sums(
        OrderItem.product_id,
        OrderItem.quantity,
        confirmed_orders,
        OrderItem.state == LineState.ACTIVE,
    )
    found = []
    products = db.session.scalars(select(Product)).all()
    for product in products:
        expected = {
            "held": (product.held, held.get(product.id, 0)),
            "initial + received": (product.on_hand + product.sold, came.get(product.id, 0)),
            "sold": (product.sold, confirmed.get(product.id, 0) - back.get(product.id, 0)),
        }
        for name, (is_, should) in expected.items():
            if is_ != should:
                found.append(
                    Violation(
                        "stock",
                        product.sku,
                        f"{name}: the shelf says {is_}, the books say {should}",
                        "count the shelf, then correct the product's stock with a reason",
                    )
                )
        if not 0 <= product.held <= product.on_hand:
            found.append(
                Violation(
                    "stock", product.sku, f"held {product.held} of {product.on_hand}", "count"
                )
            )
    return len(products), found


def _sums(key: Any, value: Any, *where: Any) -> dict[int, int]:
    rows = db.session.execute(select(key, func.sum(value)).where(*where).group_by(key))
    return {row[0]: int(row[1]) for row in rows if row[0] is not None}


def _receipts() -> tuple[int, list[Violation]]:
    """One receipt per confirmed order, none for any other."""
    receipts = (
        select(OutboxMessage.order_id, func.count().label("n"))
        .where(OutboxMessage.kind == "receipt")
        .group_by(OutboxMessage.order_id)
        .subquery()
    )
    rows = db.session.execute(
        select(Order.id, Order.paid_at, receipts.c.n)
        .outerjoin(receipts, receipts.c.order_id == Order.id)
        .where(
            or_(
                and_(Order.paid_at.is_not(None), func.coalesce(receipts.c.n, 0) != 1),
                and_(Order.paid_at.is_(None), func.coalesce(receipts.c.n, 0) != 0),
            )
        )
    ).all()
    found = [
        Violation("receipts", row[0], f"paid at {row[1]}, receipts: {row[2] or 0}", "flask sync")
        for row in rows
    ]
    return _count(OutboxMessage, OutboxMessage.kind == "receipt"), found


def _history() -> tuple[int, list[Violation]]:
    """Replaying the transitions of an order gives its present status."""
    replayed: dict[str, str | None] = {}
    broken: dict[str, str] = {}
    for event in db.session.execute(
        select(OrderEvent.order_id, OrderEvent.from_status, OrderEvent.to_status)
        .where(OrderEvent.kind == "transition")
        .order_by(OrderEvent.id)
    ):
        before = replayed.get(event.order_id)
        if before != event.from_status and before is not None:
            broken[event.order_id] = f"{before} was followed by a move from {event.from_status}"
        replayed[event.order_id] = event.to_status
    count = 0
    for order_id, status in db.session.execute(select(Order.id, Order.status)):
        count += 1
        if replayed.get(order_id) != status:
            broken[order_id] = f"history says {replayed.get(order_id)}, the order says {status}"
    return count, [
        Violation("history", order_id, why, "this is a defect: report it with `flask export`")
        for order_id, why in broken.items()
    ]


def _axes() -> tuple[int, list[Violation]]:
    """Order and attempt say the same; an ended attempt holds nothing."""
    rows = db.session.execute(
        select(CheckoutAttempt.id, CheckoutAttempt.status, CheckoutAttempt.hold, Order.status)
        .outerjoin(Order, Order.id == CheckoutAttempt.id)
        .where(
            or_(
                and_(Order.id.is_not(None), Order.status != CheckoutAttempt.status),
                and_(CheckoutAttempt.state == "open", CheckoutAttempt.hold != "held"),
                and_(CheckoutAttempt.state == "closed", CheckoutAttempt.hold != "released"),
                and_(CheckoutAttempt.state == "settled", CheckoutAttempt.hold != "sold"),
                and_(CheckoutAttempt.state == "settled", Order.id.is_(None)),
            )
        )
    ).all()
    return _count(CheckoutAttempt), [
        Violation("attempts", row[0], f"{row[1]}, stock {row[2]}, order {row[3]}", "flask sync")
        for row in rows
    ]


def _lines_in_one_place() -> tuple[int, list[Violation]]:
    """An attempt whose strategy took its lines has them out, and a cart holds each line once."""
    rows = db.session.execute(
        select(CheckoutAttempt.id, CheckoutAttempt.state, CheckoutAttempt.lines_out).where(
            or_(
                and_(CheckoutAttempt.state == "closed", CheckoutAttempt.lines_out),
                and_(CheckoutAttempt.state == "settled", ~CheckoutAttempt.lines_out),
            )
        )
    ).all()
    return _count(CartItem), [
        Violation("lines", row[0], f"attempt {row[1]}, lines out: {row[2]}", "flask sync")
        for row in rows
    ]


def _subscriptions() -> tuple[int, list[Violation]]:
    """A line that has begun has its subscription; one that never began has none that runs; each
    renewal belongs to one."""
    rows = db.session.execute(
        select(OrderItem.order_id, OrderItem.sku, OrderItem.state, Subscription.status)
        .outerjoin(
            Subscription,
            and_(
                Subscription.checkout_attempt_id == OrderItem.order_id,
                Subscription.part == OrderItem.sku,
            ),
        )
        .where(
            OrderItem.plan["interval"].as_string().is_not(None),
            or_(
                and_(OrderItem.state == LineState.ACTIVE, Subscription.id.is_(None)),
                and_(
                    OrderItem.state.in_((LineState.NOT_STARTED, LineState.ENDED)),
                    Subscription.status.in_(plan_rows.BEGUN),
                ),
            ),
        )
    ).all()
    found = [
        Violation(
            "subscriptions", f"{row[0]} {row[1]}", f"{row[2]}, Stripe: {row[3]}", "flask sync"
        )
        for row in rows
    ]
    lost = db.session.scalars(
        select(Payment.payment_intent)
        .outerjoin(
            Subscription,
            and_(
                Subscription.checkout_attempt_id == Payment.attempt_id,
                Subscription.part == Payment.part,
            ),
        )
        .where(Payment.role == "renewal", Subscription.id.is_(None))
    )
    found += [
        Violation("subscriptions", id_, "renews nothing we know", "flask sync") for id_ in lost
    ]
    found += _lines_that_do_not_recur()
    return _count(Subscription), found


def _lines_that_do_not_recur() -> list[Violation]:
    """A subscription is of a line with a plan, and a payment for a part is for a line."""
    odd = db.session.execute(
        select(Subscription.checkout_attempt_id, Subscription.part)
        .join(Order, Order.id == Subscription.checkout_attempt_id)
        .outerjoin(
            OrderItem,
            and_(
                OrderItem.order_id == Subscription.checkout_attempt_id,
                OrderItem.sku == Subscription.part,
                OrderItem.plan["interval"].as_string().is_not(None),
            ),
        )
        .where(OrderItem.id.is_(None))
    )
    stray = db.session.execute(
        select(Payment.payment_intent, Payment.part)
        .outerjoin(
            OrderItem,
            and_(OrderItem.order_id == Payment.attempt_id, OrderItem.sku == Payment.part),
        )
        .where(Payment.role == "settles", Payment.part != "", OrderItem.id.is_(None))
    )
    return [
        Violation("subscriptions", f"{id_} {part}", "there is no such line", "flask sync")
        for id_, part in (*odd, *stray)
    ]


def _dead() -> tuple[int, list[Violation]]:
    """Nothing died without an exception that a person sees."""
    effect = OutboxMessage.kind + ":" + OutboxMessage.key
    found = []
    for name, id_, model in (
        ("event", StripeEvent.id, StripeEvent),
        ("effect", effect, OutboxMessage),
    ):
        shown = select(ShopException.id).where(
            ShopException.type == f"dead_{name}",
            ShopException.stripe_id == id_,
            or_(ShopException.state == "open", ShopException.how == SEEN_TO),
        )
        hidden = select(id_).where(model.state == "dead", ~shown.exists())
        found += [
            Violation("dead letters", lost, f"this {name} died and nobody is told", "replay it")
            for lost in db.session.scalars(hidden)
        ]
    return _count(StripeEvent), found


OURS: dict[str, Check] = {
    "confirmed orders": _paid_orders,
    "payments": _payments,
    "products": _stock,
    "receipts": _receipts,
    "orders replayed": _history,
    "attempts": _axes,
    "cart lines": _lines_in_one_place,
    "subscriptions": _subscriptions,
    "orders added up": lambda: _told(books.add_up),
    "invoices": lambda: _told(books.numbered),
    "events": _dead,
}


def _told(look: Callable[[], tuple[int, list[books.Finding]]]) -> tuple[int, list[Violation]]:
    count, findings = look()
    return count, [Violation(*finding) for finding in findings]


def _ledger() -> tuple[int, list[Violation]]:
    """Stripe's side: each succeeded payment of ours is known here, to the cent, and back."""
    with reading():
        ours = {payment.payment_intent: payment for payment in db.session.scalars(select(Payment))}
        given_back = _sums(
            Refund.payment_intent,
            Refund.amount,
            Refund.state.in_(refunds.TAKEN),
            Refund.stripe_id.is_not(None),
        )
        unmatched = set(
            db.session.scalars(
                select(ShopException.stripe_id).where(
                    ShopException.type.in_(("unmatched_payment", "owner_mismatch"))
                )
            )
        )
    count, found = 0, []
    try:
        for intent in _of_ours(current_gateway().payments_since(BEGINNING), _renewing()):
            count += 1
            payment = ours.pop(intent["id"], None)
            received = (intent["amount_received"], intent["currency"])
            if payment is None and intent["id"] not in unmatched:
                found.append(
                    Violation(
                        "ledger",
                        intent["id"],
                        f"Stripe took {received[0]} {received[1]}; this shop does not know it",
                        "flask sync --until-quiet",
                    )
                )
            elif payment and (payment.amount, payment.currency) != received:
                found.append(
                    Violation(
                        "ledger",
                        intent["id"],
                        f"Stripe: {received}, here: {(payment.amount, payment.currency)}",
                        "this is a defect: report it with `flask export`",
                    )
                )
            if payment:
                found += _refunds_differ(intent, given_back.get(intent["id"], 0))
        found += _disputes_differ()
        found += _subscriptions_differ()
        found += [Violation(*finding) for finding in books.differ()]
    except StripeError as error:
        found.append(Violation("ledger", "Stripe", error.message, "run it again later"))
        return count, found
    found += [
        Violation("ledger", intent, "this shop counts a payment that Stripe does not have", "ask")
        for intent in ours
    ]
    return count, found


def _subscriptions_differ() -> list[Violation]:
    """Every subscription that runs in our name is here, and each of ours stands as there."""
    with reading():
        ours: dict[str, str] = {
            row.stripe_id: row.status for row in db.session.scalars(select(Subscription))
        }
    found = []
    for theirs, status, attempt_id in current_gateway().subscriptions_since(BEGINNING):
        here = ours.pop(theirs, None)
        # One of a checkout that is not here shows itself by its money: an unmatched payment.
        is_unknown = here is None and status not in plan_rows.ENDED
        runs_unknown = is_unknown and attempts.exists(attempt_id)
        if runs_unknown or here not in (None, status):
            found.append(
                Violation(
                    "subscriptions",
                    theirs,
                    f"Stripe: {status}, here: {here or 'unknown'}",
                    "flask sync --until-quiet, or Sync now on its order",
                )
            )
    found += [
        Violation("subscriptions", id_, f"Stripe does not have it, here: {status}", "ask")
        for id_, status in ours.items()
    ]
    return found


def _disputes_differ() -> list[Violation]:
    """Every dispute of our payments is here, and stands as it does at Stripe."""
    with reading():
        ours = {row.stripe_id: row.status for row in db.session.scalars(select(Dispute))}
        known = set(db.session.scalars(select(Payment.payment_intent)))
    found = []
    for dispute in current_gateway().disputes_since(BEGINNING):
        here = ours.get(dispute.dispute_id)
        if dispute.payment_intent in known and here != dispute.status:
            found.append(
                Violation(
                    "disputes",
                    dispute.dispute_id,
                    f"Stripe: {dispute.status}, here: {here or 'unknown'}",
                    "flask sync --until-quiet",
                )
            )
    return found


def _refunds_differ(intent: dict[str, Any], ours: int) -> list[Violation]:
    """Stripe counts a refund that is on its way as given back, and so do we here."""
    theirs = (intent.get("latest_charge") or {}).get("amount_refunded", 0)
    if theirs == ours:
        return []
    return [
        Violation(
            "refunds",
            intent["id"],
            f"Stripe gave back {theirs} {intent['currency']}, here: {ours}",
            "flask sync --until-quiet",
        )
    ]


def _renewing() -> set[str]:
    """The intents that paid invoices of our subscriptions: only the invoices say whose they are."""
    found = set()
    for invoice in current_gateway().paid_invoices_since(BEGINNING):
        if facts.attempt_of_invoice(invoice):
            found.add(facts.payer_of_invoice(invoice) or "")
    return found


def _of_ours(intents: Iterator[dict[str, Any]], of_invoices: set[str]) -> Iterator[dict[str, Any]]:
    for intent in intents:
        named = (intent.get("metadata") or {}).get(ATTEMPT_KEY) or intent["id"] in of_invoices
        if named and intent["status"] == "succeeded":
            yield intent


def _count(model: Any, *where: Any) -> int:
    return db.session.scalar(select(func.count()).select_from(model).where(*where)) or 0
