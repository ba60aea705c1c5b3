"""What is done with one order: its money goes back, its parcels go out, a bank is answered. A part
of the counter."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.admin import bp, whole
from blueprints.admin_order_page import order_page
from blueprints.forms import tidy
from domain.bills import part_of
from domain.errors import Conflict, StripeError
from domain.money import SIGNS, amount_of, display, plain, smallest_step
from domain.transitions import LineState
from models import Order, OrderItem
from services import erasure, invoices, links, orders, people, refunds, shipping, subscriptions
from services import evidence as evidence_of
from services.causes import Cause
from services.orders import Dossier
from services.refunds import KeyUsed, MoreThanIsLeft, NotARefund, NothingToRefund
from services.shipping import NotAParcel

__all__ = ["bp"]  # the counter's, with the order's forms in it

Page = Response | str | tuple[str, int]

REASONS = ("Customer changed their mind", "Arrived damaged", "Out of stock", "Goodwill")


NOT_SENT = frozenset({"payment_confirmed", "awaiting_shipment", "cancelled"})


@bp.get("/orders/<order_id>/refund")
def refund_form(order_id: str) -> Page:
    """Of what paid for the order, or with ``payment`` of one renewal."""
    return _refund_page(_case(order_id), MultiDict(), request.args.get("payment"))


@bp.post("/orders/<order_id>/refund")
def refund(order_id: str) -> Page:
    """Ask for it; the outbox carries it out. The form's key makes a double click one refund."""
    case = _case(order_id)
    form = request.form
    renewal = form.get("payment") or None
    try:
        rows = refunds.ask(
            order_id,
            _amount(case, form, renewal),
            _units(case, form) if form.get("restock") else {},
            reason=tidy(form.get("reason")) or "",
            actor=g.admin.email,
            key=form.get("key", ""),
            currency=form.get("currency"),
            renewal=renewal,
        )
    except (NotARefund, MoreThanIsLeft, NothingToRefund, KeyUsed) as error:
        return _refund_page(_case(order_id), form, renewal, problem=error), error.http_status
    sum_ = display(sum(row.amount or 0 for row in rows), rows[0].currency or "")
    said = f"Refund of {sum_} on its way."
    return _back(order_id, said)


@bp.get("/orders/<order_id>/evidence")
def evidence(order_id: str) -> Page:
    """What is stored about the order, for the shopper's bank: a page, or a text to keep."""
    found = evidence_of.of(_case(order_id))
    if request.args.get("format") != "text":
        return render_template("admin/evidence.html", order={"id": order_id}, evidence=found)
    answer = current_app.response_class(found.text, mimetype="text/plain")
    answer.headers.set("Content-Disposition", "attachment", filename=f"evidence-{found.number}.txt")
    return answer


@bp.get("/orders/<order_id>/invoice")
def invoice(order_id: str) -> Page:
    found = invoices.paper(_case(order_id))
    if found is None:
        raise web.missing("invoice of this order")
    back = url_for(".order", order_id=order_id)
    return render_template("orders/invoice.html", invoice=found, back_url=back)


@bp.post("/orders/<order_id>/packing")
def pack(order_id: str) -> Page:
    return _step(order_id, shipping.pack, "Ready to be packed and sent.")


@bp.post("/orders/<order_id>/shipments")
def ship(order_id: str) -> Page:
    case, form = _case(order_id), request.form
    try:
        shipping.ship(
            order_id,
            _parcel(case, form),
            carrier=tidy(form.get("carrier")) or "",
            tracking=tidy(form.get("tracking")) or "",
            actor=g.admin.email,
            version=_version(),
        )
    except NotAParcel as error:
        return order_page(order_id, conflict=error, typed=form), error.http_status
    except Conflict as error:
        return order_page(order_id, conflict=error), error.http_status
    return _back(order_id, "Sent. The shopper gets a mail with the tracking number.")


@bp.post("/orders/<order_id>/delivery")
def deliver(order_id: str) -> Page:
    return _step(order_id, shipping.deliver, "Delivered.")


@bp.post("/orders/<order_id>/links")
def replace_links(order_id: str) -> Page:
    """The shopper gets a fresh link by mail; every older one stops working."""
    _case(order_id)
    try:
        links.replace(order_id, Cause("admin", actor=g.admin.email))
    except Conflict as error:
        return order_page(order_id, conflict=error), error.http_status
    return _back(order_id, "The old links are dead. A fresh link is on its way to the shopper.")


@bp.get("/orders/<order_id>/person")
def person(order_id: str) -> Page:
    """All that is kept about whoever ordered, one JSON object a line, for them to have."""
    rows = "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for row in people.export(_whose(order_id))
    )
    answer = current_app.response_class(rows, mimetype="application/x-ndjson")
    answer.headers.set("Content-Disposition", "attachment", filename="person.jsonl")
    return answer


@bp.post("/orders/<order_id>/erasures")
def erase(order_id: str) -> Page:
    """Forget whoever ordered, in all their orders; typing their address says that it is meant."""
    email = _whose(order_id)
    typed = request.form.get("email", "").strip()
    if typed.lower() != email.lower():
        wrong = Conflict("Type the e-mail address of this order to erase the person.")
        return order_page(order_id, conflict=wrong), wrong.http_status
    done = erasure.erase(email, g.admin.email)
    said = f"{done.orders} orders and {done.attempts} checkouts forgot the person."
    if done.still_open or done.running or not done.file_is_clean:
        said += " Something still needs them, or the database was busy. Erase again later."
    if done.running:
        said += f" End first, it still charges: {', '.join(done.running)}."
    return _back(order_id, said)


def _whose(order_id: str) -> str:
    email = _case(order_id).email
    if email is None:
        raise web.missing("person")
    return email


@bp.post("/orders/<order_id>/subscriptions/<int:row_id>/cancel")
def cancel_subscription(order_id: str, row_id: int) -> Page:
    """End a subscription, ``when`` its period ends or now."""
    later = request.form.get("when") != "now"
    said = "It ends with what is paid." if later else "The subscription has ended."
    return _about_plan(order_id, row_id, partial(subscriptions.cancel, at_period_end=later), said)


@bp.post("/orders/<order_id>/subscriptions/<int:row_id>/resume")
def resume_subscription(order_id: str, row_id: int) -> Page:
    """Let one go on that was to end."""
    return _about_plan(order_id, row_id, subscriptions.resume, "The subscription goes on.")


def _about_plan(order_id: str, row_id: int, act: Callable[..., Any], said: str) -> Page:
    _case(order_id)
    try:
        act(order_id, row_id, Cause("admin", actor=g.admin.email))
    except (Conflict, StripeError) as error:
        return order_page(order_id, conflict=error), error.http_status
    return _back(order_id, said)


def _step(order_id: str, take: Any, said: str) -> Page:
    _case(order_id)
    try:
        take(order_id, actor=g.admin.email, version=_version())
    except Conflict as error:
        return order_page(order_id, conflict=error), error.http_status
    return _back(order_id, said)


def _back(order_id: str, said: str) -> Response:
    session["order_said"] = said
    return redirect(url_for(".order", order_id=order_id), code=303)


def _case(order_id: str) -> Dossier:
    case = orders.dossier(order_id)
    if case is None or case.order is None:
        raise web.missing()
    return case


def _version() -> int | None:
    """The order's version that the page showed."""
    return whole(request.form.get("version", ""))


def _amount(case: Dossier, form: MultiDict[str, str], renewal: str | None) -> int:
    """What was typed, else the sum of what is ticked, never more than is left. Raises NotARefund,
    NothingToRefund."""
    assert case.order is not None
    payments = refunds.payments_of(case.order.id, renewal)
    currency = payments[0].currency
    typed = form.get("amount", "").strip()
    if typed:
        amount = amount_of(typed, currency)
        if amount is None:
            example = plain(1850, currency)
            raise NotARefund("amount", f"Type the amount in {currency.upper()}: {example}")
        return amount
    ticked = _units(case, form)
    items = {item.id: item for item in case.items}
    amount = sum(
        part_of(items[id_].paid, units, items[id_].quantity, currency)
        for id_, units in ticked.items()
    )
    amount += _parcel_paid(case.order) if form.get("shipping") else 0
    if not amount:
        raise NotARefund("amount", "Tick what to refund, or type an amount.")
    return min(amount, refunds.left_of_all(payments)) or amount


def _parcel_paid(order: Order) -> int:
    """What the parcel cost, with its tax."""
    return order.shipping + order.shipping_tax


def _units(case: Dossier, form: MultiDict[str, str]) -> dict[int, int]:
    """How many units of each ticked line. Raises NotARefund."""
    items = {str(item.id): item for item in case.items}
    units = {}
    for name in form.getlist("line"):
        item = items.get(name)
        if item is None:
            raise NotARefund("lines", "One of the lines is not of this order.")
        quantity = whole(form.get(f"units-{name}", str(item.quantity)))
        if quantity is None or not 1 <= quantity <= item.quantity:
            raise NotARefund("lines", f"{item.title}: from 1 to {item.quantity} were bought.")
        units[item.id] = quantity
    return units


def _parcel(case: Dossier, form: MultiDict[str, str]) -> dict[int, int]:
    """How many units of each line are in the parcel. Raises NotAParcel."""
    units = {}
    for item in case.items:
        text = form.get(f"units-{item.id}", "0").strip()
        quantity = whole(text)
        if quantity is None:
            raise NotAParcel(f"{item.title}: write how many as a whole number.")
        units[item.id] = quantity
    return units


def _refund_page(
    case: Dossier, form: MultiDict[str, str], renewal: str | None = None, *, problem: Any = None
) -> str:
    order = case.order
    assert order is not None
    try:
        payments = refunds.payments_of(order.id, renewal)
        left, currency = refunds.left_of_all(payments), payments[0].currency
    except NothingToRefund as nothing:
        payments, left, currency = [], 0, order.currency
        problem = problem or nothing
    methods = dict.fromkeys(payment.method for payment in payments if payment.method)
    bought = [item for item in case.items if item.state == LineState.ACTIVE and not renewal]
    fresh = not form
    # A form that failed keeps its key: the shop may have heard it the first time all the same.
    spent = isinstance(problem, KeyUsed | NothingToRefund)
    return render_template(
        "admin/refund.html",
        order={"id": order.id, "number": orders.number(order), "currency": currency},
        lines=[_line(item, form) for item in bought],
        renewal=payments[0] if renewal and payments else None,
        shipping=0 if renewal else _parcel_paid(order),
        step=smallest_step(currency),
        shipping_ticked=bool(form.get("shipping")),
        left=left,
        method=" and ".join(methods),
        sign=SIGNS.get(currency, currency.upper() + " "),
        zero=plain(0, currency),
        amount=form.get("amount", "")[:20],
        restock=order.status in NOT_SENT if fresh else bool(form.get("restock")),
        reason=form.get("reason", "")[:300],
        reasons=REASONS,
        longest_reason=refunds.LONGEST_REASON,
        key=str(uuid.uuid4()) if spent else form.get("key") or str(uuid.uuid4()),
        problem=problem,
    )


def _line(item: OrderItem, form: MultiDict[str, str]) -> dict[str, Any]:
    return {
        "id": item.id,
        "title": item.title,
        "quantity": item.quantity,
        "amount": item.paid,
        "ticked": str(item.id) in form.getlist("line"),
        "units": whole(form.get(f"units-{item.id}", "")) or item.quantity,
    }
