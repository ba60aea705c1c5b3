"""What happens when somebody pays: the intent, the charge, and the news of them.

The order of the events is the order in which Stripe sends them. Whoever an intent belongs to, a
session or an invoice, hears of it through ``Sandbox.follow``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import aftermath, methods
from .cards import Way
from .shapes import payments

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

PAYS = Way("")
AUTHENTICATION_FAILED = Way(
    "",
    code="payment_intent_authentication_failure",
    message="We are unable to authenticate your payment method. "
    "Please choose a different payment method and try again.",
)
AUTHENTICATION_REQUIRED = Way(
    "",
    then="declines",
    code="authentication_required",
    reason="authentication_required",
    message="Your card was declined. This transaction requires authentication.",
)


def new_intent(box: Sandbox, params: Obj, **aside: Any) -> Obj:
    """Open an intent. ``aside`` may name whose it is (session, invoice) and where to return."""
    store = box.store
    intent = payments.payment_intent(
        store.new_id("pi_"), store.new_id("", 25), created=int(box.now()), params=params
    )
    intent["payment_method_types"] = methods.method_types(intent["currency"])
    store.put(intent, **{"session": None, "invoice": None, "return_url": None, **aside})
    box.emit("payment_intent.created", intent)
    return intent


def confirm(
    box: Sandbox,
    intent: Obj,
    method: Obj,
    *,
    attended: bool = True,
    instead: Way | None = None,
) -> str:
    """Try to take the intent's money with ``method``; the word says how it went.

    ``paid``, ``processing`` (a debit under way), ``authorized`` (to be captured), ``asks`` (the
    bank wants to see the buyer), or ``declined``. Not ``attended``, the buyer is not there to be
    asked. ``instead`` is what the bank says whatever the method.
    """
    chosen = instead or methods.way_of(box, method)
    methods.use(box, method)
    intent |= {"payment_method": method["id"], "last_payment_error": None, "next_action": None}
    box.store.put(intent)
    set_up = methods.is_set_up(box, method)
    if not chosen.asks(attended=attended, set_up=set_up):
        return _take(box, intent, method, chosen)
    if attended or box.store.aside[intent["id"]].get("invoice"):
        _ask(box, intent)
        return "asks"
    return _take(box, intent, method, AUTHENTICATION_REQUIRED)


def authenticate(box: Sandbox, intent: Obj, *, ok: bool) -> str:
    """The buyer has been to the bank's page, and proved who they are or not."""
    if intent["status"] != "requires_action":
        return "closed"
    method = box.store.objects["payment_method"][intent["payment_method"]]
    intent["next_action"] = None
    if ok:
        return _take(box, intent, method, PAYS, authenticated=True)
    _fail(box, intent, method, AUTHENTICATION_FAILED, charge=None)
    box.follow(intent, "declined")
    return "declined"


def _ask(box: Sandbox, intent: Obj) -> None:
    back = box.store.aside[intent["id"]]["return_url"]
    intent["status"] = "requires_action"
    intent["next_action"] = {
        "redirect_to_url": {"return_url": back, "url": f"{box.url}/c/bank/{intent['id']}"},
        "type": "redirect_to_url",
    }
    box.store.put(intent)
    box.emit("payment_intent.requires_action", intent)
    box.follow(intent, "asks")


def _take(box: Sandbox, intent: Obj, method: Obj, chosen: Way, authenticated: bool = False) -> str:
    store = box.store
    charge = payments.charge(
        store.new_id("py_" if chosen.is_debit else "ch_"),
        created=int(box.now()),
        intent=intent,
        method=method,
        amount=intent["amount"],
    )
    if authenticated:
        charge["payment_method_details"]["card"]["three_d_secure"] = payments.three_d_secure()
    intent["latest_charge"] = charge["id"]
    store.put(charge, way=store.aside[method["id"]]["way"])
    if chosen.then == "declines":
        _fail(box, intent, method, chosen, charge)
        box.follow(intent, "declined")
        return "declined"
    if intent["customer"] and intent["setup_future_usage"]:
        methods.attach(box, method, intent["customer"])
        store.put(method, set_up=True)
    if chosen.is_debit:
        _wait_for_bank(box, intent, charge)
        return "processing"
    if intent["capture_method"] == "manual":
        _authorize(box, intent, charge)
        return "authorized"
    _succeed(box, intent, charge)
    box.follow(intent, "paid")
    aftermath.book_charge(box, charge)
    return "paid"


def _fail(box: Sandbox, intent: Obj, method: Obj, why: Way, charge: Obj | None) -> None:
    error: Obj = {
        "code": why.code,
        "doc_url": f"https://stripe.com/docs/error-codes/{why.code.replace('_', '-')}",
        "message": why.message,
        "payment_method": method,
        "type": "card_error" if charge else "invalid_request_error",
    }
    if charge is not None:
        error |= {"charge": charge["id"]}
        if why.reason:
            error["decline_code"] = why.reason
        charge |= {
            "status": "failed",
            "failure_code": why.code,
            "failure_message": why.message,
            "outcome": payments.outcome(
                "issuer_declined",
                reason=why.reason,
                message="The bank did not return any further details with this decline.",
            ),
        }
        box.store.put(charge)
        box.emit("charge.failed", charge)
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "processing": None,
        "last_payment_error": error,
    }
    box.store.put(intent)
    box.emit("payment_intent.payment_failed", intent)


def _succeed(box: Sandbox, intent: Obj, charge: Obj) -> None:
    charge |= {
        "status": "succeeded",
        "paid": True,
        "captured": True,
        "amount_captured": charge["amount"],
        "outcome": payments.outcome("authorized"),
    }
    box.store.put(charge)
    box.emit("charge.succeeded", charge)
    intent |= {"status": "succeeded", "amount_received": charge["amount"], "processing": None}
    box.store.put(intent)
    box.emit("payment_intent.succeeded", intent)


def _authorize(box: Sandbox, intent: Obj, charge: Obj) -> None:
    charge |= {"status": "succeeded", "paid": True, "outcome": payments.outcome("authorized")}
    box.store.put(charge)
    box.emit("charge.succeeded", charge)
    intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
    box.store.put(intent)
    box.emit("payment_intent.amount_capturable_updated", intent)
    box.follow(intent, "authorized")


def capture(box: Sandbox, intent: Obj, amount: int) -> None:
    """Take ``amount`` of what was authorized; the rest is let go."""
    charge = box.store.objects["charge"][intent["latest_charge"]]
    charge |= {"captured": True, "amount_captured": amount}
    charge["amount_refunded"] = charge["amount"] - amount
    box.store.put(charge)
    box.emit("charge.captured", charge)
    intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
    box.store.put(intent)
    box.emit("payment_intent.succeeded", intent)
    box.follow(intent, "captured")
    aftermath.book_charge(box, charge)


def _wait_for_bank(box: Sandbox, intent: Obj, charge: Obj) -> None:
    box.store.put(charge)
    box.emit("charge.pending", charge)
    intent["status"] = "processing"
    box.store.put(intent)
    box.emit("payment_intent.processing", intent)
    box.follow(intent, "processing")
    box.plan(box.debit_s, "settle_debit", intent["id"])


def settle_debit(box: Sandbox, intent_id: str) -> None:
    """The bank has answered, days later on the sandbox's clock: the debit holds, or it bounced."""
    store = box.store
    intent = store.objects["payment_intent"].get(intent_id)
    if intent is None or intent["status"] != "processing":
        return
    charge = store.objects["charge"][intent["latest_charge"]]
    method = store.objects["payment_method"][intent["payment_method"]]
    chosen = methods.way_of(box, method)
    if chosen.then == "settles":
        _succeed(box, intent, charge)
        box.follow(intent, "settled")
        aftermath.book_charge(box, charge)
    else:
        _fail(box, intent, method, chosen, charge)
        box.follow(intent, "bounced")


def cancel_intent(box: Sandbox, intent: Obj, reason: str | None) -> None:
    intent |= {
        "status": "canceled",
        "canceled_at": int(box.now()),
        "cancellation_reason": reason,
        "next_action": None,
        "amount_capturable": 0,
    }
    box.store.put(intent)
    box.emit("payment_intent.canceled", intent)
