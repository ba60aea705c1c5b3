"""Stripe Tax in small: one rate for each country that the sandbox knows, nothing for the others.

Each line is taxed by itself and rounded half up, as Stripe does where an account does not choose
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class Rate:
    country: str
    name: str
    kind: str  # as Stripe calls this type of tax
    percentage: Decimal
    state: str | None = None


RATES = {
    rate.country: rate
    for rate in (
        Rate("AT", "VAT", "vat", Decimal(20)),
        Rate("DE", "VAT", "vat", Decimal(19)),
        Rate("FR", "VAT", "vat", Decimal(20)),
        Rate("IE", "VAT", "vat", Decimal(23)),
        Rate("JP", "JCT", "jct", Decimal(10)),
        Rate("NL", "VAT", "vat", Decimal(21)),
        Rate("US", "Sales Tax", "sales_tax", Decimal("8.875"), state="NY"),
    )
}


def rate_for(address: Obj | None) -> Rate | None:
    """What is collected there; None where nothing is."""
    place = address or {}
    rate = RATES.get(place.get("country") or "")
    if rate and rate.state and place.get("state") not in (rate.state, "New York"):
        return None
    return rate


def is_a_place(address: Obj | None) -> bool:
    """Whether it says enough to know which taxes hold there."""
    place = address or {}
    if not place.get("country"):
        return False
    return place["country"] != "US" or bool(place.get("postal_code"))


def on(amount: int, rate: Rate | None, *, inclusive: bool) -> int:
    """The tax on top of an amount, or the tax in it, in minor units."""
    if rate is None:
        return 0
    share = rate.percentage / (100 + rate.percentage if inclusive else 100)
    return int((amount * share).quantize(Decimal(1), ROUND_HALF_UP))
