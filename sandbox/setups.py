"""What happens when somebody saves a card: the SetupIntent, the customer's method, the news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import methods
from .cards import Way
from .shapes import setups

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

AUTHENTICATION_FAILED = Way(
    "",
    code="setup_intent_authentication_failure",
    message="We are unable to authenticate your payment method. "
    "Please choose a different payment method and try again.",
)


def new_setup(box: Sandbox, params: Obj, currency: str | None = None, **aside: Any) -> Obj:
    """Open a SetupIntent. ``aside`` may name whose it is and where to return.

    ``currency`` decides which account can be saved; without one it is a euro account.
    """
    store = box.store
    setup = setups.setup_intent(
        store.new_id("seti_1"), store.new_id("", 25), created=int(box.now()), params=params
    )
    known = methods.method_types(currency)
    allowed = params.get("allowed_payment_method_types", known)
    excluded = params.get("excluded_payment_method_types", ())
    setup["payment_method_types"] = [m for m in known if m in allowed and m not in excluded]
    nobodys: Obj = {"session": None, "subscription": None, "return_url": None}
    store.put(setup, **{**nobodys, "currency": currency, **aside})
    box.emit("setup_intent.created", setup)
    return setup


def confirm(box: Sandbox, setup: Obj, method: Obj) -> str:
    """Try to save ``method``; the word says how it went.

    ``saved``, ``asks`` (the bank wants to see the buyer) or ``declined``.
    """
    store = box.store
    chosen = methods.way_of(box, method)
    methods.use(box, method)
    setup |= {
        "payment_method": method["id"],
        "last_setup_error": None,
        "latest_attempt": store.new_id("setatt_1"),
        "next_action": None,
    }
    if chosen.cannot_be_saved:
        _fail(box, setup, method, chosen)
        return "declined"
    if not chosen.asks(attended=True, set_up=False):
        _save(box, setup, method)
        return "saved"
    setup["status"] = "requires_action"
    setup["next_action"] = {
        "redirect_to_url": {
            "return_url": store.aside[setup["id"]]["return_url"],
            "url": f"{box.url}/c/bank/{setup['id']}",
        },
        "type": "redirect_to_url",
    }
    store.put(setup)
    box.emit("setup_intent.requires_action", setup)
    box.follow(setup, "asks")
    return "asks"


def authenticate(box: Sandbox, setup: Obj, *, ok: bool) -> str:
    """The buyer has been to the bank's page, and proved who they are or not."""
    if setup["status"] != "requires_action":
        return "closed"
    method = box.store.objects["payment_method"][setup["payment_method"]]
    setup["next_action"] = None
    if ok:
        _save(box, setup, method)
        return "saved"
    _fail(box, setup, method, AUTHENTICATION_FAILED)
    return "declined"


def _save(box: Sandbox, setup: Obj, method: Obj) -> None:
    store = box.store
    if setup["customer"]:
        methods.attach(box, method, setup["customer"])
    if method["type"] != "card":
        setup["mandate"] = store.new_id("mandate_1")
    store.put(method, set_up=True)
    setup["status"] = "succeeded"
    store.put(setup)
    box.emit("setup_intent.succeeded", setup)
    box.follow(setup, "saved")


def _fail(box: Sandbox, setup: Obj, method: Obj, why: Way) -> None:
    error: Obj = {
        "code": why.code,
        "doc_url": f"https://stripe.com/docs/error-codes/{why.code.replace('_', '-')}",
        "message": why.message,
        "payment_method": method,
        "type": "card_error" if why.then == "declines" else "invalid_request_error",
    }
    if why.reason:
        error["decline_code"] = why.reason
    setup |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_setup_error": error,
    }
    box.store.put(setup)
    box.emit("setup_intent.setup_failed", setup)
    box.follow(setup, "declined")


def cancel(box: Sandbox, setup: Obj, reason: str | None) -> None:
    setup |= {"status": "canceled", "cancellation_reason": reason, "next_action": None}
    box.store.put(setup)
    box.emit("setup_intent.canceled", setup)
