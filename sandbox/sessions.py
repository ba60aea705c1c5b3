"""Checkout Sessions while somebody is on their page: paid, completed, expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import aftermath, billing, discounts, methods, payments, setups
from .billing import Wanted
from .cards import way
from .shapes import checkout

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

# What a session's payment status is when its intent did this; a decline leaves it open.
COMPLETED_AS = {
    "paid": "paid",
    "processing": "unpaid",
    "authorized": "unpaid",
    "saved": "no_payment_required",
}
DAY_S = 86_400


def pay(box: Sandbox, session: Obj, name: str, buyer: Obj | None = None) -> str:
    """Pay an open session, or save what it asks for; the words are those of ``confirm``.

    ``closed`` when the session is not open, ``not_offered`` when it does not take this kind of
    payment.
    """
    if session["status"] != "open":
        return "closed"
    chosen = way(name)
    if not methods.is_offered(session, chosen, session["currency"]):
        return "not_offered"
    if chosen.short_by:
        if session["mode"] != "payment":
            return "not_offered"
        _charge_less(box, session, chosen.short_by)
    who = _who(box, session, buyer)
    if session["amount_total"] == 0 and not saves(session):
        complete(box, session, "no_payment_required", who)
        return "paid"
    intent = _intent(box, session)
    method = methods.new_method(box, name, session["currency"], who)
    box.store.put(session, buyer=who)
    if intent["object"] == "setup_intent":
        return setups.confirm(box, intent, method)
    return payments.confirm(box, intent, method)


def saves(session: Obj) -> bool:
    """Whether a card is to be saved although nothing is due."""
    if session["mode"] == "subscription" and session["amount_total"] == 0:
        return bool(session["payment_method_collection"] == "always")
    return bool(session["mode"] == "setup")


def intent_of(box: Sandbox, session: Obj) -> Obj | None:
    """What the session is being paid or set up through, once somebody has tried."""
    beside = box.store.aside[session["id"]].get("intent")
    return box.intent(session["payment_intent"] or session["setup_intent"] or beside or "")


def session_of(box: Sandbox, intent: Obj) -> Obj | None:
    id = box.store.aside[intent["id"]]["session"]
    return box.store.objects["checkout.session"].get(id) if id else None


def _intent(box: Sandbox, session: Obj) -> Obj:
    """The session's intent, born now if nobody tried to pay before.

    Only a session of mode payment names it: one that subscribes has an invoice in the end, and
    until then nobody can see which intent is its own.
    """
    store, known = box.store, intent_of(box, session)
    if known is not None:
        if known.get("amount", session["amount_total"]) != session["amount_total"]:
            known["amount"] = session["amount_total"]
            store.put(known)
        return known
    subscribes = session["mode"] == "subscription"
    if subscribes and not session["amount_total"]:
        params = {"customer": session["customer"]}
        intent = setups.new_setup(box, params, session["currency"], session=session["id"])
    else:
        params = {
            **store.aside[session["id"]]["intent_data"],
            "amount": session["amount_total"],
            "currency": session["currency"],
            "customer": session["customer"],
        }
        if subscribes:
            params |= {"description": "Subscription creation", "setup_future_usage": "off_session"}
        intent = payments.new_intent(box, params, session=session["id"])
    intent["payment_method_types"] = session["payment_method_types"]
    store.put(intent)
    if not subscribes:
        session["payment_intent"] = intent["id"]
    store.put(session, intent=intent["id"])
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
    if session["mode"] == "subscription":
        _subscribe(box, session)
    discounts.redeem(box, session)
    box.store.put(session)
    box.emit("checkout.session.completed", session)


def _subscribe(box: Sandbox, session: Obj) -> None:
    """The money is there or under way, or the card is saved: only now is there a subscription."""
    aside, now = box.store.aside[session["id"]], int(box.now())
    data, intent = aside["subscription_data"], intent_of(box, session)
    method = _keep_method(box, session, intent) if intent else None
    days = data.get("trial_period_days")
    trial_end = now + days * DAY_S if days else data.get("trial_end")
    wanted = [Wanted(i["price"], i["quantity"], i["metadata"]) for i in aside["items"]]
    paid_by = intent if intent and intent["object"] == "payment_intent" else None
    subscription = billing.subscribe(
        box,
        {**data, "customer": session["customer"], "default_payment_method": method},
        wanted,
        trial_end=trial_end,
        paid_by=paid_by,
    )
    session |= {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}


def _keep_method(box: Sandbox, session: Obj, intent: Obj) -> str:
    """The customer keeps what was paid with; until now nobody knew who they are."""
    intent["customer"] = session["customer"]
    box.store.put(intent)
    charge = box.store.objects["charge"].get(intent.get("latest_charge") or "")
    if charge is not None:
        charge["customer"] = session["customer"]
        box.store.put(charge)
    method = box.store.objects["payment_method"][intent["payment_method"]]
    methods.attach(box, method, session["customer"])
    box.store.put(method, set_up=True)
    id: str = method["id"]
    return id


def expire(box: Sandbox, session: Obj) -> None:
    """Close an open session unpaid; an intent that was tried in it can never be paid again."""
    session |= {"status": "expired", "url": None}
    intent = intent_of(box, session)
    if intent is not None and intent["status"] != "canceled":
        if intent["object"] == "setup_intent":
            setups.cancel(box, intent, None)
        else:
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
    """Where the browser goes once the session is complete, its id filled in.

    Nowhere, if the page around an embedded one was promised to be told instead.
    """
    if session.get("redirect_on_completion", "always") != "always":
        return None
    url = session["success_url"] or session.get("return_url")
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"]) if url else None
