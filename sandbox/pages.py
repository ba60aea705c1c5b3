"""The hosted pay page and the bank's page: plain forms, no scripts, as a shopper sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader
from werkzeug import Request, Response
from werkzeug.utils import redirect

from . import cards, methods, sessions, web

if TYPE_CHECKING:
    from .box import Sandbox

Obj = dict[str, Any]

HERE = Path(__file__).parent
SYMBOLS = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$"}
NO_DECIMALS = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMALS = frozenset("bhd jod kwd omr tnd".split())


@dataclass(frozen=True)
class Outcome:
    """A button that pays in one click, and what then befalls the news of it."""

    name: str
    label: str
    hint: str
    way: str = "4242424242424242"
    webhooks: str = ""


GROUPS: tuple[tuple[str, tuple[Outcome, ...]], ...] = (
    (
        "The card",
        (
            Outcome("pays", "Pays", "4242 … 4242"),
            Outcome("declined", "Declined", "No reason given", "4000000000000002"),
            Outcome("insufficient", "Not enough funds", "… 9995", "4000000000009995"),
            Outcome("expired_card", "Card expired", "… 0069", "4000000000000069"),
            Outcome("asks", "Bank asks first", "Its page follows", "4000002760003184"),
        ),
    ),
    (
        "A bank debit",
        (
            Outcome("debit", "Arrives later", "Waits, then paid", "bank_debit"),
            Outcome("bounces", "Bounces later", "Waits, then fails", "bank_debit_fails"),
        ),
    ),
    (
        "Paid, but the shop hears of it",
        (
            Outcome("late", "20 seconds late", "", webhooks="late"),
            Outcome("lost", "Never", "The shop has to ask", webhooks="lost"),
            Outcome("twice", "Twice", "", webhooks="twice"),
            Outcome("shuffled", "In the wrong order", "", webhooks="shuffled"),
        ),
    ),
    (
        "Afterwards",
        (
            Outcome("disputed", "Disputed", "The money goes back", "4000000000000259"),
            Outcome("wrong_amount", "Wrong amount", "1.00 less than due", "wrong_amount"),
            Outcome("expires", "Time runs out", "Nothing is paid"),
        ),
    ),
)
OUTCOMES = {outcome.name: outcome for _, group in GROUPS for outcome in group}


@cache
def templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money
    return environment


def money(minor: int, currency: str) -> str:
    """Minor units as people write them."""
    places = 0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2
    figure = f"{minor / 10**places:,.{places}f}"
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{figure}" if symbol else f"{figure} {currency.upper()}"


def render(name: str, *, back_to: str = "", status: int = 200, **facts: Any) -> Response:
    """A page that may only use its own style, and whose forms may lead back to the shop."""
    response = Response(
        templates().get_template(name).render(**facts), status, mimetype="text/html"
    )
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
        f"frame-ancestors 'self' {back_to}; form-action 'self' {back_to}"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def serve(box: Sandbox, environ: dict[str, Any]) -> Response:
    request = Request(environ)
    kind, _, id = request.path.removeprefix("/c/").rstrip("/").partition("/")
    box.tick()
    if kind == "pay":
        session = box.store.objects["checkout.session"].get(id)
        if session is not None:
            return _pay_page(box, request, session)
    elif kind == "bank":
        intent = box.intent(id)
        if intent is not None:
            return _bank_page(box, request, intent)
    return render("gone.html", status=404)


def _pay_page(box: Sandbox, request: Request, session: Obj) -> Response:
    if session["status"] != "open":
        return _closed_page(box, session)
    if request.method != "POST":
        return _open_page(box, session)
    form = request.form
    name = form.get("outcome", "card")
    if name == "expires":
        with box.lock:
            sessions.expire(box, session)
            box.store.commit()
        box.deliver_before_answer()
        return redirect(f"/c/pay/{session['id']}", 303)
    chosen = OUTCOMES.get(name)
    errors = {} if chosen else _problems(session, form)
    if errors:
        return _open_page(box, session, errors=errors, typed=form, status=422)
    buyer = {"email": form.get("email", "").strip() or None, "name": form.get("name", "").strip()}
    paid = box.pay(
        session["id"],
        chosen.way if chosen else form["number"],
        webhooks=chosen.webhooks if chosen else "",
        buyer=buyer,
    )
    box.deliver_before_answer()
    if paid["outcome"] == "asks":
        asking = sessions.intent_of(box, session) or {}
        return redirect(f"/c/bank/{asking['id']}", 303)
    return redirect(paid["redirect"] or f"/c/pay/{session['id']}", 303)


def _problems(session: Obj, form: Any) -> dict[str, str]:
    errors = {}
    if not session["customer_email"] and "@" not in form.get("email", ""):
        errors["email"] = "Enter the e-mail address that the receipt goes to."
    if not cards.is_card_number(form.get("number", "")):
        errors["number"] = "That is not a card number. Try 4242 4242 4242 4242."
    return errors


def _open_page(
    box: Sandbox, session: Obj, *, errors: Obj | None = None, typed: Any = None, status: int = 200
) -> Response:
    intent = sessions.intent_of(box, session) or {}
    declined = None if errors else (intent.get("last_payment_error") or {}).get("message")
    groups = []
    for title, outcomes in GROUPS:
        offered = [
            o
            for o in outcomes
            if methods.is_offered(session, cards.way(o.way), session["currency"])
        ]
        groups += [(title, offered)] if offered else []
    return render(
        "pay.html",
        back_to=_shop(session),
        status=status,
        session=session,
        groups=groups,
        errors=errors or {},
        typed=typed or {},
        declined=declined,
        asked=intent.get("status") == "requires_action" and f"/c/bank/{intent['id']}",
        **_receipt(box, session),
    )


def _closed_page(box: Sandbox, session: Obj) -> Response:
    return render(
        "closed.html",
        back_to=_shop(session),
        session=session,
        back=web.after_paying(session)
        if session["status"] == "complete"
        else session["cancel_url"],
        **_receipt(box, session),
    )


def _receipt(box: Sandbox, session: Obj) -> Obj:
    cost = session["shipping_cost"]
    rate = box.store.objects["shipping_rate"].get(cost["shipping_rate"]) if cost else None
    return {"items": box.store.aside[session["id"]]["items"], "rate": rate}


def _bank_page(box: Sandbox, request: Request, intent: Obj) -> Response:
    session = sessions.session_of(box, intent)
    if request.method != "POST" or intent["status"] != "requires_action":
        if intent["status"] == "requires_action":
            return render("bank.html", back_to=_shop(session), intent=intent)
        return redirect(_after_bank(box, intent, session), 303)
    ok = request.form.get("answer") == "yes"
    with box.lock:
        box.answer_bank(intent, ok=ok)
        box.store.commit()
    box.deliver_before_answer()
    return redirect(_after_bank(box, intent, session), 303)


def _after_bank(box: Sandbox, intent: Obj, session: Obj | None) -> str:
    if session is not None:
        done = session["status"] == "complete"
        return (web.after_paying(session) if done else None) or f"/c/pay/{session['id']}"
    back: str | None = box.store.aside[intent["id"]]["return_url"]
    if back is None:
        return "/_sandbox/"
    went = "succeeded" if intent["status"] in ("succeeded", "requires_capture") else "failed"
    kind = intent["object"]
    return (
        f"{back}{'&' if '?' in back else '?'}{kind}={intent['id']}"
        f"&{kind}_client_secret={intent['client_secret']}&redirect_status={went}"
    )


def _shop(session: Obj | None) -> str:
    if session is None:
        return "*"
    addresses = (session["success_url"], session.get("return_url"), session["cancel_url"])
    return " ".join(dict.fromkeys(web.origin(a) for a in addresses if a))
