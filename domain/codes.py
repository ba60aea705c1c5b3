"""Discount codes, as Stripe keeps them, and why one cannot be used. Amounts are minor units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from domain.bills import percent_of
from domain.money import display
from domain.words import Sum, Words

LONGEST = 64
_LETTERS = re.compile(rf"[A-Za-z0-9-]{{1,{LONGEST}}}")  # all that Stripe's codes are made of


@dataclass(frozen=True, slots=True)
class Code:
    """A promotion code with its coupon. Times are UTC."""

    id: str
    code: str
    active: bool
    percent_off: Decimal | None = None
    amount_off: Mapping[str, int] = field(default_factory=dict)  # by currency
    expires_at: datetime | None = None  # of the code or its coupon, whichever is first
    uses_left: int | None = None  # of both
    least: int | None = None  # what must be bought with it
    least_currency: str | None = None
    for_one_customer: bool = False
    for_some_goods: bool = False
    first_order_only: bool = False

    @property
    def says(self) -> str:
        """What it takes off, for people: ``10 % off``."""
        if self.percent_off is not None:
            return f"{self.percent_off.normalize():f} % off"
        return " or ".join(f"{display(off, cur)} off" for cur, off in self.amount_off.items())

    def takes_off(self, subtotal: int, currency: str) -> int:
        """How much less this basket costs with it; ``refusal`` has said nothing."""
        if self.percent_off is not None:
            return percent_of(subtotal, self.percent_off, currency)
        return min(self.amount_off[currency], subtotal)

    def refusal(self, subtotal: int, currency: str, moment: datetime) -> str | None:
        """Why it cannot be used for a basket of ``subtotal``, in a sentence; None if it can."""
        if self.expires_at and self.expires_at <= moment:
            return Words("The code %(code)s has expired.", code=self.code)
        if self.uses_left is not None and self.uses_left <= 0:
            return Words("The code %(code)s has been used up.", code=self.code)
        if not self.active:
            return Words("The code %(code)s is no longer valid.", code=self.code)
        if self.for_one_customer:
            return Words(
                "The code %(code)s was made for one customer and cannot be used here.",
                code=self.code,
            )
        if self.for_some_goods:
            return Words(
                "The code %(code)s is for goods that are not in this basket.", code=self.code
            )
        if self.percent_off is None and currency not in self.amount_off:
            sold_in = ", ".join(sorted(self.amount_off)).upper()
            return self._foreign(sold_in, currency)
        if self.least is None:
            return None
        if self.least_currency != currency:
            wanted = (self.least_currency or "").upper()
            return self._foreign(wanted, currency)
        if subtotal < self.least:
            return Words(
                "The code %(code)s is for orders of %(least)s or more, delivery not counted.",
                code=self.code,
                least=Sum(self.least, currency),
            )
        return None

    def _foreign(self, wanted: str, currency: str) -> Words:
        return Words(
            "The code %(code)s is for %(wanted)s, and this basket is in %(currency)s.",
            code=self.code,
            wanted=wanted,
            currency=currency.upper(),
        )


def typed(text: str | None) -> str | None:
    """What somebody typed as a code, or None where nothing was. What can be no code of Stripe's
    stays as it is, and ``is_possible`` says so."""
    return (text or "").strip() or None


def is_possible(text: str) -> bool:
    return _LETTERS.fullmatch(text) is not None
