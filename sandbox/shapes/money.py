"""Coupons, promotion codes, tax rates and tax calculations."""

from __future__ import annotations

from typing import Any

from ..tax import Rate
from . import Shape, address


def coupon(id: str, *, created: int, params: Shape) -> Shape:
    get = params.get
    made: Shape = {
        "id": id,
        "object": "coupon",
        "amount_off": get("amount_off"),
        "created": created,
        "currency": get("currency"),
        "duration": get("duration", "once"),
        "duration_in_months": get("duration_in_months"),
        "livemode": False,
        "max_redemptions": get("max_redemptions"),
        "metadata": get("metadata") or {},
        "name": get("name"),
        "percent_off": get("percent_off"),
        "redeem_by": get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
    }
    for name in ("applies_to", "currency_options"):
        if get(name):
            made[name] = params[name]
    return made


def promotion_code(id: str, *, created: int, code: str, coupon: str, params: Shape) -> Shape:
    get = params.get
    limits = get("restrictions") or {}
    return {
        "id": id,
        "object": "promotion_code",
        "active": get("active", True),
        "code": code,
        "created": created,
        "customer": get("customer"),
        "customer_account": None,
        "expires_at": get("expires_at"),
        "livemode": False,
        "max_redemptions": get("max_redemptions"),
        "metadata": get("metadata") or {},
        "promotion": {"coupon": coupon, "type": "coupon"},
        "restrictions": {
            "first_time_transaction": limits.get("first_time_transaction", False),
            "minimum_amount": limits.get("minimum_amount"),
            "minimum_amount_currency": limits.get("minimum_amount_currency"),
        },
        "times_redeemed": 0,
    }


def tax_rate(id: str, rate: Rate, *, created: int, inclusive: bool) -> Shape:
    """The rate that Stripe Tax made up for a line; it is one of Stripe's own."""
    return {
        "id": id,
        "object": "tax_rate",
        "active": False,
        "country": rate.country,
        "created": created,
        "description": None,
        "display_name": rate.name,
        "effective_percentage": float(rate.percentage),
        "flat_amount": None,
        "inclusive": inclusive,
        "jurisdiction": rate.country,
        "jurisdiction_level": "state" if rate.state else "country",
        "livemode": False,
        "metadata": {},
        "percentage": float(rate.percentage),
        "rate_type": "percentage",
        "state": rate.state,
        "tax_type": rate.kind,
    }


def calculation(
    id: str,
    *,
    created: int,
    params: Shape,
    lines: list[Shape],
    shipping: Shape | None,
    breakdown: list[Shape],
) -> Shape:
    taxed = [*lines, *([shipping] if shipping else [])]
    by = {kind: [one for one in taxed if one["tax_behavior"] == kind] for kind in BEHAVIORS}
    on_top = sum(one["amount_tax"] for one in by["exclusive"])
    details = params.get("customer_details") or {}
    return {
        "id": id,
        "object": "tax.calculation",
        "amount_total": sum(one["amount"] for one in taxed) + on_top,
        "currency": params["currency"],
        "customer": params.get("customer"),
        "customer_details": {
            "address": address(details.get("address")),
            "address_source": details.get("address_source", "billing"),
            "ip_address": None,
            "tax_ids": [],
            "taxability_override": "none",
        },
        "expires_at": created + 90 * 86_400,
        "livemode": False,
        "ship_from_details": None,
        "shipping_cost": shipping,
        "tax_amount_exclusive": on_top,
        "tax_amount_inclusive": sum(one["amount_tax"] for one in by["inclusive"]),
        "tax_breakdown": breakdown,
        "tax_date": created,
    }


BEHAVIORS = ("exclusive", "inclusive")


def calculation_line(id: str, *, given: Shape, tax: int, behavior: str, place: int) -> Shape:
    return {
        "id": id,
        "object": "tax.calculation_line_item",
        "amount": given["amount"],
        "amount_tax": tax,
        "livemode": False,
        "metadata": given.get("metadata"),
        "performance_location": None,
        "product": given.get("product"),
        "quantity": given.get("quantity", 1),
        "reference": given.get("reference", f"L{place}"),
        "tax_behavior": behavior,
        "tax_breakdown": None,
        "tax_code": given.get("tax_code", "txcd_99999999"),
    }


def calculation_shipping(*, amount: int, tax: int, behavior: str, code: str | None) -> Shape:
    return {
        "amount": amount,
        "amount_tax": tax,
        "shipping_rate": None,
        "tax_behavior": behavior,
        "tax_breakdown": None,
        "tax_code": code or "txcd_92010001",
    }


def calculated(
    rate: Rate | None, *, amount: int, taxable: int, inclusive: bool, place: Shape
) -> Shape:
    """One entry of a calculation's summary."""
    details: dict[str, Any] = {
        "country": place.get("country"),
        "flat_amount": None,
        "percentage_decimal": format(rate.percentage, "f") if rate else "0.0",
        "rate_type": "percentage" if rate else None,
        "state": place.get("state"),
        "tax_type": rate.kind if rate else None,
    }
    return {
        "amount": amount,
        "inclusive": inclusive,
        "tax_rate_details": details,
        "taxability_reason": "standard_rated" if rate else "not_collecting",
        "taxable_amount": taxable if rate else 0,
    }
