"""The one table of what may happen to an order, and the pure functions around it.

``judge`` turns the rows of an attempt into an outcome, ``decide`` says what the outcome does.
"Nothing happens" is an answer with a reason, never silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.facts import LegState
from domain.plans import ONCE


class Status(StrEnum):
    PENDING_PAYMENT = "pending_payment"
    PAYMENT_CONFIRMED = "payment_confirmed"
    AWAITING_SHIPMENT = "awaiting_shipment"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PaymentStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LineState(StrEnum):
    """Where a line of an order stands. What is bought once is ``active`` with its order."""

    ACTIVE = "active"
    PENDING = "pending"  # it recurs, and its first payment is not decided yet
    PAST_DUE = "past_due"  # that payment failed, and can still be made
    NOT_STARTED = "not_started"  # its card was never saved
    ENDED = "ended"  # its first payment was never made


class Outcome(StrEnum):
    """What has become of an attempt, or what a person did to its order."""

    PAID = "paid"
    EXPIRED = "expired"  # every leg ran out
    CANCELLED = "cancelled"  # somebody ended it
    FAILED = "failed"  # the last live leg failed for good
    REFUNDED = "refunded"  # all of it, every refund succeeded
    REFUND_FAILED = "refund_failed"  # the money of a refunded order came back to the shop
    GOES_ON = "goes_on"  # a refunded order turns out to have a subscription that runs
    RETRIED = "retried"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"


class Effect(StrEnum):
    """What a move owes, carried out in the same transaction."""

    SELL_STOCK = "sell_stock"
    RELEASE_STOCK = "release_stock"
    RETAKE_STOCK = "retake_stock"
    RETURN_LINES = "return_lines"
    SEND_RECEIPT = "send_receipt"
    TELL_FAILURE = "tell_failure"


@dataclass(frozen=True, slots=True)
class Move:
    to: Status
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignore:
    why: str


Decision = Move | Ignore

_CONFIRM = Move(Status.PAYMENT_CONFIRMED, (Effect.SEND_RECEIPT, Effect.SELL_STOCK))
_LATE = Move(
    Status.PAYMENT_CONFIRMED, (Effect.RETAKE_STOCK, Effect.SEND_RECEIPT, Effect.SELL_STOCK)
)
_GIVE_BACK = (Effect.RETURN_LINES, Effect.RELEASE_STOCK)
_TAKE_AGAIN = Move(Status.PENDING_PAYMENT, (Effect.RETAKE_STOCK,))

TABLE: dict[tuple[Status, Outcome], Move] = {
    (Status.PENDING_PAYMENT, Outcome.PAID): _CONFIRM,
    (Status.PENDING_PAYMENT, Outcome.EXPIRED): Move(Status.EXPIRED, _GIVE_BACK),
    (Status.PENDING_PAYMENT, Outcome.CANCELLED): Move(Status.CANCELLED, _GIVE_BACK),
    (Status.PENDING_PAYMENT, Outcome.FAILED): Move(
        Status.CANCELLED, (Effect.TELL_FAILURE, *_GIVE_BACK)
    ),
    (Status.EXPIRED, Outcome.PAID): _LATE,
    (Status.CANCELLED, Outcome.PAID): _LATE,
    (Status.EXPIRED, Outcome.RETRIED): _TAKE_AGAIN,
    (Status.CANCELLED, Outcome.RETRIED): _TAKE_AGAIN,
    (Status.PAYMENT_CONFIRMED, Outcome.PACKED): Move(Status.AWAITING_SHIPMENT),
    (Status.AWAITING_SHIPMENT, Outcome.SHIPPED): Move(Status.SHIPPED),
    (Status.SHIPPED, Outcome.DELIVERED): Move(Status.DELIVERED),
    (Status.PAYMENT_CONFIRMED, Outcome.REFUNDED): Move(Status.CANCELLED),
    (Status.AWAITING_SHIPMENT, Outcome.REFUNDED): Move(Status.CANCELLED),
    (Status.CANCELLED, Outcome.REFUND_FAILED): Move(Status.PAYMENT_CONFIRMED),
    (Status.CANCELLED, Outcome.GOES_ON): Move(Status.PAYMENT_CONFIRMED),
}

# What ends with the shop's money or its goods where they belong: the attempt stays settled.
SETTLING = frozenset({Outcome.PAID, Outcome.REFUNDED, Outcome.REFUND_FAILED, Outcome.GOES_ON})

PAID_STATUSES = frozenset(
    {Status.PAYMENT_CONFIRMED, Status.AWAITING_SHIPMENT, Status.SHIPPED, Status.DELIVERED}
)


def decide(status: Status, outcome: Outcome) -> Decision:
    """Say what ``outcome`` does to an order in ``status``; late and repeated news is ignored."""
    return TABLE.get((status, outcome)) or Ignore(
        f"{outcome} changes nothing for an order that is {status}"
    )


def judge_refunds(
    status: Status, *, settled_amount: int, refunded: int, goes_on: bool = False
) -> Outcome | None:
    """What refunds have made of an order that was confirmed: an outcome, or None if nothing.

    Amounts in minor units; ``refunded`` sums the refunds that succeeded, so that one still on its
    way decides nothing. ``goes_on`` says that a subscription of the order still runs.
    """
    is_cancelled = status is Status.CANCELLED
    if settled_amount and refunded >= settled_amount:
        if goes_on:
            return Outcome.GOES_ON if is_cancelled else None
        return Outcome.REFUNDED
    return Outcome.REFUND_FAILED if is_cancelled else None


@dataclass(frozen=True, slots=True)
class LegView:
    """As much of a leg as the rules look at."""

    state: LegState
    failure: str | None = None
    saves_card: bool = False  # no money moves through it


_ENDINGS = {
    LegState.EXPIRED: Outcome.EXPIRED,
    LegState.CANCELED: Outcome.CANCELLED,
    LegState.FAILED: Outcome.FAILED,
    LegState.REFUSED: Outcome.CANCELLED,
}


def is_confirmed(due: Mapping[str, int], covered: Collection[str]) -> bool:
    """Whether an order is: its things bought once are paid for, or if it has none, one of its
    lines that recur has begun. ``due`` is what was due at first, by part (``plans.due_now``);
    ``covered`` are the parts that are paid for, or complete with nothing to pay."""
    return ONCE in covered if ONCE in due else bool(set(covered) & set(due))


def line_state(
    *,
    covered: bool,
    setup: LegState | None,
    invoice: LegState | None,
    cancelled: bool = False,
) -> LineState:
    """Where a line that recurs stands: ``covered`` says that its first amount is paid (or its trial
    begun), ``setup`` and ``invoice`` how the newest legs stand that save its card and pay for it.
    What has not been asked for when the order is ``cancelled`` never will be.
    """
    if covered:
        return LineState.ACTIVE
    if invoice is None:
        never = cancelled or setup is None or (setup.is_final and setup is not LegState.COMPLETE)
        return LineState.NOT_STARTED if never else LineState.PENDING
    if invoice is LegState.OPEN:
        return LineState.PAST_DUE
    if invoice.is_final and invoice is not LegState.COMPLETE:
        return LineState.ENDED
    return LineState.PENDING  # complete, but not with what was due: a person decides


def judge(*, confirmed: bool, legs: Iterable[LegView], cancelling: bool = False) -> Outcome | None:
    """What has become of an attempt: an outcome, or None while it is not decided.

    ``confirmed`` says that what confirms it is paid (``is_confirmed``). ``legs`` in the order in
    which they were opened: the youngest one names the ending. ``cancelling`` says that a person
    asked for the end, which then has that name.
    """
    if confirmed:
        return Outcome.PAID
    seen = list(legs)
    if not seen or not all(leg.state.is_final for leg in seen):
        return None
    youngest = seen[-1]
    if cancelling and youngest.saves_card and youngest.state is LegState.COMPLETE:
        return Outcome.CANCELLED  # a card was saved, and nothing was bought with it
    ending = _ENDINGS.get(youngest.state)
    if ending is Outcome.EXPIRED and cancelling:
        return Outcome.CANCELLED
    return ending  # complete, but its payment not seen yet: not decided


def payment_status(
    *,
    legs: Iterable[LegView],
    paid: bool,
    paid_amount: int = 0,
    refunded: int = 0,
    disputed: bool = False,
) -> PaymentStatus:
    """The second axis: a pure function of the rows (amounts in minor units)."""
    if paid:
        if disputed:
            return PaymentStatus.DISPUTED
        if refunded and refunded >= paid_amount:
            return PaymentStatus.REFUNDED
        return PaymentStatus.PARTIALLY_REFUNDED if refunded else PaymentStatus.PAID
    views = list(legs)
    seen = [leg for leg in views if not leg.saves_card] or views
    states = {leg.state for leg in seen}
    if LegState.PROCESSING in states:
        return PaymentStatus.PROCESSING
    if states & {LegState.CREATING, LegState.OPEN}:
        declined = any(leg.failure for leg in seen if leg.state is LegState.OPEN)
        return PaymentStatus.FAILED if declined else PaymentStatus.PENDING
    if LegState.COMPLETE in states:
        return PaymentStatus.PENDING  # money came, but not what was due: a person decides
    if seen and seen[-1].state is LegState.FAILED:
        return PaymentStatus.FAILED
    return PaymentStatus.CANCELLED if seen else PaymentStatus.PENDING
