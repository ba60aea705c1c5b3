"""What shoppers do, by program: press the button of a page, answer the bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import cards, invoices, methods, payments, sessions, setups

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

UNDECIDED = ("requires_payment_method", "requires_confirmation", "requires_action")


def pay(box: Sandbox, id: str, card: str, webhooks: str, buyer: Obj | None) -> Obj:
    """Press the button on the page of a session or an invoice."""
    session, invoice = _session(box, id), box.store.objects["invoice"].get(id)
    if session is not None:
        outcome = _in_mood(box, webhooks, lambda: sessions.pay(box, session, card, buyer))
        return _told(box, session, outcome)
    if invoice is not None:
        outcome = _in_mood(
            box, webhooks, lambda: invoices.confirm_by_buyer(box, invoice, card, buyer)
        )
        return _told(box, invoice, outcome)
    return {"outcome": "unknown", "message": "No such session.", "session": None}


def confirm(box: Sandbox, id: str, card: str, webhooks: str, buyer: Obj | None) -> Obj:
    """Press the button on a page with the Payment Element, for an intent of either kind."""
    intent = box.intent(id)
    if intent is None:
        return {"outcome": "unknown", "message": "No such intent.", "intent": None}
    outcome = _in_mood(box, webhooks, lambda: _confirm(box, intent, card, buyer))
    return _told(box, intent, outcome)


def authenticate(box: Sandbox, id: str, *, ok: bool) -> Obj:
    """Answer the bank's question about what a session, an invoice or an intent asks for."""
    about = _session(box, id) or box.store.objects["invoice"].get(id) or box.intent(id)
    intent = about and _intent_of(box, about)
    outcome = answer_bank(box, intent, ok=ok) if intent else "closed"
    if about is None:
        return {"outcome": outcome, "message": None, "intent": None}
    return _told(box, about, outcome)


def answer_bank(box: Sandbox, intent: Obj, *, ok: bool) -> str:
    kind = setups if intent["object"] == "setup_intent" else payments
    return kind.authenticate(box, intent, ok=ok)


def _in_mood(box: Sandbox, webhooks: str, act: Callable[[], str]) -> str:
    """Do something whose news may be late, lost, told twice or shuffled."""
    box.mood = webhooks
    try:
        return act()
    finally:
        box.mood = ""


def _confirm(box: Sandbox, intent: Obj, card: str, buyer: Obj | None) -> str:
    if intent["status"] not in UNDECIDED:
        return "closed"
    beside = box.store.aside[intent["id"]]
    currency = intent.get("currency") or beside["currency"]
    known = box.store.objects["payment_method"].get(card)
    chosen = methods.way_of(box, known) if known else cards.way(card)
    theirs = known is None or (
        known["customer"] in (None, intent["customer"]) and not methods.is_used_up(box, known)
    )
    if not theirs or not methods.is_offered(intent, chosen, currency):
        return "not_offered"
    if chosen.short_by and beside.get("invoice"):
        return "not_offered"
    method = known or methods.new_method(box, card, currency, buyer)
    if intent["object"] == "setup_intent":
        return setups.confirm(box, intent, method)
    intent["amount"] -= min(chosen.short_by, intent["amount"] - 1)
    return payments.confirm(box, intent, method)


def _session(box: Sandbox, id: str) -> Obj | None:
    return box.store.objects["checkout.session"].get(id)


def _intent_of(box: Sandbox, about: Obj) -> Obj | None:
    if about["object"] == "checkout.session":
        return sessions.intent_of(box, about)
    if about["object"] == "invoice":
        return invoices.intent_of(box, about)
    return about


def _told(box: Sandbox, about: Obj, outcome: str) -> Obj:
    """How it went, why not, where the browser goes now, and what became of it."""
    intent = _intent_of(box, about) or {}
    error = intent.get("last_payment_error") or intent.get("last_setup_error") or {}
    told: Obj = {"outcome": outcome, "message": error.get("message")}
    if about["object"] == "checkout.session":
        done = about["status"] == "complete"
        back = sessions.return_address(about) if done else None
        return told | {"redirect": back, "session": dict(about)}
    name = "invoice" if about["object"] == "invoice" else "intent"
    return told | {name: dict(about)}
