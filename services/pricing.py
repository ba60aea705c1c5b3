"""What a basket costs with a discount code and tax, asked of Stripe before anything is written.

Stripe keeps the codes and finds out the tax; the shop adds up and freezes the sums, so that they
can be held against Stripe's own bill before the shopper is sent to pay it (ADR 0018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import current_app
from sqlalchemy import func, select

from domain import bills, codes, plans
from domain.clock import now
from domain.codes import Code
from domain.errors import CodeRefused, NoTaxOnPlans
from domain.transitions import PAID_STATUSES
from domain.words import Words
from extensions import reading
from gateway import current_gateway
from models import Order

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Priced:
    """Amounts in minor units. ``lines`` carry what each gets of the discount and of the tax on
    top; ``told`` is what Stripe has to be told of it, for the snapshot."""

    lines: list[Line]
    subtotal: int
    discount: int
    shipping: int
    tax: int
    tax_rates: list[dict[str, Any]] | None
    code: str | None
    told: dict[str, Any]

    @property
    def total(self) -> int:
        return self.subtotal - self.discount + self.shipping + self.tax


def price(
    lines: list[Line],
    shipping: int,
    currency: str,
    *,
    code: str | None = None,
    address: dict[str, Any] | None = None,
    email: str | None = None,
) -> Priced:
    """Add everything up. ``code`` as it was typed; without an ``address`` no tax is found out.

    Raises CodeRefused with the reason, NoTaxOnPlans, TaxPlaceUnknown, and the Stripe errors; never
    call it inside a transaction.
    """
    subtotal = sum(map(plans.before_discount, lines))
    wanted = codes.typed(code)
    known = find(wanted, lines, currency, email) if wanted else None
    told: dict[str, Any] = {}
    discount = 0
    if known:
        discount = known.takes_off(subtotal, currency)
        shares = bills.spread(discount, list(map(plans.price, lines)), currency)
        lines = [line | {"discount": share} for line, share in zip(lines, shares, strict=True)]
        told["promotion"] = known.id
    tax, rates = 0, None
    if address is not None and is_taxed():
        lines, tax, rates, calculation = _taxed(lines, shipping, currency, address)
        told |= {"calculation": calculation, "tax_behavior": _settings().tax_behavior}
    name = known.code if known else None
    return Priced(lines, subtotal, discount, shipping, tax, rates, name, told)


def is_taxed() -> bool:
    """Whether this shop has its taxes found out by Stripe."""
    return bool(_settings().tax == "stripe")


def comes_on_top() -> bool:
    """Whether the tax is not in the prices: it is known once the address is."""
    return is_taxed() and _settings().tax_behavior == "exclusive"


def must_be_taxable(lines: list[Line]) -> None:
    """Raises NoTaxOnPlans where the tax on one of these lines cannot be found out."""
    recurring = plans.recurring(lines)
    if recurring and is_taxed():
        raise NoTaxOnPlans([line["title"] for line in recurring])


def find(text: str, lines: list[Line], currency: str, email: str | None = None) -> Code:
    """The code of that name, if it can be used for these lines. Raises CodeRefused."""
    shown = text if len(text) <= 20 else f"{text[:20]}…"
    if plans.recurring(lines):
        raise CodeRefused(
            Words("A discount code cannot be used while a subscription is in the basket.")
        )
    known = current_gateway().find_code(text) if codes.is_possible(text) else None
    if known is None:
        raise CodeRefused(Words("There is no code “%(code)s”.", code=shown))
    refusal = known.refusal(sum(map(plans.price, lines)), currency, now())
    if refusal is None and known.first_order_only and email and _has_bought(email):
        refusal = Words("The code %(code)s is for a first order.", code=known.code)
    if refusal:
        raise CodeRefused(refusal)
    return known


def _has_bought(email: str) -> bool:
    with reading() as session:
        bought = select(Order.id).where(
            func.lower(Order.email) == email.lower(), Order.status.in_(PAID_STATUSES)
        )
        return session.scalar(bought.limit(1)) is not None


def _taxed(
    lines: list[Line], shipping: int, currency: str, address: dict[str, Any]
) -> tuple[list[Line], int, list[dict[str, Any]], str]:
    """The lines with the tax that comes on top of each; that of all of them with the parcel's; the
    rates; and what Stripe calls the calculation."""
    behavior = _settings().tax_behavior
    found = current_gateway().find_tax(
        [(line["sku"], plans.first_amount(line), line["quantity"]) for line in lines],
        shipping,
        currency=currency,
        address=address,
        behavior=behavior,
    )
    if behavior == "inclusive":
        return lines, 0, found.rates, found.calculation
    lines = [line | {"tax": found.lines[line["sku"]]} for line in lines]
    return lines, sum(found.lines.values()) + found.parcel, found.rates, found.calculation


def _settings() -> Any:
    return current_app.extensions["settings"]
