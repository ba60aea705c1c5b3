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
    """When an order comes to be, and when its lines leave the cart. ``promise`` says it to people.

    ``provisional``: an order that is born before its payment was seen is marked so.
    """

    name: str
    order_born: Moment
    lines_leave_cart: Moment
    provisional: bool
    promise: str


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "order_first",
            order_born=Moment.START,
            lines_leave_cart=Moment.START,
            provisional=False,
            promise="The order is there from the moment somebody presses Pay, waiting for its "
            "payment.",
        ),
        Strategy(
            "pay_first",
            order_born=Moment.PAYMENT,
            lines_leave_cart=Moment.PAYMENT,
            provisional=False,
            promise="There is no order, and no number, before its money is seen at Stripe.",
        ),
        Strategy(
            "dual_track",
            order_born=Moment.RETURN,
            lines_leave_cart=Moment.RETURN,
            provisional=True,
            promise="The order is there, provisionally, when its shopper comes back from paying, "
            "and is confirmed behind the scenes.",
        ),
    )
}


def bucket(email: str) -> int:
    """A stable number 0–99 for a shopper, so that a rollout treats the same person alike."""
    digest = hashlib.sha256(email.strip().lower().encode()).digest()
    return int.from_bytes(digest[:8]) % 100


def choose(email: str, default: str, rollout: tuple[str, int] | None) -> tuple[Strategy, str]:
    """The strategy this shopper gets, and why; ``rollout`` is (name, percent 0–100) or None."""
    if rollout is None:
        return STRATEGIES[default], f"everybody gets {default}: no rollout is running"
    name, percent = rollout
    place = bucket(email)
    if place < percent:
        return STRATEGIES[name], f"place {place} of 0–99 is inside the {percent} % of {name}"
    why = f"place {place} of 0–99 is outside the {percent} % of {name}, so it is {default}"
    return STRATEGIES[default], why
