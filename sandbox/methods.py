"""Payment methods: made of a card number or an account, kept by a customer, used up without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cards import TOKENS, Way, way
from .errors import ApiError
from .shapes import payments

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

DEBITS = {"eur": "sepa_debit", "gbp": "bacs_debit", "usd": "us_bank_account"}

USED_UP = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer "
    "attachment, shared with a connected account without Customer attachment, or was detached "
    "from a Customer. It may not be used again. To use a PaymentMethod multiple times, you must "
    "attach it to a Customer first."
)


def new_method(box: Sandbox, name: str, currency: str | None, buyer: Obj | None = None) -> Obj:
    """Make a payment method of the card number or of the named way to pay.

    An account is of the kind that is debited in ``currency``; without one, of the euro's.
    """
    chosen = way(name)
    number = chosen.number or name.replace(" ", "").replace("-", "")
    method = payments.payment_method(
        box.store.new_id("pm_1"),
        created=int(box.now()),
        type=DEBITS[currency or "eur"] if chosen.is_debit else "card",
        number=number,
        brand=chosen.brand,
        who=payments.billing(buyer),
    )
    return box.store.put(method, way=name, used=False, set_up=False)


def named(box: Sandbox, id: str, currency: str | None, param: str = "payment_method") -> Obj:
    """The payment method that is meant: one of ours, or a new one for a test token."""
    if id in TOKENS:
        return new_method(box, TOKENS[id], currency)
    method = box.store.objects["payment_method"].get(id)
    if method is None:
        raise ApiError(
            f"No such PaymentMethod: '{id}'", status=404, code="resource_missing", param=param
        )
    return method


def way_of(box: Sandbox, method: Obj) -> Way:
    return way(box.store.aside[method["id"]]["way"])


def is_set_up(box: Sandbox, method: Obj) -> bool:
    """Whether the buyer has agreed, and the bank with them, to its being charged while away."""
    return bool(box.store.aside[method["id"]].get("set_up"))


def is_used_up(box: Sandbox, method: Obj) -> bool:
    """Whether it has served once, and nobody keeps it."""
    return method["customer"] is None and bool(box.store.aside[method["id"]].get("used"))


def method_types(currency: str | None) -> list[str]:
    """What the sandbox offers in this currency: cards, and a bank debit where there is one."""
    debit = DEBITS.get(currency or "eur")
    return ["card", debit] if debit else ["card"]


def is_offered(obj: Obj, chosen: Way, currency: str | None) -> bool:
    """Whether an intent or a session takes this way to pay."""
    kind = DEBITS.get(currency or "eur") if chosen.is_debit else "card"
    return kind in obj["payment_method_types"]


def check_usable(box: Sandbox, method: Obj, customer: str | None) -> None:
    """Raises ApiError unless ``customer`` (or nobody in particular) may pay with the method."""
    if method["customer"] and method["customer"] != customer:
        raise ApiError(
            f"The provided PaymentMethod {method['id']} belongs to Customer "
            f"{method['customer']}. You must supply that Customer to use it.",
            param="payment_method",
        )
    if is_used_up(box, method):
        raise ApiError(USED_UP, param="payment_method")


def use(box: Sandbox, method: Obj) -> None:
    """Without a customer who keeps it, a method serves once, even when it is declined."""
    if method["customer"] is None:
        box.store.put(method, used=True)


def attach(box: Sandbox, method: Obj, customer: str) -> None:
    """Let the customer keep the method; keeping it again changes nothing."""
    if method["customer"] == customer:
        return
    method["customer"] = customer
    box.store.put(method, used=False)
    box.emit("payment_method.attached", method)


def detach(box: Sandbox, method: Obj) -> None:
    """Take the method from its customer; nobody can pay with it any more."""
    owner = box.store.objects["customer"].get(method["customer"], {})
    settings = owner.get("invoice_settings", {})
    if settings.get("default_payment_method") == method["id"]:
        settings["default_payment_method"] = None
        box.store.put(owner)
    for subscription in box.store.objects["subscription"].values():
        if subscription["default_payment_method"] == method["id"]:
            subscription["default_payment_method"] = None
            box.store.put(subscription)
    method["customer"] = None
    box.store.put(method, used=True)
    box.emit("payment_method.detached", method)
