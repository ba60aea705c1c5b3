"""The three strategies: not code paths, but the moments at which an order comes to be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum


class Moment(IntEnum):
    """Steps of a checkout, in the order in which they happen."""

    START = 1  # the shopper presses Pay
    RETURN = 2  # this shopper's browser comes back
    PAYMENT = 3  # the money is seen at Stripe


@dataclass(frozen=True, slots=True)
class Strategy:
    name: str
    order_born: Moment
    lines_leave_cart: Moment


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("order_first", order_born=Moment.START, lines_leave_cart=Moment.START),
        Strategy("pay_first", order_born=Moment.PAYMENT, lines_leave_cart=Moment.PAYMENT),
        Strategy("dual_track", order_born=Moment.RETURN, lines_leave_cart=Moment.RETURN),
    )
}


def bucket(email: str) -> int:
    """A stable number 0–99 for a shopper, so that a rollout treats the same person alike."""
    digest = hashlib.sha256(email.strip().lower().encode()).digest()
    return int.from_bytes(digest[:8]) % 100


def choose(email: str, default: str, rollout: tuple[str, int] | None) -> Strategy:
    """The strategy this shopper gets; ``rollout`` is (name, percent 0–100) or None."""
    if rollout and bucket(email) < rollout[1]:
        return STRATEGIES[rollout[0]]
    return STRATEGIES[default]
