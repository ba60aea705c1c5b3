"""Where shoppers pay: the page of a session, of an invoice, and the bank's. Forms, no scripts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug import Request, Response
from werkzeug.utils import redirect

from . import cards, invoices, methods, sessions, shopper
from .pages import OUTCOMES, groups, money, render

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

NOT_FOR_INVOICES = ("expires", "wrong_amount")


@dataclass(frozen=True)
class Till:
    """What a page that takes money, or saves a card, has to know."""

    id: str
    here: str  # its own address
    obj: Obj
    currency: str
    does: str  # what its button does
    receipt: Obj | None
    lead: str = ""
    saving: bool = False  # a card is saved, nothing is paid
    email: str | None = None  # where the receipt goes, if that is known
    asks_email: bool = False
    cancel_url: str | None = None
    back_to: str = ""  # origins that forms may lead to
    without: tuple[str, ...] = field(default=())


def serve(box: Sandbox, environ: dict[str, Any]) -> Response:
    request = Request(environ)
    kind, id, *more = [*request.path.removeprefix("/c/").rstrip("/").split("/"), ""][:3]
    box.tick()
    if kind == "pay":
        session = box.store.objects["checkout.session"].get(id)
        if session is not None:
            return _session_page(box, request, session)
    elif kind == "embedded":
        session = box.store.objects["checkout.session"].get(id.partition("_secret_")[0])
        if session is not None and session["client_secret"] == id:
            return _embedded_page(box, request, session)
    elif kind == "invoice":
        invoice = box.store.objects["invoice"].get(id)
        if invoice is not None and more == [box.store.aside[id]["secret"]]:
            return _invoice_page(box, request, invoice)
    elif kind == "bank":
        intent = box.intent(id)
        if intent is not None:
            return _bank_page(box, request, intent)
    return render("gone.html", status=404)


# -- sessions -------------------------------------------------------------------------------------


def _session_page(box: Sandbox, request: Request, session: Obj) -> Response:
    till = _session_till(box, session)
    if session["status"] != "open":
        return _closed_page(till, session)
    if request.method != "POST":
        return _open_page(box, till, sessions.intent_of(box, session))
    if request.form.get("outcome") == "expires":
        return _let_expire(box, till, session)
    paid = _take(box, request, till)
    if isinstance(paid, Response):
        return paid
    if paid["outcome"] == "asks":
        asking = sessions.intent_of(box, session) or {}
        return redirect(f"/c/bank/{asking['id']}", 303)
    return redirect(paid["redirect"] or till.here, 303)


def _embedded_page(box: Sandbox, request: Request, session: Obj) -> Response:
    """The same till in a frame of the shop's page, which is told when it is done.

    By itself, outside of any frame, it leads back to the shop as a hosted page does.
    """
    frame = origin(request.args.get("frame"))
    here = f"/c/embedded/{session['client_secret']}"
    till = replace(_session_till(box, session), here=f"{here}?frame={frame}" if frame else here)
    layout: Obj = {"layout": "frame.html", "scripts": True, "parent": frame} if frame else {}
    if session["status"] != "open":
        return _closed_page(till, session, **layout)
    if request.method != "POST":
        return _open_page(box, till, sessions.intent_of(box, session), **layout)
    if request.form.get("outcome") == "expires":
        return _let_expire(box, till, session)
    with box.lock:
        box.store.put(session, framed_by=till.here if frame else None)
    paid = _take(box, request, till, **layout)
    if isinstance(paid, Response):
        return paid
    if paid["outcome"] == "asks":
        asking = sessions.intent_of(box, session) or {}
        return redirect(f"/c/bank/{asking['id']}", 303)
    return redirect(till.here if frame else paid["redirect"] or till.here, 303)


def _let_expire(box: Sandbox, till: Till, session: Obj) -> Response:
    with box.lock:
        sessions.expire(box, session)
        box.store.commit()
    box.deliver_before_answer()
    return redirect(till.here, 303)


def _session_till(box: Sandbox, session: Obj) -> Till:
    does, lead = _session_words(session)
    customer = box.store.objects["customer"].get(session["customer"], {})
    email = session["customer_email"] or customer.get("email")
    return Till(
        id=session["id"],
        here=f"/c/pay/{session['id']}",
        obj=session,
        currency=session["currency"],
        does=does,
        lead=lead,
        saving=sessions.saves(session),
        receipt=_session_receipt(box, session),
        email=email,
        asks_email=not email,
        cancel_url=session["cancel_url"],
        back_to=shop_of(session),
        without=() if session["mode"] == "payment" else ("wrong_amount",),
    )


def _session_words(session: Obj) -> tuple[str, str]:
    if session["mode"] == "setup":
        return "Save your card", "Nothing is charged now."
    if session["mode"] == "subscription" and session["amount_total"] == 0:
        return "Start your trial", "Nothing is due today."
    return f"Pay {money(session['amount_total'], session['currency'])}", ""


def _session_receipt(box: Sandbox, session: Obj) -> Obj | None:
    if session["mode"] == "setup":
        return None
    cost = session["shipping_cost"]
    rate = box.store.objects["shipping_rate"].get(cost["shipping_rate"]) if cost else None
    details = session["total_details"]
    sums = [("Items", session["amount_subtotal"])]
    if session["discounts"]:
        sums.append(("Discount", -details["amount_discount"]))
    if rate is not None:
        sums.append((rate["display_name"], cost["amount_subtotal"]))
    for tax in box.store.aside[session["id"]].get("taxes", []):
        name = f"{tax['rate']['display_name']} {tax['rate']['percentage']:g} %"
        sums.append((f"{name}, included" if tax["rate"]["inclusive"] else name, tax["amount"]))
    return {
        "title": "Your order",
        "lines": [_session_line(item) for item in box.store.aside[session["id"]]["items"]],
        "sums": sums,
        "total": session["amount_total"],
        "currency": session["currency"],
        "paid": session["payment_status"] == "paid",
    }


def _session_line(item: Obj) -> Obj:
    price, quantity = item["price"], item["quantity"]
    notes = []
    if quantity > 1:
        notes.append(f"{money(price['unit_amount'], price['currency'])} each · qty {quantity}")
    if price["recurring"]:
        each = money(price["unit_amount"] * quantity, price["currency"])
        free = not item["amount_total"]
        notes.append(f"{'free trial, then ' + each if free else 'again'} {_rhythm(price)}")
    return {
        "name": item["description"],
        "note": ", ".join(notes),
        "amount": item["amount_subtotal"],
    }


def _rhythm(price: Obj) -> str:
    interval, count = price["recurring"]["interval"], price["recurring"]["interval_count"]
    return f"every {interval}" if count == 1 else f"every {count} {interval}s"


def _closed_page(till: Till, session: Obj, **layout: Any) -> Response:
    done = session["status"] == "complete"
    return render(
        "closed.html",
        back_to=till.back_to,
        session=session,
        receipt=till.receipt,
        done=done,
        back=sessions.return_address(session) if done else session["cancel_url"],
        **layout,
    )


# -- invoices -------------------------------------------------------------------------------------


def _invoice_page(box: Sandbox, request: Request, invoice: Obj) -> Response:
    till = _invoice_till(box, invoice)
    intent = invoices.intent_of(box, invoice) or {}
    under_way = intent.get("status") == "processing"
    if invoice["status"] != "open" or under_way:
        return render("invoice.html", invoice=invoice, under_way=under_way, receipt=till.receipt)
    if request.method != "POST":
        return _open_page(box, till, intent)
    paid = _take(box, request, till)
    if isinstance(paid, Response):
        return paid
    return redirect(f"/c/bank/{intent['id']}" if paid["outcome"] == "asks" else till.here, 303)


def _invoice_till(box: Sandbox, invoice: Obj) -> Till:
    intent = invoices.intent_of(box, invoice) or {}
    lines = [
        {"name": line["description"], "note": "", "amount": line["amount"]}
        for line in invoice["lines"]["data"]
    ]
    return Till(
        id=invoice["id"],
        here=urlsplit(invoices.page_of(box, invoice)).path,
        obj=intent,
        currency=invoice["currency"],
        does=f"Pay {money(invoice['amount_remaining'], invoice['currency'])}",
        receipt={
            "title": f"Invoice {invoice['number']}",
            "lines": lines,
            "sums": [("Lines", invoice["subtotal"])],
            "total": invoice["total"],
            "currency": invoice["currency"],
            "paid": invoice["status"] == "paid",
        },
        email=invoice["customer_email"],
        without=NOT_FOR_INVOICES,
    )


# -- what both have in common ---------------------------------------------------------------------


def _take(box: Sandbox, request: Request, till: Till, **layout: Any) -> Obj | Response:
    """Pay as the form says; a form that was filled in wrongly is shown again."""
    form = request.form
    chosen = OUTCOMES.get(form.get("outcome", "card"))
    errors = {} if chosen else _problems(till, form)
    if errors:
        return _open_page(box, till, None, errors=errors, typed=form, status=422, **layout)
    buyer = {"email": form.get("email", "").strip() or None, "name": form.get("name", "").strip()}
    paid = box.pay(
        till.id,
        chosen.way if chosen else form["number"],
        webhooks=chosen.webhooks if chosen else "",
        buyer=buyer,
    )
    box.deliver_before_answer()
    return paid


def _problems(till: Till, form: Any) -> dict[str, str]:
    errors = {}
    if till.asks_email and "@" not in form.get("email", ""):
        errors["email"] = "Enter the e-mail address that the receipt goes to."
    if not cards.is_card_number(form.get("number", "")):
        errors["number"] = "That is not a card number. Try 4242 4242 4242 4242."
    return errors


def _open_page(
    box: Sandbox,
    till: Till,
    intent: Obj | None,
    *,
    errors: Obj | None = None,
    typed: Any = None,
    **layout: Any,
) -> Response:
    known = intent or {}
    error = known.get("last_payment_error") or known.get("last_setup_error") or {}
    asks = known.get("status") == "requires_action"
    return render(
        "pay.html",
        back_to=till.back_to,
        till=till,
        groups=groups(
            lambda way: methods.is_offered(till.obj, way, till.currency),
            saving=till.saving,
            without=till.without,
        ),
        errors=errors or {},
        typed=typed or {},
        declined=error.get("message"),
        asked=f"/c/bank/{known['id']}" if asks else None,
        receipt=till.receipt,
        **layout,
    )


def _bank_page(box: Sandbox, request: Request, intent: Obj) -> Response:
    session = sessions.session_of(box, intent)
    if request.method != "POST" or intent["status"] != "requires_action":
        if intent["status"] == "requires_action":
            framed = session is not None and box.store.aside[session["id"]].get("framed_by")
            layout: Obj = {"layout": "frame.html", "scripts": True} if framed else {}
            return render("bank.html", back_to=shop_of(session), intent=intent, **layout)
        return redirect(_after_bank(box, intent, session), 303)
    ok = request.form.get("answer") == "yes"
    with box.lock:
        shopper.answer_bank(box, intent, ok=ok)
        box.store.commit()
    box.deliver_before_answer()
    return redirect(_after_bank(box, intent, session), 303)


def _after_bank(box: Sandbox, intent: Obj, session: Obj | None) -> str:
    if session is not None:
        framed: str | None = box.store.aside[session["id"]].get("framed_by")
        if framed:
            return framed
        done = session["status"] == "complete"
        return (sessions.return_address(session) if done else None) or here_of(session)
    aside = box.store.aside[intent["id"]]
    back: str | None = aside["return_url"]
    if back is None:
        invoice = box.store.objects["invoice"].get(aside.get("invoice") or "")
        return invoices.page_of(box, invoice) if invoice else "/_sandbox/"
    went = "succeeded" if intent["status"] in ("succeeded", "requires_capture") else "failed"
    kind = intent["object"]
    return (
        f"{back}{'&' if '?' in back else '?'}{kind}={intent['id']}"
        f"&{kind}_client_secret={intent['client_secret']}&redirect_status={went}"
    )


def here_of(session: Obj) -> str:
    """The session's own page."""
    secret = session["client_secret"]
    return f"/c/embedded/{secret}" if secret else f"/c/pay/{session['id']}"


def shop_of(session: Obj | None) -> str:
    """The origins that a page of this session may lead back to."""
    if session is None:
        return "*"
    addresses = (session["success_url"], session.get("return_url"), session["cancel_url"])
    return " ".join(dict.fromkeys(origin(a) for a in addresses if a)) or "*"


def origin(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
