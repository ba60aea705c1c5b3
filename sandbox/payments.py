"""What happens when somebody pays: the intent, the charge, the session, and the news of them.

The order of the events is the order in which Stripe sends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import aftermath
from .cards import Way, way
from .shapes import checkout, payments

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

DEBITS = {"eur": "sepa_debit", "gbp": "bacs_debit", "usd": "us_bank_account"}

AUTHENTICATION_FAILED = Way(
    "",
    code="payment_intent_authentication_failure",
    message="We are unable to authenticate your payment method. "
    "Please choose a different payment method and try again.",
)


def new_intent(box: Sandbox, params: Obj, **aside: Any) -> Obj:
    """Open an intent. ``aside`` may name the session it belongs to and where to return."""
    store = box.store
    intent = payments.payment_intent(
        store.new_id("pi_"), store.new_id("", 25), created=int(box.now()), params=params
    )
    intent["payment_method_types"] = method_types(intent["currency"])
    store.put(intent, **{"session": None, "return_url": None, **aside})
    box.emit("payment_intent.created", intent)
    return intent


def new_method(box: Sandbox, name: str, currency: str, buyer: Obj | None = None) -> Obj:
    """Make a payment method of the card number or of the named way to pay."""
    chosen = way(name)
    number = chosen.number or name.replace(" ", "")
    method = payments.payment_method(
        box.store.new_id("pm_1"),
        created=int(box.now()),
        type=DEBITS[currency] if chosen.is_debit else "card",
        number=number,
        brand=chosen.brand,
        who=payments.billing(buyer),
    )
    return box.store.put(method, way=name)


def method_types(currency: str) -> list[str]:
    """What the sandbox offers in this currency: cards, and a bank debit where there is one."""
    debit = DEBITS.get(currency)
    return ["card", debit] if debit else ["card"]


def pay_session(box: Sandbox, session: Obj, name: str, buyer: Obj | None = None) -> str:
    """Pay an open session; the word says how it went.

    ``paid``, ``processing`` (a debit under way), ``authorized`` (to be captured), ``asks`` (the
    bank wants to see the buyer), ``declined``, ``closed`` when the session is not open, or
    ``not_offered`` when it does not take this kind of payment.
    """
    if session["status"] != "open":
        return "closed"
    chosen = way(name)
    if not offers(session, chosen):
        return "not_offered"
    if chosen.short_by:
        _charge_less(box, session, chosen.short_by)
    who = _who(box, session, buyer)
    if session["amount_total"] == 0:
        complete_session(box, session, "no_payment_required", who)
        return "paid"
    intent = session_intent(box, session)
    method = new_method(box, name, session["currency"], who)
    box.store.put(session, buyer=who)
    return confirm(box, intent, method)


def offers(session: Obj, chosen: Way) -> bool:
    kind = DEBITS.get(session["currency"]) if chosen.is_debit else "card"
    return kind in session["payment_method_types"]


def session_intent(box: Sandbox, session: Obj) -> Obj:
    """The session's intent, born now if nobody tried to pay before."""
    store = box.store
    known = session["payment_intent"]
    if known:
        intent = store.objects["payment_intent"][known]
        if intent["amount"] != session["amount_total"]:
            intent["amount"] = session["amount_total"]
            store.put(intent)
        return intent
    params = {
        **store.aside[session["id"]]["intent_data"],
        "amount": session["amount_total"],
        "currency": session["currency"],
        "customer": session["customer"],
    }
    intent = new_intent(box, params, session=session["id"])
    intent["payment_method_types"] = session["payment_method_types"]
    session["payment_intent"] = intent["id"]
    store.put(session)
    return intent


def confirm(box: Sandbox, intent: Obj, method: Obj) -> str:
    """Try to take the intent's money with ``method``; the words are those of ``pay_session``."""
    chosen = way(box.store.aside[method["id"]]["way"])
    intent["payment_method"] = method["id"]
    intent["last_payment_error"] = None
    if chosen.then == "asks":
        _ask(box, intent)
        return "asks"
    return _take(box, intent, method, chosen)


def authenticate(box: Sandbox, intent: Obj, *, ok: bool) -> str:
    """The buyer has been to the bank's page, and proved who they are or not."""
    if intent["status"] != "requires_action":
        return "closed"
    method = box.store.objects["payment_method"][intent["payment_method"]]
    intent["next_action"] = None
    if ok:
        return _take(box, intent, method, Way(method["card"]["last4"]), authenticated=True)
    _fail(box, intent, method, AUTHENTICATION_FAILED, charge=None)
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
        return "declined"
    if chosen.is_debit:
        _wait_for_bank(box, intent, charge)
        return "processing"
    if intent["capture_method"] == "manual":
        _authorize(box, intent, charge)
        return "authorized"
    _succeed(box, intent, charge)
    _finish_session(box, intent, "paid", "completed")
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
    _finish_session(box, intent, "unpaid", "completed")


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
    session = session_of(box, intent)
    if session is not None:
        session["payment_status"] = "paid"
        box.store.put(session)
    aftermath.book_charge(box, charge)


def _wait_for_bank(box: Sandbox, intent: Obj, charge: Obj) -> None:
    box.store.put(charge)
    box.emit("charge.pending", charge)
    intent["status"] = "processing"
    box.store.put(intent)
    box.emit("payment_intent.processing", intent)
    _finish_session(box, intent, "unpaid", "completed")
    box.plan(box.debit_s, "settle_debit", intent["id"])


def settle_debit(box: Sandbox, intent_id: str) -> None:
    """The bank has answered, days later on the sandbox's clock: the debit holds, or it bounced."""
    store = box.store
    intent = store.objects["payment_intent"].get(intent_id)
    if intent is None or intent["status"] != "processing":
        return
    charge = store.objects["charge"][intent["latest_charge"]]
    method = store.objects["payment_method"][intent["payment_method"]]
    chosen = way(store.aside[method["id"]]["way"])
    if chosen.then == "settles":
        _succeed(box, intent, charge)
        _finish_session(box, intent, "paid", "async_payment_succeeded")
        aftermath.book_charge(box, charge)
    else:
        _fail(box, intent, method, chosen, charge)
        _finish_session(box, intent, "unpaid", "async_payment_failed")


def _finish_session(box: Sandbox, intent: Obj, payment_status: str, news: str) -> None:
    session = session_of(box, intent)
    if session is None:
        return
    if news == "completed":
        who = box.store.aside[session["id"]].get("buyer")
        complete_session(box, session, payment_status, who)
        return
    session["payment_status"] = payment_status
    box.store.put(session)
    box.emit(f"checkout.session.{news}", session)


def complete_session(box: Sandbox, session: Obj, payment_status: str, who: Obj | None) -> None:
    """Close the session as complete, with what the page collected."""
    session |= {
        "status": "complete",
        "payment_status": payment_status,
        "url": None,
        "customer_details": who,
    }
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"]["status"] = "complete"
    if session["shipping_address_collection"] and who:
        session["collected_information"]["shipping_details"] = {
            "address": who["address"],
            "name": who["name"],
        }
    if session["customer_creation"] == "always" and not session["customer"]:
        session["customer"] = aftermath.new_customer(
            box, {k: (who or {})[k] for k in ("email", "name")}
        )
    box.store.put(session)
    box.emit("checkout.session.completed", session)


def session_of(box: Sandbox, intent: Obj) -> Obj | None:
    id = box.store.aside[intent["id"]]["session"]
    return box.store.objects["checkout.session"].get(id) if id else None


def expire_session(box: Sandbox, session: Obj) -> None:
    """Close an open session unpaid; an intent that was tried in it can never be paid again."""
    session |= {"status": "expired", "url": None}
    intent = box.store.objects["payment_intent"].get(session["payment_intent"])
    if intent is not None and intent["status"] != "canceled":
        cancel_intent(box, intent, "expired")
    box.store.put(session)
    box.emit("checkout.session.expired", session)


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


def _charge_less(box: Sandbox, session: Obj, short_by: int) -> None:
    cut = min(short_by, session["amount_total"] - 1)
    session["amount_subtotal"] -= cut
    session["amount_total"] -= cut
    box.store.put(session)


def _who(box: Sandbox, session: Obj, buyer: Obj | None) -> Obj:
    given = buyer or {}
    customer = box.store.objects["customer"].get(session["customer"], {})
    email = session["customer_email"] or customer.get("email") or given.get("email")
    home = {"line1": "12 Harbour Street", "city": "Galway", "country": "IE", "postal_code": "H91"}
    name = given.get("name") or customer.get("name") or "Sandbox Buyer"
    return checkout.buyer(email or "buyer@example.com", name, home)
