"""What a person can do about an exception: each press once, with its line in the audit log, and
refused with a reason where it no longer fits.

A press locks the exception's order first and then the exception, like everything that settles.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from domain import plans
from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError, StripeMissing
from domain.facts import News, PaymentSucceeded
from domain.money import display
from extensions import atomic, db, reading, retrying
from gateway import current_gateway
from models import CheckoutAttempt, Order, OutboxMessage, Payment, Product, Refund, ShopException
from services import (
    attempts,
    auth,
    exceptions,
    history,
    inbox,
    orders,
    outbox,
    payback,
    rebuild,
    reconcile,
    refunds,
)
from services.causes import Cause
from services.desk import Desk, SnapshotMissing
from services.exceptions import SEEN_TO

log = structlog.get_logger()

LONGEST_NOTE = 500
OF_ONE_PAYMENT = ("duplicate_payment", "late_payment", "amount_mismatch")

# What may be done about each type, the best first.
OFFERS: dict[str, tuple[str, ...]] = {
    "unmatched_payment": ("look", "refund"),
    "amount_mismatch": ("refund", "look"),
    "duplicate_payment": ("refund", "look"),
    "late_payment": ("accept", "refund"),
    "owner_mismatch": ("look",),
    "refund_failed": ("refund", "look"),
    "missing_at_stripe": ("look",),
    "dispute": ("look",),
    "subscription_refused": ("look",),
    "bill_differs": ("look",),
    "dead_event": ("replay", "rehearse"),
    "dead_effect": ("replay",),
}


class NoLongerFits(Conflict):
    """Somebody was faster, or things have moved on."""

    code = "remedy_unfit"
    headline = "Nothing was done"


class NotANote(ShopError):
    code = "note_missing"
    http_status = 422
    headline = "Nothing was saved"

    def __init__(self) -> None:
        super().__init__(f"Say what was done about it, in 1 to {LONGEST_NOTE} characters.")


# -- money back


@retrying
def refund(exception_id: int, actor: str) -> tuple[int, str]:
    """Give the money back that it is about: what is left of a payment, or the sum of the refund
    that failed. Returns (minor units, currency); the outbox carries it out.

    Raises NotFound, NoLongerFits; while one is on its way there is no second one.
    """
    with _open_one(exception_id, "refund") as (session, row, attempt):
        if row.type == "unmatched_payment":
            amount, currency = _owe_unmatched(row)
        else:
            amount, currency = _owe_again(row, attempt)
        said = f"{display(amount, currency)} asked for: {_why(row)}"
        if attempt:
            history.noted(attempt.id, "refund", Cause("admin", actor=actor), said)
        auth.note_in(session, actor, "refunded", _subject(row), said)
        return amount, currency


def _owe_again(row: ShopException, attempt: CheckoutAttempt | None) -> tuple[int, str]:
    payment = _payment_of(row)
    if payment is None or attempt is None or payment.attempt_id != attempt.id:
        raise NoLongerFits("This shop has no record of that payment. Refund it at Stripe.")
    _must_not_be_on_its_way(payment.payment_intent)
    left = refunds.left_of(payment)
    amount = left if row.type in OF_ONE_PAYMENT else min(left, row.amount or 0)
    if amount <= 0:
        raise NoLongerFits("Nothing of this payment is left to refund.")
    made = Refund(
        id=str(uuid.uuid4()),
        payment_intent=payment.payment_intent,
        order_id=attempt.id,
        amount=amount,
        currency=payment.currency,
        state="asked",
        reason=_why(row),
        created_at=now(),
    )
    db.session.add(made)
    outbox.owe(
        "refund",
        made.id,
        order_id=attempt.id,
        reason=made.reason,
        payment_intent=payment.payment_intent,
        amount=amount,
    )
    return amount, payment.currency


def _owe_unmatched(row: ShopException) -> tuple[int, str]:
    """Of a payment that is no order's, all that is left of it: how much, Stripe knows."""
    if row.amount is None or row.currency is None:
        raise NoLongerFits("How much this was is not known here. Refund it at Stripe.")
    key = row.stripe_id
    known = select(OutboxMessage.id).where(
        OutboxMessage.kind == "refund_unmatched", OutboxMessage.key == key
    )
    if db.session.scalar(known):
        raise NoLongerFits("Its refund was asked for already.")
    outbox.owe("refund_unmatched", key, reason=_why(row))
    return row.amount, row.currency


@outbox.handles("refund_unmatched")
def give_back_unmatched(message: OutboxMessage) -> outbox.Result:
    """Refund a payment that belongs to no order here, and write down what came of it: there is no
    order whose settling would."""
    result = payback.carry_out(message)
    row = refunds.row_of(message)
    seen = current_gateway().refunds_of(message.key)
    mine = next((fact for fact in seen if fact.our_row == row.id), None)
    with atomic() as session:
        if mine:
            session.execute(
                update(Refund)
                .where(Refund.id == row.id)
                .values(
                    stripe_id=mine.refund_id,
                    amount=mine.amount,
                    currency=mine.currency,
                    state=mine.status,
                    version=Refund.version + 1,
                )
                .execution_options(synchronize_session=False)
            )
        exceptions.heal(None, [message.key])
    return {**result, "refund": mine and mine.refund_id, "state": mine and mine.status}


def _payment_of(row: ShopException) -> Payment | None:
    intent = row.stripe_id
    if row.type == "refund_failed":
        failed = select(Refund.payment_intent).where(
            or_(Refund.stripe_id == row.stripe_id, Refund.id == row.stripe_id)
        )
        intent = db.session.scalar(failed) or ""
    return db.session.scalar(select(Payment).where(Payment.payment_intent == intent))


def _must_not_be_on_its_way(payment_intent: str) -> None:
    """Neither asked for at the counter, nor owed by the shop itself and not begun yet."""
    asked = select(Refund.id).where(
        Refund.payment_intent == payment_intent, Refund.state.in_(refunds.ON_ITS_WAY)
    )
    owed = select(OutboxMessage.id).where(
        OutboxMessage.kind == "refund",
        OutboxMessage.key == payment_intent,
        OutboxMessage.state == "new",
    )
    if db.session.scalar(asked.limit(1)) or db.session.scalar(owed.limit(1)):
        raise NoLongerFits("A refund of this payment is on its way already. Wait what comes of it.")


def _why(row: ShopException) -> str:
    return _REASONS.get(row.type, "see exceptions")


_REASONS = {
    "duplicate_payment": "paid twice",
    "late_payment": "paid too late",
    "amount_mismatch": "not what was due",
    "refund_failed": "the refund failed",
    "unmatched_payment": "no order for it",
}


# -- late money after all


def accept(exception_id: int, actor: str) -> None:
    """Fill an order whose money came too late, now that the goods are there again: it settles as if
    the payment had come this moment. Raises NotFound, NoLongerFits, the Stripe errors.
    """
    for _ in range(2):
        try:
            _accept(exception_id, actor)
            return
        except SnapshotMissing as missing:  # its person was forgotten meanwhile (rule R10)
            row = exceptions.find(exception_id)
            rebuild.refill(str(row and row.order_id), missing.payment_intent, missing.subscription)
    raise NoLongerFits("Who ordered this is forgotten, and Stripe does not know it either.")


@retrying
def _accept(exception_id: int, actor: str) -> None:
    with _open_one(exception_id, "accept") as (session, row, attempt), session.no_autoflush:
        payment = _payment_of(row)
        if attempt is None or payment is None or payment.role != "surplus":
            raise NoLongerFits("This payment is no longer one that came too late.")
        _must_not_be_on_its_way(payment.payment_intent)
        if refunds.left_of(payment) < payment.amount:
            raise NoLongerFits("A part of this payment was refunded, so it pays for no order.")
        _must_be_there(attempt)
        cause = Cause("admin", actor=actor)
        payment.role = "settles"
        session.flush()
        desk = Desk(attempt, cause, False)
        desk.conclude(verbose=False)
        if attempt.state != "settled":
            raise NoLongerFits("The goods went to somebody else this very moment.")
        said = f"{display(payment.amount, payment.currency)} accepted after all"
        history.noted(attempt.id, "payment", cause, said)
        auth.note_in(session, actor, "accepted late payment", attempt.id, said)
        session.flush()
        exceptions.heal(attempt.id)
        desk.carry_out()


def _must_be_there(attempt: CheckoutAttempt) -> None:
    """Raises NoLongerFits with what is missing."""
    if attempt.state != "closed":
        raise NoLongerFits("This order has moved on: it is not over any more.")
    if plans.recurring(attempt.lines):
        raise NoLongerFits(
            "Its subscription was ended when the money came too late, so it cannot be filled as it "
            "was bought. Refund it, and ask the shopper to order again."
        )
    if attempts.bought_or_out_again(attempt):
        raise NoLongerFits("The same basket was checked out again meanwhile. Refund this payment.")
    for line in attempt.lines:
        found = db.session.scalar(select(Product).where(Product.id == line["product_id"]))
        free = found.free if found else 0
        if free < line["quantity"]:
            raise NoLongerFits(
                f"{line['title']}: {line['quantity']} are needed and {free} are free. Book what "
                "came in under Products, then try again."
            )


# -- looking, and trying again


def look_again(exception_id: int, actor: str) -> str:
    """Ask Stripe about what it is about, and settle what can be settled. Returns what came of it in
    words. Raises NotFound, NoLongerFits, and the Stripe errors.
    """
    row = _offered(exception_id, "look")
    cause = Cause("admin", actor=actor)
    auth.note(actor, "looked again", _subject(row))
    found = False
    if row.stripe_id.startswith("pi_") and not (row.order_id and attempts.exists(row.order_id)):
        found = _look_for_its_order(row.stripe_id, cause)
    elif row.order_id:
        tally = reconcile.sync_order(row.order_id, cause)
        if tally.failed:
            after = exceptions.find(row.id)
            if after and after.type == "missing_at_stripe":
                return "Stripe was asked, and still does not know it."
            return "Stripe did not answer. Try again in a moment."
        found = tally.synced > 0
    after = exceptions.find(row.id)
    if after and after.state != "open":
        return f"Stripe was asked, and this is settled. {after.resolution or ''}".strip()
    if found:
        return "Stripe was asked: its order was brought up to date. This stays open."
    return "Stripe was asked: nothing new."


def _look_for_its_order(payment_intent: str, cause: Cause) -> bool:
    try:
        told = current_gateway().read_leg("payment_intent", payment_intent)
    except StripeMissing as missing:
        raise NoLongerFits("Stripe does not know this payment. Are these the right keys?") from (
            missing
        )
    paid = next((fact for fact in told if isinstance(fact, PaymentSucceeded)), None)
    if paid is None or paid.origin.attempt_id is None:
        return False
    news = News("", "look", attempt_id=paid.origin.attempt_id, facts=(paid,))
    return inbox.take(news, cause) is not None


def replay(exception_id: int, actor: str) -> None:
    """Take up what gave up. Raises NotFound, NoLongerFits."""
    row = _offered(exception_id, "replay")
    take_up = inbox.replay if row.type == "dead_event" else outbox.replay
    if not take_up(row.stripe_id, actor):
        raise NoLongerFits("It is being tried again already.")


# -- seen to


@retrying
def see_to(exception_id: int, actor: str, note: str) -> None:
    """Mark it as seen to, with what was done about it. Raises NotFound, NoLongerFits, NotANote."""
    note = note.strip()
    if not note or len(note) > LONGEST_NOTE:
        raise NotANote
    with _open_one(exception_id) as (session, row, attempt):
        row.state, row.how, row.resolved_at = "resolved", SEEN_TO, now()
        row.resolution, row.resolved_by = note, actor
        if attempt:
            said = f"{_spoken(row)}, seen to: {note}"
            history.noted(attempt.id, "note", Cause("admin", actor=actor), said)
        auth.note_in(session, actor, "saw to", _subject(row), f"{row.type}: {note}")


@retrying
def reopen(exception_id: int, actor: str) -> None:
    """Take *seen to* back. Raises NotFound, NoLongerFits."""
    with _locked(exception_id) as (session, row, attempt):
        if row.state == "open":
            raise NoLongerFits("It is open already.")
        if not can_be_reopened(row):
            raise NoLongerFits("It was not marked as seen to, so there is nothing to take back.")
        row.state = "open"
        for name, value in exceptions.UNRESOLVED.items():
            setattr(row, name, value)
        if attempt:
            said = f"{_spoken(row)}, open again"
            history.noted(attempt.id, "note", Cause("admin", actor=actor), said)
        auth.note_in(session, actor, "reopened", _subject(row), row.type)
        session.flush()
        exceptions.heal(row.order_id, [row.stripe_id])  # it may have healed meanwhile


def can_be_reopened(row: ShopException) -> bool:
    return row.state == "resolved" and row.how == SEEN_TO


# -- whose it is


def whose(rows: list[ShopException]) -> dict[str, dict[str, Any]]:
    """By order id: ``number`` (None where the order is not born), ``name``, ``email``."""
    ids = {row.order_id for row in rows if row.order_id}
    if not ids:
        return {}
    with reading() as session:
        known: dict[str, dict[str, Any]] = {
            attempt.id: {
                "number": None,
                "name": (attempt.snapshot.get("contact") or {}).get("name"),
                "email": attempt.email,
            }
            for attempt in session.scalars(
                select(CheckoutAttempt).where(CheckoutAttempt.id.in_(ids))
            )
        }
        for order in session.scalars(select(Order).where(Order.id.in_(ids))):
            known[order.id] = {
                "number": orders.number(order),
                "name": order.name,
                "email": order.email,
            }
    return known


@contextmanager
def _open_one(
    exception_id: int, remedy: str | None = None
) -> Iterator[tuple[Session, ShopException, CheckoutAttempt | None]]:
    """One that is open, locked, with its attempt; for a remedy that its type has."""
    with _locked(exception_id) as (session, row, attempt):
        _must_be_open(row, remedy)
        yield session, row, attempt


@contextmanager
def _locked(
    exception_id: int,
) -> Iterator[tuple[Session, ShopException, CheckoutAttempt | None]]:
    before = exceptions.find(exception_id)
    with atomic() as session:
        attempt = attempts.lock(before.order_id) if before and before.order_id else None
        row = session.scalar(
            select(ShopException).where(ShopException.id == exception_id).with_for_update()
        )
        if row is None:
            raise NotFound("There is no such exception.")
        yield session, row, attempt


def _offered(exception_id: int, remedy: str) -> ShopException:
    """For what opens transactions of its own: looked at, not locked."""
    row = exceptions.find(exception_id)
    if row is None:
        raise NotFound("There is no such exception.")
    _must_be_open(row, remedy)
    return row


def _must_be_open(row: ShopException, remedy: str | None) -> None:
    if row.state != "open":
        by = f" by {row.resolved_by}" if row.resolved_by else ""
        raise NoLongerFits(f"This was resolved{by} meanwhile: {row.resolution or 'no longer open'}")
    if remedy and remedy not in OFFERS.get(row.type, ()):
        raise NoLongerFits(f"That does not help with “{_spoken(row).lower()}”.")


def _subject(row: ShopException) -> str:
    return row.order_id or row.stripe_id


def _spoken(row: ShopException) -> str:
    return row.type.replace("_", " ").capitalize()
