"""The order's own page, its waiting fragment, and the lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from blueprints import web
from domain.errors import Conflict
from extensions import limiter
from services import checkout, links, orders, receipts, status_page
from services.checkout import AlreadyPaid

bp = Blueprint("orders", __name__)

ASK_AGAIN_AT = frozenset({3, 6, 9})  # polls that ask Stripe itself, should the news be late


@bp.get("/orders/<order_id>")
@bp.get("/order-success/<order_id>", endpoint="success")
def order(order_id: str) -> str:
    case = orders.dossier(order_id[:36])
    if case is None or not web.may_see(order_id, case.attempt.shopper_id, case.order):
        raise web.missing()
    if case.attempt.state == "open":
        checkout.ask(order_id)
    return render(order_id, "orders/order.html")


@bp.get("/orders/<order_id>/status")
def status(order_id: str) -> str:
    """The fragment that a waiting page asks for; always 200, because a 204 would end the chain."""
    look = _look()
    case = orders.dossier(order_id[:36])
    if case is None:
        raise web.missing()
    if look in ASK_AGAIN_AT and case.attempt.state == "open":
        checkout.ask(order_id)
        case = orders.dossier(order_id)
        assert case is not None
    view = _view(case, look)
    decided = not view.asking
    return render_template("orders/_status.html", view=view, announce=decided, full=decided)


@bp.post("/orders/<order_id>/retries")
@limiter.limit("30 per minute")
def retry(order_id: str) -> Response:
    return to_payment(order_id)


@bp.post("/orders/<order_id>/receipts")
@limiter.limit("5 per minute")
def resend(order_id: str) -> Response:
    case = orders.dossier(order_id[:36])
    if case is None or not web.may_see(order_id, case.attempt.shopper_id, case.order):
        raise web.missing()
    receipts.send_again(order_id)
    return redirect(url_for(".order", order_id=order_id), code=303)


@bp.get("/orders")
def mine() -> str:
    shopper = web.known_shopper()
    found = orders.of_shopper(shopper, web.instant(request.args.get("after"))) if shopper else []
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
            "pay_url": None,
        }
        for row in found
    ]
    older = url_for(".mine", after=web.cursor(found[-1])) if len(found) == 20 else None
    return render_template("orders/list.html", orders=rows, older=older)


@bp.route("/orders/find", methods=["GET", "POST"])
@limiter.limit("5 per minute", methods=["POST"])
def find() -> str:
    """The same answer for every address, so that nobody learns who shops here."""
    if request.method == "POST":
        receipts.send_links(request.form.get("email", ""))
    return render_template("orders/find.html", sent=request.method == "POST")


def render(order_id: str, template: str) -> str:
    """The page of a checkout, for its owner or for a stranger."""
    case = orders.dossier(order_id)
    if case is None:
        raise web.missing()
    return render_template(template, view=_view(case, _look()))


def to_payment(order_id: str) -> Response:
    """To the payment page of an open checkout; an ended one starts again from the basket."""
    try:
        page = checkout.again(order_id[:36], web.shopper())
    except AlreadyPaid:
        return redirect(url_for("orders.order", order_id=order_id), code=303)
    except Conflict:
        return redirect(url_for("checkout.form"), code=303)
    return redirect(web.pay_url(page.url), code=303)


def _view(case: orders.Dossier, look: int) -> status_page.View:
    order_id = case.attempt.id
    mine = web.may_see(order_id, case.attempt.shopper_id, case.order)
    view = status_page.describe(case, mine=mine, look=look)
    here: dict[str, Any] = {"order_id": order_id}
    origin = current_app.extensions["settings"].public_origin
    open_again = mine and case.attempt.state == "open" and view.state in ("failed", "cancelled")
    ended = mine and view.state in ("failed", "expired", "cancelled")
    return replace(
        view,
        poll_url=url_for("orders.status", **here, look=look + 1) if view.asking else None,
        check_url=url_for("orders.order", **here),
        refresh_url=url_for("orders.order", **here, look=look + 1) if view.refresh_s else None,
        retry_url=url_for("orders.retry", **here) if open_again or ended else None,
        share_url=origin + links.path(case.order) if mine and case.order else None,
    )


def _look() -> int:
    text = request.args.get("look", "0")
    return min(int(text), 999) if text.isdecimal() and len(text) < 6 else 0
