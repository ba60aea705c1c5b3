"""Money or goods that need a person: opened once per object, and closed when that has healed.

Everything here that writes does so inside the caller's transaction, so that an exception opens and
ends with the fact that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import structlog
from sqlalchemy import func, or_, select, update

from domain.clock import now
from extensions import db, insert_once, reading
from models import CheckoutAttempt, Dispute, Payment, Refund, ShopException

log = structlog.get_logger()

HEALED, SEEN_TO, TRIED = "healed", "seen_to", "tried"  # how one ended
DEAD = ("dead_event", "dead_effect")
# Stripe's statuses (docs.stripe.com/api/disputes/object#dispute_object-status) that end a dispute.
DISPUTE_ENDS = ("won", "warning_closed", "prevented", "lost")


class Cure(NamedTuple):
    """What healed one: in words, and the object that did it, if there is one."""

    words: str
    by: str | None = None


def open_exception(
    type_: str,
    stripe_id: str,
    detail: str,
    *,
    order_id: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
) -> None:
    """Open one, unless this object already has one of this type. ``amount`` in minor units.

    One that had healed by itself opens again; one that a person has seen to stays so, unless it
    is something that has given up once more.
    """
    about = {"order_id": order_id, "amount": amount, "currency": currency, "detail": detail}
    fresh = {**about, "state": "open", "opened_at": now()}
    opened = insert_once(ShopException, type=type_, stripe_id=stripe_id, **fresh)
    if opened or _open_again(type_, stripe_id, fresh):
        log.error("exception.opened", type=type_, object=stripe_id, order=order_id)


def _open_again(type_: str, stripe_id: str, fresh: dict[str, Any]) -> bool:
    query = _of(type_, stripe_id, "resolved")
    if type_ not in DEAD:
        query = query.where(or_(ShopException.how.is_(None), ShopException.how != SEEN_TO))
    reopened = db.session.execute(query.values(**fresh, **UNRESOLVED))
    return bool(reopened.rowcount)  # type: ignore[attr-defined]


UNRESOLVED: dict[str, None] = {
    "resolved_at": None,
    "how": None,
    "resolution": None,
    "resolved_by": None,
    "healed_by": None,
}


def close_exception(
    type_: str, stripe_id: str, how: str, resolution: str, *, by: str | None = None
) -> None:
    """End one, if it is open; it stays on record. ``by`` is the person who did it."""
    db.session.execute(
        _of(type_, stripe_id, "open").values(
            state="resolved", resolved_at=now(), how=how, resolution=resolution, resolved_by=by
        )
    )


def _of(type_: str, stripe_id: str, state: str) -> Any:
    return (
        update(ShopException)
        .where(
            ShopException.type == type_,
            ShopException.stripe_id == stripe_id,
            ShopException.state == state,
        )
        .execution_options(synchronize_session=False)
    )


# -- healing


def heal(order_id: str | None, objects: Collection[str] = ()) -> None:
    """End what has healed of this order, and of these objects of Stripe's: call it where the facts
    were written, after they were flushed."""
    ours = [ShopException.order_id == order_id] if order_id else []
    query = select(ShopException).where(
        ShopException.state == "open", or_(*ours, ShopException.stripe_id.in_(objects))
    )
    for row in db.session.scalars(query.order_by(ShopException.opened_at, ShopException.id)).all():
        cure = _CURES[row.type](row) if row.type in _CURES else None
        if cure is None:
            continue
        row.state, row.how, row.resolved_at = "resolved", HEALED, now()
        row.resolution, row.healed_by = cure
        row.order_id = row.order_id or order_id
        db.session.flush()  # the next one must see what this one was healed by
        log.info("exception.healed", type=row.type, object=row.stripe_id, order=row.order_id)


def _went_back(row: ShopException) -> Cure | None:
    """All of a payment was refunded. Of one that is no order's the exception knows how much."""
    payment = _payment(row.stripe_id)
    amount = payment.amount if payment else row.amount
    if not amount or _given_back(row.stripe_id) < amount:
        return None
    return Cure("All of this payment was refunded.", _last_refund(row.stripe_id))


def _settles_or_went_back(row: ShopException) -> Cure | None:
    payment = _payment(row.stripe_id)
    if payment and payment.role == "settles":
        return Cure("Its order was confirmed after all.", row.stripe_id)
    return _went_back(row)


def _went_back_and_over(row: ShopException) -> Cure | None:
    """The goods of an order that was not paid rightly stay set aside until it has ended."""
    attempt = _attempt(row)
    return _went_back(row) if attempt is None or attempt.state != "open" else None


def _is_known_or_went_back(row: ShopException) -> Cure | None:
    if _payment(row.stripe_id):
        return Cure("Its order was found.", row.stripe_id)
    return _went_back(row)


def _was_refunded_anew(row: ShopException) -> Cure | None:
    """A later refund of the same sum, which has not healed another one yet, or all of it."""
    failed = db.session.scalar(
        select(Refund).where(or_(Refund.stripe_id == row.stripe_id, Refund.id == row.stripe_id))
    )
    if failed is None:
        return None
    healed_others = select(ShopException.healed_by).where(
        ShopException.type == row.type, ShopException.healed_by.is_not(None)
    )
    anew = db.session.scalar(
        select(Refund.stripe_id)
        .where(
            Refund.payment_intent == failed.payment_intent,
            Refund.state == "succeeded",
            Refund.amount == row.amount,
            Refund.created_at >= row.opened_at,
            Refund.id != failed.id,
            Refund.stripe_id.not_in(healed_others),
        )
        .order_by(Refund.created_at, Refund.id)
        .limit(1)
    )
    if anew:
        return Cure("The same sum was refunded later.", anew)
    payment = _payment(failed.payment_intent)
    if payment and _given_back(failed.payment_intent) >= payment.amount:
        return Cure("All of its payment was refunded.", _last_refund(failed.payment_intent))
    return None


def _is_found_at_stripe(row: ShopException) -> Cure | None:
    attempt = _attempt(row)
    if attempt is None or (attempt.state == "open" and attempt.failed_looks):
        return None
    if attempt.state == "open":
        return Cure("Stripe knows its payment page again.")
    return Cure("Its order is paid." if attempt.state == "settled" else "Its checkout has ended.")


def _is_decided(row: ShopException) -> Cure | None:
    status = db.session.scalar(select(Dispute.status).where(Dispute.stripe_id == row.stripe_id))
    if status not in DISPUTE_ENDS:
        return None
    return Cure(f"The bank has decided: {status.replace('_', ' ')}.", row.stripe_id)


# What ends an exception of a type by itself. The others wait for a person, or for a new try.
_CURES: dict[str, Callable[[ShopException], Cure | None]] = {
    "unmatched_payment": _is_known_or_went_back,
    "duplicate_payment": _went_back,
    "late_payment": _settles_or_went_back,
    "amount_mismatch": _went_back_and_over,
    "refund_failed": _was_refunded_anew,
    "missing_at_stripe": _is_found_at_stripe,
    "dispute": _is_decided,
}


def _payment(payment_intent: str) -> Payment | None:
    return db.session.scalar(select(Payment).where(Payment.payment_intent == payment_intent))


def _attempt(row: ShopException) -> CheckoutAttempt | None:
    return db.session.scalar(select(CheckoutAttempt).where(CheckoutAttempt.id == row.order_id))


def _succeeded(payment_intent: str) -> Any:
    return Refund.payment_intent == payment_intent, Refund.state == "succeeded"


def _given_back(payment_intent: str) -> int:
    total = select(func.coalesce(func.sum(Refund.amount), 0)).where(*_succeeded(payment_intent))
    return db.session.scalar(total) or 0


def _last_refund(payment_intent: str) -> str | None:
    newest = select(Refund.stripe_id).where(*_succeeded(payment_intent))
    return db.session.scalar(newest.order_by(Refund.created_at.desc(), Refund.id).limit(1))


# -- looking


def of_order(order_id: str) -> list[ShopException]:
    """Open exceptions of one order, oldest first."""
    with reading():
        return list(
            db.session.scalars(
                select(ShopException)
                .where(ShopException.state == "open", ShopException.order_id == order_id)
                .order_by(ShopException.opened_at, ShopException.id)
            )
        )


def find(exception_id: int) -> ShopException | None:
    with reading():
        return db.session.scalar(select(ShopException).where(ShopException.id == exception_id))


def open_ones(limit: int, after: int | None = None) -> list[ShopException]:
    """What a person has to look at, oldest first; ``after`` is the last one of the page before."""
    age = (ShopException.opened_at, ShopException.id)
    query = select(ShopException).where(ShopException.state == "open").order_by(*age)
    with reading():
        last = db.session.get(ShopException, after) if after else None
        if last:
            query = query.where(
                or_(age[0] > last.opened_at, (age[0] == last.opened_at) & (age[1] > last.id))
            )
        return list(db.session.scalars(query.limit(limit)))


def ended_ones(limit: int, *, healed: bool, after: int | None = None) -> list[ShopException]:
    """Those that healed by themselves, or those that a person saw to; what ended last comes first.
    ``after`` is the last one of the page before."""
    age = (ShopException.resolved_at, ShopException.id)
    by_itself = or_(ShopException.how.is_(None), ShopException.how == HEALED)
    query = select(ShopException).where(
        ShopException.state == "resolved", by_itself if healed else ~by_itself
    )
    with reading():
        last = db.session.get(ShopException, after) if after else None
        if last and last.resolved_at:
            query = query.where(
                or_(age[0] < last.resolved_at, (age[0] == last.resolved_at) & (age[1] < last.id))
            )
        return list(db.session.scalars(query.order_by(age[0].desc(), age[1].desc()).limit(limit)))


def count_open() -> int:
    with reading() as session:
        return (
            session.scalar(
                select(func.count()).select_from(ShopException).where(ShopException.state == "open")
            )
            or 0
        )


def at_stake() -> list[tuple[int, str]]:
    """The sums that open exceptions are about, minor units, by currency."""
    query = (
        select(func.sum(ShopException.amount), ShopException.currency)
        .where(ShopException.state == "open", ShopException.currency.is_not(None))
        .group_by(ShopException.currency)
        .order_by(ShopException.currency)
    )
    with reading() as session:
        return [(int(total), str(unit)) for total, unit in session.execute(query) if total]
