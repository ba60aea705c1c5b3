"""/v1/checkout/sessions: to pay, to subscribe or to save a card; hosted or embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import methods, sessions, setups
from ..errors import ApiError, bad_parameter, missing, not_yet
from ..shapes import checkout
from . import amounts, catalogue, discounts, reading, subscriptions, taxes

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "checkout.session"
SHORTEST_S = 30 * 60
LONGEST_S = 24 * 3600
SLACK_S = 60  # a caller's clock may be that much ahead
MOST_LINES = 100
MOST_SHIPPING_OPTIONS = 5
SHORTEST_TRIAL_S = 2 * 86_400
# What Stripe takes in some modes only.
BELONGS_TO = {
    "payment_intent_data": ("payment",),
    "shipping_options": ("payment",),
    "invoice_creation": ("payment",),
    "customer_creation": ("payment", "setup"),
    "subscription_data": ("subscription",),
    "setup_intent_data": ("setup",),
    "line_items": ("payment", "subscription"),
}
SUBSCRIPTION_DATA = (
    "billing_mode",
    "description",
    "metadata",
    "trial_end",
    "trial_period_days",
    "trial_settings",
)


def create(box: Sandbox, params: Obj) -> Obj:
    now = int(box.now())
    _check(params)
    expires_at = _expiry(params, now)
    if "customer" in params:
        reading.find(box, "customer", params["customer"], "customer")
    trial = _check_trial(params.get("subscription_data", {}), now)
    lines = _price_lines(box, params["line_items"]) if "line_items" in params else []
    _check_prices(params["mode"], [price for price, _, _ in lines])
    currency = _currency(params, lines)
    session = checkout.session(
        box.store.new_id("cs_test_a1", 58),
        created=now,
        expires_at=expires_at,
        currency=currency,
        params=params,
    )
    items = [_line(box, price, quantity, given, trial) for price, quantity, given in lines]
    rates = _offer_shipping(box, session, params.get("shipping_options", []))
    if params["mode"] == "setup":
        session |= {"amount_subtotal": None, "amount_total": None, "total_details": None}
        session["payment_status"] = "no_payment_required"
    else:
        _total(box, session, items, rates, params)
    if session["amount_total"]:
        amounts.check_minimum(session["amount_total"], currency, "line_items")
    _offer_methods(session, params)
    _give_entrance(box, session)
    box.store.put(
        session,
        items=items,
        intent_data=_told(params, "payment_intent_data"),
        subscription_data=_told(params, "subscription_data"),
        buyer=None,
        intent=None,
    )
    if params["mode"] == "setup":
        _begin_setup(box, session, params)
    box.watch_expiry(session)
    return session


def _told(params: Obj, name: str) -> Obj:
    return {k: v for k, v in params.get(name, {}).items() if v is not None}


def _begin_setup(box: Sandbox, session: Obj, params: Obj) -> None:
    """A session that saves a card has its SetupIntent from the beginning."""
    given = {**_told(params, "setup_intent_data"), "customer": session["customer"]}
    setup = setups.new_setup(box, given, session["currency"], session=session["id"])
    setup["payment_method_types"] = session["payment_method_types"]
    box.store.put(setup)
    session["setup_intent"] = setup["id"]
    box.store.put(session)


def _check(params: Obj) -> None:
    if "mode" not in params:
        raise missing("mode")
    mode = params["mode"]
    for name, modes in BELONGS_TO.items():
        if name in params and mode not in modes:
            raise bad_parameter(f"You can not pass `{name}` in `{mode}` mode.", name)
    for name in params.get("subscription_data", {}):
        if name not in SUBSCRIPTION_DATA:
            raise not_yet(f"subscription_data with {name}", f"subscription_data[{name}]")
    for name in ("optional_items", "custom_fields", "custom_text"):
        if name in params:
            raise not_yet(f"Checkout Sessions with {name}", name)
    ui_mode = params.get("ui_mode", "hosted_page")
    if ui_mode == "hosted_page":
        if "success_url" not in params:
            raise missing("success_url")
        if "return_url" in params:
            raise bad_parameter(
                "You cannot use `return_url` with `ui_mode` `hosted_page`.", "return_url"
            )
    elif ui_mode == "embedded_page":
        for name in ("success_url", "cancel_url"):
            if name in params:
                raise bad_parameter(
                    f"You cannot use `{name}` with `ui_mode` `embedded_page`.", name
                )
        if "return_url" not in params and params.get("redirect_on_completion") != "never":
            raise missing("return_url")
    else:
        raise not_yet(f"`ui_mode` `{ui_mode}`", "ui_mode")
    for name in ("success_url", "cancel_url", "return_url"):
        amounts.check_url(params.get(name), name)
    if "customer" in params and "customer_email" in params:
        raise bad_parameter(
            "You may only specify one of these parameters: customer, customer_email.",
            "customer_email",
            "parameters_exclusive",
        )
    if mode == "setup":
        if "currency" not in params:
            raise missing("currency")
        return
    if not params.get("line_items"):
        raise missing("line_items")
    if len(params["line_items"]) > MOST_LINES:
        raise bad_parameter(f"You can have at most {MOST_LINES} line items.", "line_items")
    if len(params.get("shipping_options", ())) > MOST_SHIPPING_OPTIONS:
        raise bad_parameter(
            f"You can have at most {MOST_SHIPPING_OPTIONS} shipping options.", "shipping_options"
        )


def _expiry(params: Obj, now: int) -> int:
    at: int = params.get("expires_at", now + LONGEST_S)
    if at < now + SHORTEST_S:
        raise bad_parameter(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session "
            "creation.",
            "expires_at",
        )
    if at > now + LONGEST_S + SLACK_S:
        raise bad_parameter(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.",
            "expires_at",
        )
    return at


def _check_trial(data: Obj, now: int) -> bool:
    """Whether there is a trial. Raises ApiError for one that is too short for Checkout."""
    days, at = data.get("trial_period_days"), data.get("trial_end")
    if days is not None and at is not None:
        raise bad_parameter(
            "You may only specify one of these parameters: trial_end, trial_period_days.",
            "subscription_data[trial_end]",
            "parameters_exclusive",
        )
    if days is not None and days < 1:
        raise bad_parameter(
            "The minimum number of trial period days is 1.",
            "subscription_data[trial_period_days]",
        )
    if at is not None and at < now + SHORTEST_TRIAL_S:
        raise bad_parameter(
            "The `trial_end` date has to be at least 2 days in the future.",
            "subscription_data[trial_end]",
        )
    return days is not None or at is not None


def _check_prices(mode: str, prices: list[Obj]) -> None:
    recurring = [price for price in prices if price["recurring"]]
    if mode == "payment" and recurring:
        raise ApiError(
            "You specified `payment` mode but passed a recurring price. Either switch to "
            "`subscription` mode or use only one-time prices.",
            param="line_items",
        )
    if mode == "subscription":
        if not recurring:
            raise ApiError(
                "You must provide at least one recurring price in `subscription` mode when using "
                "prices.",
                param="line_items",
            )
        subscriptions.check_rhythm(recurring, "line_items")


def _currency(params: Obj, lines: list[tuple[Obj, int, Obj]]) -> str:
    if not lines:
        return amounts.check_currency(params["currency"], "currency")
    currency: str = lines[0][0]["currency"]
    if any(price["currency"] != currency for price, _, _ in lines):
        raise ApiError(
            "All prices on a Checkout Session must have the same currency.", param="line_items"
        )
    return currency


def _price_lines(box: Sandbox, given: list[Obj]) -> list[tuple[Obj, int, Obj]]:
    lines = []
    for place, line in enumerate(given):
        at = f"line_items[{place}]"
        if ("price" in line) == ("price_data" in line):
            raise bad_parameter(
                "You must specify either `price` or `price_data` when creating a Checkout Session.",
                at,
            )
        if "quantity" not in line:
            raise missing(f"{at}[quantity]")
        if line["quantity"] < 1:
            raise bad_parameter(
                "This value must be greater than or equal to 1.",
                f"{at}[quantity]",
                "parameter_invalid_integer",
            )
        if "price" in line:
            price = reading.find(box, "price", line["price"], f"{at}[price]")
        else:
            price = catalogue.price_from(box, line["price_data"], f"{at}[price_data]", inline=True)
        lines.append((price, line["quantity"], line))
    return lines


def _line(box: Sandbox, price: Obj, quantity: int, given: Obj, trial: bool) -> Obj:
    product = box.store.objects["product"][price["product"]]
    return checkout.line_item(
        box.store.new_id("li_1"),
        price,
        quantity,
        product["name"],
        given.get("metadata") or {},
        free=trial and bool(price["recurring"]),
    )


def _offer_shipping(box: Sandbox, session: Obj, options: list[Obj]) -> list[Obj]:
    rates = []
    for place, option in enumerate(options):
        at = f"shipping_options[{place}]"
        if "shipping_rate" in option:
            rate = reading.find(box, "shipping_rate", option["shipping_rate"], at)
        elif "shipping_rate_data" in option:
            rate = catalogue.shipping_rate_from(box, option["shipping_rate_data"], at)
        else:
            raise missing(f"{at}[shipping_rate]")
        if rate["fixed_amount"]["currency"] != session["currency"]:
            raise ApiError(
                f"The shipping rate {rate['id']} is not in the session's currency.", param=at
            )
        rates.append(rate)
    session["shipping_options"] = [
        {"shipping_amount": r["fixed_amount"]["amount"], "shipping_rate": r["id"]} for r in rates
    ]
    return rates


def _total(box: Sandbox, session: Obj, items: list[Obj], rates: list[Obj], params: Obj) -> None:
    """The first shipping option counts until the buyer picks another. A coupon takes its part off
    the lines, and tax is found out after that."""
    subtotal = sum(item["amount_total"] for item in items)
    shipping = rates[0]["fixed_amount"]["amount"] if rates else 0
    if rates:
        session["shipping_cost"] = {
            "amount_subtotal": shipping,
            "amount_tax": 0,
            "amount_total": shipping,
            "shipping_rate": rates[0]["id"],
        }
    session["amount_subtotal"] = subtotal
    session["total_details"]["amount_shipping"] = shipping
    taken_off = discounts.check(box, params, session, subtotal)
    if taken_off:
        discounts.apply(session, *taken_off, items)
    place = taxes.check(box, params, [item["price"] for item in items], rates)
    if place:
        taxes.apply(box, session, place, items, rates[0] if rates else None)
    cost = session["shipping_cost"] or {"amount_total": 0}
    session["amount_total"] = sum(item["amount_total"] for item in items) + cost["amount_total"]


def _offer_methods(session: Obj, params: Obj) -> None:
    known = methods.method_types(session["currency"])
    wanted = params.get("allowed_payment_method_types", known)
    unwanted = params.get("excluded_payment_method_types", ())
    if unwanted:
        session["excluded_payment_method_types"] = unwanted
    session["payment_method_types"] = [m for m in known if m in wanted and m not in unwanted]


def _give_entrance(box: Sandbox, session: Obj) -> None:
    secret = box.store.new_id("", 60)
    if session["ui_mode"] == "hosted_page":
        session["url"] = f"{box.url}/c/pay/{session['id']}#fid{secret}"
    else:
        session["client_secret"] = f"{session['id']}_secret_{secret}"


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    email = (params.get("customer_details") or {}).get("email")

    def keep(session: Obj) -> bool:
        wanted = ("customer", "payment_intent", "payment_link", "status", "subscription")
        if any(n in params and session[n] != params[n] for n in wanted):
            return False
        return email is None or (session["customer_details"] or {}).get("email") == email

    return reading.page(box, KIND, params, "/v1/checkout/sessions", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    session = reading.find(box, KIND, id)
    for name in ("line_items", "shipping_options", "collected_information"):
        if name in params:
            raise not_yet(f"updating a Checkout Session's {name}", name)
    if "payment_intent_data" in params:
        if session["payment_intent"]:
            raise ApiError(
                "You cannot update `payment_intent_data` once the PaymentIntent exists.",
                param="payment_intent_data",
            )
        box.store.aside[id]["intent_data"].update(params["payment_intent_data"])
    amounts.merge_metadata(session, params)
    return box.store.put(session)


def expire(box: Sandbox, params: Obj, id: str) -> Obj:
    session = reading.find(box, KIND, id)
    if session["status"] != "open":
        raise ApiError(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    sessions.expire(box, session)
    return session


def list_line_items(box: Sandbox, params: Obj, id: str) -> Obj:
    reading.find(box, KIND, id)
    items = box.store.aside[id]["items"]
    return reading.slice_list(box, items, params, f"/v1/checkout/sessions/{id}/line_items")


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/checkout/sessions": create,
    "GET /v1/checkout/sessions": list_all,
    "GET /v1/checkout/sessions/{id}": retrieve,
    "POST /v1/checkout/sessions/{id}": update,
    "POST /v1/checkout/sessions/{id}/expire": expire,
    "GET /v1/checkout/sessions/{id}/line_items": list_line_items,
}
