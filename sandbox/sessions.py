"""Checkout Sessions while somebody is on their page: paid, completed, expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import aftermath, methods, payments
from .cards import way
from .shapes import checkout

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

# What becomes of a session when its payment did this; a decline leaves it open.
COMPLETED_AS = {"paid": "paid", "processing": "unpaid", "authorized": "unpaid"}


def pay(box: Sandbox, session: Obj, name: str, buyer: Obj | None = None) -> str:
    """Pay an open session; the words are those of ``payments.confirm``.

    ``closed`` when the session is not open, ``not_offered`` when it does not take this kind of
    payment.
    """
    if session["status"] != "open":
        return "closed"
    chosen = way(name)
    if not methods.is_offered(session, chosen, session["currency"]):
        return "not_offered"
    if chosen.short_by:
        _charge_less(box, session, chosen.short_by)
    who = _who(box, session, buyer)
    if session["amount_total"] == 0:
        complete(box, session, "no_payment_required", who)
        return "paid"
    intent = _intent(box, session)
    method = methods.new_method(box, name, session["currency"], who)
    box.store.put(session, buyer=who)
    return payments.confirm(box, intent, method)


def intent_of(box: Sandbox, session: Obj) -> Obj | None:
    """What the session is being paid through, once somebody has tried."""
    return box.store.objects["payment_intent"].get(session["payment_intent"])


def session_of(box: Sandbox, intent: Obj) -> Obj | None:
    id = box.store.aside[intent["id"]]["session"]
    return box.store.objects["checkout.session"].get(id) if id else None


def _intent(box: Sandbox, session: Obj) -> Obj:
    """The session's intent, born now if nobody tried to pay before."""
    store = box.store
    known = intent_of(box, session)
    if known is not None:
        if known["amount"] != session["amount_total"]:
            known["amount"] = session["amount_total"]
            store.put(known)
        return known
    params = {
        **store.aside[session["id"]]["intent_data"],
        "amount": session["amount_total"],
        "currency": session["currency"],
        "customer": session["customer"],
    }
    intent = payments.new_intent(box, params, session=session["id"])
    intent["payment_method_types"] = session["payment_method_types"]
    session["payment_intent"] = intent["id"]
    store.put(session)
    return intent


def hear(box: Sandbox, id: str, intent: Obj, word: str) -> None:
    """The session's intent did what ``word`` says."""
    session = box.store.objects["checkout.session"][id]
    if word in COMPLETED_AS:
        complete(box, session, COMPLETED_AS[word], box.store.aside[id].get("buyer"))
    elif word == "captured":
        session["payment_status"] = "paid"
        box.store.put(session)
    elif word == "settled":
        session["payment_status"] = "paid"
        box.store.put(session)
        box.emit("checkout.session.async_payment_succeeded", session)
    elif word == "bounced":
        box.emit("checkout.session.async_payment_failed", session)


def complete(box: Sandbox, session: Obj, payment_status: str, who: Obj | None) -> None:
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


def expire(box: Sandbox, session: Obj) -> None:
    """Close an open session unpaid; an intent that was tried in it can never be paid again."""
    session |= {"status": "expired", "url": None}
    intent = intent_of(box, session)
    if intent is not None and intent["status"] != "canceled":
        payments.cancel_intent(box, intent, "expired")
    box.store.put(session)
    box.emit("checkout.session.expired", session)


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


def return_address(session: Obj) -> str | None:
    """Where the browser goes once the session is complete, its id filled in."""
    url = session["success_url"] or session.get("return_url")
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"]) if url else None
