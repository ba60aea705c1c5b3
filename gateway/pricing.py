"""What changes a price at Stripe: discount codes, and the tax that Stripe Tax finds out.

Sources: Stripe's reference of GET /v1/promotion_codes and POST /v1/tax/calculations, version
2026-10-28.endive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import stripe

from domain import codes
from domain.bills import Bill
from domain.codes import Code
from domain.errors import TaxPlaceUnknown
from gateway.calls import Calls, plain
from gateway.facts import bill_of, time_of

SESSIONS, CODES = "/v1/checkout/sessions", "/v1/promotion_codes"
MOST_OF_ONE_NAME = 10  # a code that was used before may have been given again
PARCEL = "txcd_92010001"  # Stripe's tax code of a delivery
# docs.stripe.com/error-codes#customer-tax-location-invalid
NO_SUCH_PLACE = "customer_tax_location_invalid"
NAMES = {
    "vat": "VAT",
    "gst": "GST",
    "hst": "HST",
    "pst": "PST",
    "qst": "QST",
    "jct": "Consumption tax",
    "sales_tax": "Sales tax",
}


@dataclass(frozen=True, slots=True)
class TaxFound:
    """The tax on an order. ``lines`` and ``parcel`` are what each is taxed, in the price or on top
    of it; ``rates`` are as ``CheckoutAttempt.tax_rates`` keeps them."""

    calculation: str
    lines: dict[str, int]  # by sku
    parcel: int
    rates: list[dict[str, Any]]


class Pricing(Calls):
    """Asked before an order is written, so that what it costs is known to the cent; and Stripe's
    own bills, to hold ours against."""

    def bill(self, session_id: str) -> Bill | None:
        """What a session adds up to. Raises StripeMissing."""
        return bill_of(self._get(f"{SESSIONS}/{{}}", session_id, quick=True))

    def bills_since(self, since: datetime) -> Iterator[tuple[str, Bill]]:
        """The bills of all sessions created since then (UTC), newest first, by the session's id."""
        for session in self._pages(SESSIONS, created={"gte": int(since.timestamp())}):
            bill = bill_of(session)
            if bill:
                yield session["id"], bill

    def find_code(self, text: str) -> Code | None:
        """The code that somebody typed, in whatever case: the one that is active, else the newest
        that was. None if there was never one."""
        expand = ["data.promotion.coupon"]
        found = self._get(CODES, code=text, limit=MOST_OF_ONE_NAME, expand=expand)["data"]
        rows = sorted(found, key=lambda one: not one["active"])
        return _code(rows[0]) if rows else None

    def find_tax(
        self,
        lines: list[tuple[str, int, int]],
        parcel: int,
        *,
        currency: str,
        address: dict[str, Any],
        behavior: str,
    ) -> TaxFound:
        """The tax on lines (sku, amount, quantity) and a parcel that go to ``address``; amounts in
        minor units, after any discount. Raises TaxPlaceUnknown."""
        parts = ("line1", "line2", "city", "postal_code", "state", "country")
        wish: Any = {
            "currency": currency,
            "customer_details": {
                "address": {name: address[name] for name in parts if address.get(name)},
                "address_source": "shipping",
            },
            "line_items": [
                {"reference": sku, "amount": amount, "quantity": units, "tax_behavior": behavior}
                for sku, amount, units in lines
            ],
            "shipping_cost": {"amount": parcel, "tax_behavior": behavior, "tax_code": PARCEL},
            "expand": ["line_items"],
        }

        def ask(client: stripe.StripeClient) -> Any:
            try:
                return client.v1.tax.calculations.create(wish)
            except stripe.InvalidRequestError as error:
                if error.code == NO_SUCH_PLACE:
                    raise TaxPlaceUnknown from error
                raise

        made = plain(self._call(ask))
        return TaxFound(
            calculation=made["id"],
            lines={item["reference"]: item["amount_tax"] for item in made["line_items"]["data"]},
            parcel=(made["shipping_cost"] or {"amount_tax": 0})["amount_tax"],
            rates=[_rate(one) for one in made["tax_breakdown"] if one["taxable_amount"]],
        )


def _rate(part: dict[str, Any]) -> dict[str, Any]:
    told = part["tax_rate_details"]
    return rate(
        told["tax_type"],
        told["percentage_decimal"],
        told["country"],
        inclusive=part["inclusive"],
        taxable=part["taxable_amount"],
        amount=part["amount"],
    )


def rate(
    kind: str | None,
    percent: str | float,
    country: str | None,
    *,
    inclusive: bool,
    taxable: int,
    amount: int,
) -> dict[str, Any]:
    """One rate as an order keeps it."""
    return {
        "name": NAMES.get(kind or "", (kind or "tax").replace("_", " ").capitalize()),
        "percent": f"{Decimal(str(percent)).normalize():f}",
        "country": country,
        "inclusive": inclusive,
        "taxable": taxable,
        "amount": amount,
    }


def rates_of(taxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same of a session's breakdown."""
    return [
        rate(
            tax["rate"]["tax_type"],
            tax["rate"]["percentage"],
            tax["rate"]["country"],
            inclusive=tax["rate"]["inclusive"],
            taxable=tax["taxable_amount"] or 0,
            amount=tax["amount"],
        )
        for tax in taxes
        if tax["taxable_amount"]
    ]


def _code(row: dict[str, Any]) -> Code:
    coupon = row["promotion"]["coupon"] or {}
    limits = row["restrictions"]
    percent = coupon.get("percent_off")
    off = {coupon["currency"]: coupon["amount_off"]} if coupon.get("amount_off") else {}
    for currency, option in (coupon.get("currency_options") or {}).items():
        off[currency] = option["amount_off"]
    ends = [at for at in (row["expires_at"], coupon.get("redeem_by")) if at]
    return Code(
        id=row["id"],
        code=row["code"][: codes.LONGEST],
        active=row["active"] and coupon.get("valid", False),
        percent_off=Decimal(str(percent)) if percent is not None else None,
        amount_off=off,
        expires_at=time_of(min(ends)) if ends else None,
        uses_left=_left(row, coupon),
        least=limits["minimum_amount"],
        least_currency=limits["minimum_amount_currency"],
        for_one_customer=row["customer"] is not None,
        for_some_goods=bool((coupon.get("applies_to") or {}).get("products")),
        first_order_only=limits["first_time_transaction"],
    )


def _left(*counted: dict[str, Any]) -> int | None:
    """How often it may still be used, by whichever limit is nearer."""
    left = [
        one["max_redemptions"] - one["times_redeemed"]
        for one in counted
        if one.get("max_redemptions")
    ]
    return min(left) if left else None
