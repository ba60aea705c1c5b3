"""/v1/tax/calculations, and automatic tax on a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import tax
from ..errors import ApiError, bad_parameter, missing
from ..shapes import money
from . import amounts, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

CALCULATION = "tax.calculation"
MOST_LINES = 100


def calculate(box: Sandbox, params: Obj) -> Obj:
    params["currency"] = amounts.check_currency(params["currency"], "currency")
    if "customer" in params:
        customer = reading.find(box, "customer", params["customer"], "customer")
        params.setdefault("customer_details", {"address": _home(customer)})
    place = (params.get("customer_details") or {}).get("address")
    if place is None:
        raise missing("customer_details[address]")
    if not tax.is_a_place(place):
        raise _nowhere("customer_details[address]")
    if not 1 <= len(params["line_items"]) <= MOST_LINES:
        raise bad_parameter(f"You can have 1 to {MOST_LINES} line items.", "line_items")
    rate = tax.rate_for(place)
    sums: dict[str, tuple[int, int]] = {}
    lines = []
    for number, given in enumerate(params["line_items"]):
        amounts.check_amount(given["amount"], params["currency"], f"line_items[{number}][amount]")
        behavior = given.get("tax_behavior", "exclusive")
        owed = tax.on(given["amount"], rate, inclusive=behavior == "inclusive")
        _add(sums, behavior, given["amount"], owed)
        lines.append(
            money.calculation_line(
                box.store.new_id("tax_li_"), given=given, tax=owed, behavior=behavior, place=number
            )
        )
    if len({line["reference"] for line in lines}) < len(lines):
        raise bad_parameter("Each line item needs a reference of its own.", "line_items")
    shipping = None
    if "shipping_cost" in params:
        cost = params["shipping_cost"]
        behavior = cost.get("tax_behavior", "exclusive")
        amount = cost.get("amount", 0)
        owed = tax.on(amount, rate, inclusive=behavior == "inclusive")
        _add(sums, behavior, amount, owed)
        shipping = money.calculation_shipping(
            amount=amount, tax=owed, behavior=behavior, code=cost.get("tax_code")
        )
    made = money.calculation(
        box.store.new_id("taxcalc_1"),
        created=int(box.now()),
        params=params,
        lines=lines,
        shipping=shipping,
        breakdown=[
            money.calculated(
                rate,
                amount=owed,
                taxable=amount - (owed if behavior == "inclusive" else 0),
                inclusive=behavior == "inclusive",
                place=place,
            )
            for behavior, (amount, owed) in sums.items()
        ],
    )
    box.store.put(made, items=lines)
    return made


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, CALCULATION, id)


def list_line_items(box: Sandbox, params: Obj, id: str) -> Obj:
    reading.find(box, CALCULATION, id)
    items = box.store.aside[id]["items"]
    return reading.slice_list(box, items, params, f"/v1/tax/calculations/{id}/line_items")


def _add(sums: dict[str, tuple[int, int]], behavior: str, amount: int, owed: int) -> None:
    before = sums.get(behavior, (0, 0))
    sums[behavior] = (before[0] + amount, before[1] + owed)


def _home(customer: Obj) -> Obj | None:
    """Where a customer's parcels go; without that, where they live."""
    sent_to = (customer["shipping"] or {}).get("address")
    home: Obj | None = sent_to or customer["address"]
    return home


def _nowhere(param: str) -> ApiError:
    return ApiError(
        "We could not determine the customer's tax location based on the provided customer "
        "address. Please ensure that the address is valid.",
        code="customer_tax_location_invalid",
        param=param,
    )


def check(box: Sandbox, params: Obj, prices: list[Obj], rates: list[Obj]) -> Obj | None:
    """Where a session's automatic tax is to be found out for. None without automatic tax, and
    without a customer, whose address the page would ask for: that page taxes nothing here."""
    customer = box.store.objects["customer"].get(params.get("customer") or "")
    if customer is None or not (params.get("automatic_tax") or {}).get("enabled"):
        return None
    for priced in (*prices, *rates):
        if priced["tax_behavior"] == "unspecified":
            raise ApiError(
                "You cannot use automatic tax with a price or shipping rate without a "
                "`tax_behavior`.",
                param="automatic_tax[enabled]",
            )
    home = _home(customer)
    if not tax.is_a_place(home):
        raise _nowhere("customer")
    return home


def apply(box: Sandbox, session: Obj, place: Obj, items: list[Obj], shipping: Obj | None) -> None:
    """Tax a session's lines, after what a coupon took off, and its parcel."""
    rate = tax.rate_for(place)
    taxes: dict[str, tuple[int, int]] = {}
    whole = [(item, item["price"]["tax_behavior"]) for item in items]
    if session["shipping_cost"] and shipping:
        whole.append((session["shipping_cost"], shipping["tax_behavior"]))
    for taxed, behavior in whole:
        owed = tax.on(taxed["amount_total"], rate, inclusive=behavior == "inclusive")
        taxed["amount_tax"] = owed
        _add(taxes, behavior, taxed["amount_total"], owed)
        if behavior == "exclusive":
            taxed["amount_total"] += owed
    session["automatic_tax"]["status"] = "complete"
    session["total_details"]["amount_tax"] = sum(owed for _, owed in taxes.values())
    now = int(box.now())
    box.store.aside.setdefault(session["id"], {})["taxes"] = [
        {
            "amount": owed,
            "rate": money.tax_rate(
                box.store.new_id("txr_1"), rate, created=now, inclusive=behavior == "inclusive"
            ),
            "taxability_reason": "standard_rated",
            "taxable_amount": amount - (owed if behavior == "inclusive" else 0),
        }
        for behavior, (amount, owed) in taxes.items()
        if rate
    ]


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/tax/calculations": calculate,
    "GET /v1/tax/calculations/{id}": retrieve,
    "GET /v1/tax/calculations/{id}/line_items": list_line_items,
}
