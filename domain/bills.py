"""What an order costs, and how a discount lies on its lines. Amounts are minor units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from domain.money import smallest_step


@dataclass(frozen=True, slots=True)
class Bill:
    """A checkout as one of us counts it: we, or Stripe. ``before`` is the goods with their parcel,
    without discount and without tax on top; ``tax`` is all tax, on top or in the prices."""

    before: int
    discount: int
    tax: int
    total: int
    currency: str

    def differs(self, theirs: Bill) -> list[str]:
        """Where two bills do not say the same, in words."""
        names = ("before", "discount", "tax", "total", "currency")
        return [
            f"{name}: {getattr(self, name)} here, {getattr(theirs, name)} there"
            for name in names
            if getattr(self, name) != getattr(theirs, name)
        ]


def percent_of(amount: int, percent: Decimal, currency: str) -> int:
    """A share, rounded half up to what can be charged in this currency."""
    step = smallest_step(currency)
    share = amount * percent / 100 / step
    return min(int(share.quantize(Decimal(1), ROUND_HALF_UP)) * step, amount)


def spread(amount: int, weights: Sequence[int], currency: str) -> list[int]:
    """``amount`` over lines that cost ``weights``, in proportion; what rounding leaves goes to
    those that it took most from, and among equals to the first. It sums to ``amount``."""
    whole, step = sum(weights), smallest_step(currency)
    if amount % step:
        step = 1
    steps = amount // step
    if whole == 0:
        return [0 for _ in weights]
    shares = [steps * weight // whole for weight in weights]
    left = sorted(range(len(weights)), key=lambda place: (-(steps * weights[place] % whole), place))
    for place in left[: steps - sum(shares)]:
        shares[place] += 1
    return [share * step for share in shares]


def part_of(paid: int, units: int, of: int, currency: str) -> int:
    """What was paid for some units of a line: never more than a fair part, and for all of them
    what all of them cost."""
    if units >= of:
        return paid
    step = smallest_step(currency)
    return paid * units // of // step * step


def included(rates: Sequence[dict[str, Any]] | None) -> int:
    """The tax that is in the prices already."""
    return sum(rate["amount"] for rate in rates or () if rate["inclusive"])
