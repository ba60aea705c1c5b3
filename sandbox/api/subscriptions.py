"""/v1/subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import billing, cards, invoices, methods
from ..billing import ENDED, Wanted
from ..errors import ApiError, bad_parameter, missing, not_yet
from . import amounts, catalogue, reading

if TYPE_CHECKING:
    from ..box import Sandbox

Obj = dict[str, Any]

KIND = "subscription"
DAY_S = 86_400
LONGEST_TRIAL_S = 5 * 366 * DAY_S
MOST_ITEMS = 20
UNLIKE = (
    "application_fee_percent",
    "backdate_start_date",
    "billing_cycle_anchor",
    "billing_cycle_anchor_config",
    "billing_schedules",
    "billing_thresholds",
    "customer_account",
    "days_until_due",
    "default_source",
    "default_tax_rates",
    "discounts",
    "invoice_settings",
    "on_behalf_of",
    "pause_collection",
    "pending_invoice_item_interval",
    "proration_date",
    "transfer_data",
    "trial_from_plan",
)
NO_METHOD = (
    "This customer has no attached payment source or default payment method. Please consider "
    "adding a default payment method. For more information, visit "
    "https://stripe.com/docs/billing/subscriptions/payment-methods-setting"
    "#payment-method-priority."
)
NEEDS_BUYER = (
    "Payment for this subscription requires additional user action before it can be completed "
    "successfully. Payment can be completed using the PaymentIntent associated with "
    "`subscription.latest_invoice`."
)


def create(box: Sandbox, params: Obj) -> Obj:
    _check_supported(params)
    if "customer" not in params:
        raise missing("customer")
    customer = reading.find(box, "customer", params["customer"], "customer")
    if not params.get("items"):
        raise missing("items")
    _check_method(box, params, customer["id"])
    trial_end = _trial_end(box, params)
    leaves = _leaves(box, params)
    wanted = [*_items(box, params["items"]), *_extras(box, params.get("add_invoice_items", []))]
    _check_currency(wanted, params)
    due = _due(wanted, trial=trial_end is not None)
    if due:
        amounts.check_minimum(due, wanted[0].price["currency"], "items")
    behavior = params.get("payment_behavior", "allow_incomplete")
    attended = not params.get("off_session", False)
    if due and behavior != "default_incomplete":
        _check_paid(box, params, customer, behavior, attended=attended)
    return billing.subscribe(
        box,
        params,
        wanted,
        trial_end=trial_end,
        leaves=leaves,
        behavior=behavior,
        attended=attended,
    )


def _check_supported(params: Obj) -> None:
    for name in UNLIKE:
        if name in params:
            raise not_yet(f"subscriptions with {name}", name)
    if params.get("collection_method", "charge_automatically") != "charge_automatically":
        raise not_yet("subscriptions whose invoices are sent by mail", "collection_method")
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise not_yet("pending updates", "payment_behavior")
    if (params.get("payment_settings") or {}).get("payment_method_options"):
        raise not_yet("payment_method_options", "payment_settings[payment_method_options]")


def _check_method(box: Sandbox, params: Obj, customer: str) -> None:
    id = params.get("default_payment_method")
    if id is None:
        return
    method = box.store.objects["payment_method"].get(id)
    if method is None or method["customer"] != customer:
        raise ApiError(
            f"The customer does not have a payment method with the ID {id}. The payment method "
            "must be attached to the customer.",
            code="resource_missing",
            param="default_payment_method",
        )


def _trial_end(box: Sandbox, params: Obj) -> int | None:
    """When the trial ends, if there is one; ``now`` and 0 days are none."""
    now = int(box.now())
    days, at = params.get("trial_period_days"), params.get("trial_end")
    if days is not None and at is not None:
        raise bad_parameter(
            "You may only specify one of these parameters: trial_end, trial_period_days.",
            "trial_end",
            "parameters_exclusive",
        )
    if days is not None:
        if days < 0 or days * DAY_S > LONGEST_TRIAL_S:
            raise bad_parameter("A trial is 0 to 730 days long.", "trial_period_days")
        return now + days * DAY_S if days else None
    if at is None or at == "now":
        return None
    return read_time(at, "trial_end", now)


def read_time(at: int | str, param: str, now: int) -> int:
    """A moment in the future. Raises ApiError for one that is past, too far off, or no number."""
    moment = int(at) if str(at).isdigit() else 0
    if moment <= now:
        raise bad_parameter(f"Invalid timestamp: {param} must be in the future.", param)
    if moment > now + LONGEST_TRIAL_S:
        raise bad_parameter(
            f"Invalid timestamp: {param} can be no more than five years off.", param
        )
    return moment


def _leaves(box: Sandbox, params: Obj) -> Obj:
    """Whether and when the subscription is to end, as the object's fields."""
    at, at_end = params.get("cancel_at"), params.get("cancel_at_period_end", False)
    if at is not None and at_end:
        raise bad_parameter(
            "You may only specify one of these parameters: cancel_at, cancel_at_period_end.",
            "cancel_at",
            "parameters_exclusive",
        )
    if at in ("max_billed_until", "max_period_end", "min_period_end"):
        raise not_yet(f"a cancel_at of {at}", "cancel_at")
    moment = None if at is None else read_time(at, "cancel_at", int(box.now()))
    return {"cancel_at": moment, "cancel_at_period_end": at_end}


def _items(box: Sandbox, given: list[Obj]) -> list[Wanted]:
    if len(given) > MOST_ITEMS:
        raise bad_parameter(f"A subscription can have at most {MOST_ITEMS} items.", "items")
    wanted = []
    for place, item in enumerate(given):
        at = f"items[{place}]"
        for name in ("plan", "billing_thresholds", "discounts", "tax_rates", "current_trial"):
            if name in item:
                raise not_yet(f"subscription items with {name}", f"{at}[{name}]")
        price = _price(box, item, at)
        if not price["recurring"]:
            raise ApiError(
                f"The price specified is set to `type=one_time` but this field only accepts prices "
                f"with `type=recurring`. Price: {price['id']}.",
                param=f"{at}[price]",
            )
        wanted.append(Wanted(price, _quantity(item, at), item.get("metadata") or {}))
    check_rhythm([w.price for w in wanted], "items")
    return wanted


def check_rhythm(prices: list[Obj], param: str) -> None:
    """Everything in one subscription recurs together here; Stripe can mix intervals."""
    rhythms = {(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices}
    if len(rhythms) > 1:
        raise not_yet("subscriptions that mix billing intervals", param)
    if any(p["recurring"]["usage_type"] != "licensed" for p in prices):
        raise not_yet("usage-based billing", param)


def _extras(box: Sandbox, given: list[Obj]) -> list[Wanted]:
    wanted = []
    for place, item in enumerate(given):
        at = f"add_invoice_items[{place}]"
        for name in ("discounts", "tax_rates", "period"):
            if name in item:
                raise not_yet(f"invoice items with {name}", f"{at}[{name}]")
        price = _price(box, item, at)
        if price["recurring"]:
            raise ApiError(
                "The price specified is set to `type=recurring` but this field only accepts prices "
                f"with `type=one_time`. Price: {price['id']}.",
                param=f"{at}[price]",
            )
        wanted.append(Wanted(price, _quantity(item, at), item.get("metadata") or {}))
    return wanted


def _price(box: Sandbox, item: Obj, at: str) -> Obj:
    if ("price" in item) == ("price_data" in item):
        raise bad_parameter("You must specify either `price` or `price_data`.", at)
    if "price_data" in item:
        return catalogue.price_from(box, item["price_data"], f"{at}[price_data]", inline=True)
    price = reading.find(box, "price", item["price"], f"{at}[price]")
    if not price["active"]:
        raise ApiError(
            "The price specified is inactive. This field only accepts active prices.",
            param=f"{at}[price]",
        )
    return price


def _quantity(item: Obj, at: str) -> int:
    quantity: int = item.get("quantity", 1)
    if quantity < 1:
        raise bad_parameter(
            "This value must be greater than or equal to 1.",
            f"{at}[quantity]",
            "parameter_invalid_integer",
        )
    return quantity


def _check_currency(wanted: list[Wanted], params: Obj) -> None:
    currency = str(params.get("currency", wanted[0].price["currency"])).lower()
    if any(w.price["currency"] != currency for w in wanted):
        raise ApiError("All prices on a subscription must have the same currency.", param="items")


def _due(wanted: list[Wanted], *, trial: bool) -> int:
    """What the first invoice asks for, in minor units."""
    counted = [w for w in wanted if not (trial and w.price["recurring"])]
    return sum(w.price["unit_amount"] * w.quantity for w in counted)


def _check_paid(box: Sandbox, params: Obj, customer: Obj, behavior: str, *, attended: bool) -> None:
    """There must be something to pay with; ``error_if_incomplete`` wants it to pay, too."""
    known = {"customer": customer["id"], "default_payment_method": None, **params}
    method = invoices.method_for(box, known)
    if method is None:
        raise ApiError(NO_METHOD, code="resource_missing")
    if behavior != "error_if_incomplete":
        return
    chosen = methods.way_of(box, method)
    if chosen.asks(attended=attended, set_up=methods.is_set_up(box, method)):
        chosen = cards.Way(
            "",
            then="declines",
            code="subscription_payment_intent_requires_action",
            message=NEEDS_BUYER,
        )
    if chosen.then == "declines":
        raise ApiError(
            chosen.message,
            status=402,
            type="card_error",
            code=chosen.code,
            decline_code=chosen.reason or None,
        )


def retrieve(box: Sandbox, params: Obj, id: str) -> Obj:
    return reading.find(box, KIND, id)


def list_all(box: Sandbox, params: Obj) -> Obj:
    """Those that are not canceled, unless asked for by a status."""
    status = params.get("status")
    ends = reading.within(params.get("current_period_end"))
    begins = reading.within(params.get("current_period_start"))

    def keep(subscription: Obj) -> bool:
        if any(
            n in params and subscription[n] != params[n] for n in ("customer", "collection_method")
        ):
            return False
        items = subscription["items"]["data"]
        if "price" in params and all(i["price"]["id"] != params["price"] for i in items):
            return False
        if not (ends(items[0]["current_period_end"]) and begins(items[0]["current_period_start"])):
            return False
        if status is None:
            return bool(subscription["status"] != "canceled")
        wanted = {"ended": ENDED, "all": (subscription["status"],)}.get(status, (status,))
        return subscription["status"] in wanted

    return reading.page(box, KIND, params, "/v1/subscriptions", keep)


def update(box: Sandbox, params: Obj, id: str) -> Obj:
    subscription = reading.find(box, KIND, id)
    _check_supported(params)
    if subscription["status"] in ENDED and params.keys() - {
        "metadata",
        "cancellation_details",
        "expand",
    }:
        raise ApiError(
            "A canceled subscription can only update its cancellation_details and metadata."
        )
    if "add_invoice_items" in params:
        raise not_yet("invoice items added later", "add_invoice_items")
    _check_method(box, params, subscription["customer"])
    named = ("default_payment_method", "description")
    changes: Obj = {k: params[k] for k in named if k in params}
    if "payment_settings" in params:
        changes["payment_settings"] = {
            **subscription["payment_settings"],
            **(params["payment_settings"] or {}),
        }
    if "trial_settings" in params:
        changes["trial_settings"] = {
            "end_behavior": {
                **subscription["trial_settings"]["end_behavior"],
                **params["trial_settings"]["end_behavior"],
            }
        }
    if "metadata" in params:
        fresh = {"metadata": dict(subscription["metadata"])}
        amounts.merge_metadata(fresh, params)
        changes["metadata"] = fresh["metadata"]
    changes |= _leaving(box, subscription, params)
    before = _change_items(box, subscription, params)
    billing.change(box, subscription, before, **changes)
    if subscription["cancel_at"] is not None:
        box.plan_at(subscription["cancel_at"], "cancellation_due", id)
    if "trial_end" in params:
        _move_trial(box, subscription, params["trial_end"])
    return subscription


def _leaving(box: Sandbox, subscription: Obj, params: Obj) -> Obj:
    """The fields that say when it ends and why, as far as ``params`` change them."""
    changes: Obj = {}
    if "cancellation_details" in params:
        given = {k: v or None for k, v in (params["cancellation_details"] or {}).items()}
        changes["cancellation_details"] = {**subscription["cancellation_details"], **given}
    if "cancel_at" not in params and "cancel_at_period_end" not in params:
        return changes
    leaves = _leaves(box, params)
    if leaves["cancel_at_period_end"]:
        leaves["cancel_at"] = billing.period_end(subscription)
    stays = leaves["cancel_at"] is None
    details: Obj = changes.get("cancellation_details") or subscription["cancellation_details"]
    return {
        **changes,
        **leaves,
        "canceled_at": None if stays else subscription["canceled_at"] or int(box.now()),
        "cancellation_details": {
            **details,
            "reason": None if stays else "cancellation_requested",
        },
    }


def _change_items(box: Sandbox, subscription: Obj, params: Obj) -> Obj | None:
    """Other prices and quantities from the next period on; returns what the items were."""
    if "items" not in params:
        return None
    if params.get("proration_behavior") != "none":
        raise not_yet("prorations; send proration_behavior=none", "proration_behavior")
    items = {item["id"]: item for item in subscription["items"]["data"]}
    before = {"items": {"data": [dict(item) for item in items.values()]}}
    for place, given in enumerate(params["items"]):
        at = f"items[{place}]"
        item = items.get(given.get("id", ""))
        if item is None or given.get("deleted"):
            raise not_yet("adding and removing subscription items", at)
        price = _price(box, given, at) if {"price", "price_data"} & given.keys() else item["price"]
        check_rhythm([item["price"], price], f"{at}[price]")
        item |= {"price": price, "plan": billing.plan_of(price)}
        item["quantity"] = _quantity({"quantity": item["quantity"], **given}, at)
    return before


def _move_trial(box: Sandbox, subscription: Obj, at: int | str) -> None:
    if subscription["status"] != "trialing":
        raise not_yet("trials for subscriptions that have none", "trial_end")
    now = int(box.now())
    billing.end_trial(box, subscription, now if at == "now" else read_time(at, "trial_end", now))


def cancel(box: Sandbox, params: Obj, id: str) -> Obj:
    subscription = reading.find(box, KIND, id)
    if subscription["status"] in ENDED:
        raise ApiError(
            f"No such subscription: '{id}'", status=404, code="resource_missing", param="id"
        )
    for name in ("invoice_now", "prorate"):
        if params.get(name):
            raise not_yet(f"canceling with {name}", name)
    given = {k: v or None for k, v in (params.get("cancellation_details") or {}).items()}
    subscription["cancellation_details"] |= given
    billing.cancel(box, subscription)
    return subscription


def resume(box: Sandbox, params: Obj, id: str) -> Obj:
    """Only what was paused by itself, at the end of a trial that nobody could be charged for."""
    subscription = reading.find(box, KIND, id)
    if subscription["status"] != "paused":
        raise ApiError(
            f"Only a subscription with a status of paused can be resumed; the status of {id} is "
            f"{subscription['status']}."
        )
    if (params.get("billing_cycle_anchor") or {}).get("type", "now") != "now":
        raise not_yet("resuming on the old billing cycle", "billing_cycle_anchor")
    attempted = params.get("payment_behavior") == "resume_on_payment_attempt"
    billing.resume(box, subscription, whatever_the_bank_says=attempted)
    return subscription


ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/subscriptions": create,
    "GET /v1/subscriptions": list_all,
    "GET /v1/subscriptions/{id}": retrieve,
    "POST /v1/subscriptions/{id}": update,
    "DELETE /v1/subscriptions/{id}": cancel,
    "POST /v1/subscriptions/{id}/resume": resume,
}
