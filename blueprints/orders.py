"""The order's own page, its waiting fragment, and the lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.forms import mail_address
from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from extensions import limiter
from services import (
    checkout,
    invoices,
    links,
    orders,
    receipts,
    settings,
    sign_in,
    status_page,
    subscriptions,
)
from services.causes import SHOPPER
from services.checkout import AlreadyPaid

bp = Blueprint("orders", __name__)

Answer = Response | tuple[str, int]


@bp.get("/orders/<order_id>")
def order(order_id: str) -> str:
    return render(status_page.asked(web.owned(order_id)), "orders/order.html")


@bp.get("/orders/<order_id>/invoice")
def invoice(order_id: str) -> str:
    """The sheet that is printed, for whoever may see the order."""
    found = invoices.paper(web.owned(order_id))
    if found is None:
        raise web.missing("invoice of this order")
    back = url_for(".order", order_id=order_id)
    return render_template("orders/invoice.html", invoice=found, back_url=back)


@bp.get("/orders/<order_id>/status")
@limiter.limit("120 per minute")
def status(order_id: str) -> str:
    """The fragment that a waiting page asks for; always 200, because a 204 would end the chain."""
    case = orders.dossier(order_id)
    if case is None:
        raise web.missing()
    look, began, unsure = _look(), web.waiting_since(), "unsure" in request.args
    view = _view(status_page.polled(case, look, unsure=unsure, is_live=began is not None), began)
    decided = not view.asking
    is_new = "slow" not in request.args if began else status_page.turns_slow(look)
    return render_template(
        "orders/_status.html",
        view=view,
        announce=decided or (view.state == "slow" and is_new),
        full=decided,
        hang_up=began is not None and view.live_url is None,
    )


@bp.post("/orders/<order_id>/retries")
@limiter.limit("30 per minute")
def retry(order_id: str) -> Answer:
    """A new payment page for the same order; what stands against it is said on the order's page."""
    attempt = web.owned(order_id).attempt
    try:
        page = checkout.retry(attempt.id, attempt.shopper_id)
    except AlreadyPaid:
        return redirect(url_for("orders.order", order_id=order_id), code=303)
    except ShopError as error:
        shown = render(web.owned(order_id), "orders/order.html", problem=error)
        return shown, error.http_status
    return web.to_payment(page)


@bp.post("/orders/<order_id>/subscriptions/<int:row_id>/cancel")
@limiter.limit("30 per minute")
def cancel_subscription(order_id: str, row_id: int) -> Answer:
    """End a subscription, ``when`` its period ends or now."""
    at_period_end = request.form.get("when") != "now"
    return _about_plan(order_id, row_id, partial(subscriptions.cancel, at_period_end=at_period_end))


@bp.post("/orders/<order_id>/subscriptions/<int:row_id>/resume")
@limiter.limit("30 per minute")
def resume_subscription(order_id: str, row_id: int) -> Answer:
    """Let one go on that was to end."""
    return _about_plan(order_id, row_id, subscriptions.resume)


def _about_plan(order_id: str, row_id: int, act: Callable[..., Any]) -> Answer:
    web.owned(order_id)
    try:
        act(order_id, row_id, SHOPPER)
    except NotFound:
        raise
    except ShopError as error:
        shown = render(web.owned(order_id), "orders/order.html", problem=error)
        return shown, error.http_status
    return redirect(url_for(".order", order_id=order_id, _anchor="order-plans"), code=303)


@bp.post("/orders/<order_id>/receipts")
@limiter.limit("5 per minute")
def resend(order_id: str) -> Response:
    receipts.send_again(web.owned(order_id).attempt.id)
    return redirect(url_for(".order", order_id=order_id), code=303)


@bp.post("/orders/<order_id>/links")
@limiter.limit("5 per minute")
def replace_links(order_id: str) -> Answer | str:
    """A fresh link by mail; every older one stops working, the one that was shown here too."""
    case = web.owned(order_id)
    try:
        links.replace(order_id, SHOPPER)
    except Conflict as error:
        return render(case, "orders/order.html", problem=error), error.http_status
    return render_template("orders/relinked.html", email=case.email, order_id=order_id)


@bp.get("/orders")
def mine() -> str:
    shopper, email = web.known_shopper(), web.signed_in_as()
    found = orders.of_shopper(shopper, web.instant(request.args.get("after")), email=email)
    pay_links = orders.pay_links([row.id for row in found])
    rows = [
        {
            "id": row.id,
            "number": orders.number(row),
            "placed_at": row.created_at,
            "total": row.total,
            "currency": row.currency,
            "status": row.status,
            "payment_status": row.payment_status,
            "url": url_for(".order", order_id=row.id),
            "pay_url": pay_links.get(row.id),
        }
        for row in found
    ]
    older = url_for(".mine", after=web.cursor(found[-1])) if len(found) == 20 else None
    waiting = orders.waiting_of(shopper) if shopper and "after" not in request.args else []
    return render_template(
        "orders/list.html", orders=rows, older=older, waiting=waiting, signed_in_as=email
    )


@bp.route("/orders/find", methods=["GET", "POST"])
@limiter.limit("5 per minute; 30 per hour", methods=["POST"])
def find() -> str:
    """The same answer for every address and number, so that nobody learns who shops here."""
    address = mail_address(request.form.get("email", ""))
    typed = request.form.get("number", "").strip()
    number = orders.number_in(typed)
    if address and (number or not typed):
        receipts.send_links(address, number)
    return render_template("orders/find.html", sent=request.method == "POST")


@bp.post("/orders/sign-in-links")
@limiter.limit("5 per minute; 30 per hour")
def ask_to_sign_in() -> str:
    """The same answer for every address."""
    address = mail_address(request.form.get("email", ""))
    if address:
        sign_in.ask(address)
    return render_template("orders/sign_in.html", sent=True)


@bp.get("/orders/sign-in")
@limiter.limit("60 per minute")
def sign_in_page() -> str:
    """Asks for a click, because mail scanners open every link and press nothing."""
    token = request.args.get("token", "")
    return render_template("orders/sign_in.html", token=token, email=sign_in.whom(token))


@bp.post("/orders/sign-in")
@limiter.limit("20 per minute")
def enter() -> Response:
    """A session that no cookie from before knows of, and a page token of its own."""
    seat = sign_in.enter(request.form.get("token", ""))
    sign_in.leave(session.get(web.SIGNED_IN))
    session.pop("csrf_token", None)
    session[web.SIGNED_IN] = seat
    session.permanent = True
    return redirect(url_for(".mine"), code=303)


@bp.post("/orders/sign-out")
def sign_out() -> Response:
    """Whoever uses this browser next sees no order of this one, and no basket. At the counter one
    stays signed in."""
    sign_in.leave(session.get(web.SIGNED_IN), everywhere="everywhere" in request.form)
    for name in (web.SIGNED_IN, "shopper", "links", "csrf_token"):
        session.pop(name, None)
    return redirect(url_for(".mine"), code=303)


def render(case: orders.Dossier, template: str, problem: ShopError | None = None) -> str:
    """The page of a checkout, for its owner or for a stranger; ``problem`` is what just failed."""
    began = now() - timedelta(seconds=status_page.waited_s(_look()))
    return render_template(template, view=_view(case, began), problem=problem)


def to_payment(order_id: str) -> Response:
    """To the payment page of an open checkout; an ended one starts again from the basket."""
    attempt = web.owned(order_id).attempt
    try:
        page = checkout.again(attempt.id, attempt.shopper_id)
    except AlreadyPaid:
        return redirect(url_for("orders.order", order_id=order_id), code=303)
    except Conflict:
        return redirect(url_for("checkout.form"), code=303)
    return web.to_payment(page)


def _view(case: orders.Dossier, began: datetime | None) -> status_page.View:
    """``began`` is when the page was opened; None on one that only knows how often it has asked,
    as a page without a live line does."""
    look, mine = _look(), web.may_see(case)
    waited = (now() - began).total_seconds() if began else status_page.waited_s(look)
    is_live = began is not None and mine and settings.current().live_updates == "sse"
    if not is_live:
        look = max(look, status_page.look_after(waited))
    view = status_page.describe(case, mine=mine, look=look, waited=waited if is_live else None)
    here: dict[str, Any] = {"order_id": case.attempt.id}
    following: dict[str, Any] = {**here, "look": look + 1}
    following |= {"unsure": 1} if case.unsure else {}
    since: dict[str, Any] = {"since": int(began.timestamp())} if began and is_live else {}
    following |= since | ({"slow": 1} if since and view.state == "slow" else {})
    origin = current_app.extensions["settings"].public_origin
    may_retry = mine and view.state in ("failed", "expired", "cancelled")
    return replace(
        view,
        poll_url=url_for("orders.status", **following) if view.asking else None,
        live_url=url_for("live.sync_status", order_or_intent=case.attempt.id, **since)
        if view.asking and is_live and case.attempt.state == "open"
        else None,
        check_url=url_for("orders.order", **here),
        refresh_url=url_for("orders.order", **here, look=look + 1) if view.refresh_s else None,
        retry_url=url_for("orders.retry", **here) if may_retry else None,
        save_url=url_for("checkout.pay", attempt_id=case.attempt.id) if view.save_until else None,
        invoice_url=url_for("orders.invoice", **here) if mine and view.paid_at else None,
        share_url=origin + links.path(case.order) if mine and case.order else None,
    )


def _look() -> int:
    text = request.args.get("look", "0")
    return min(int(text), 999) if text.isdecimal() and len(text) < 6 else 0
