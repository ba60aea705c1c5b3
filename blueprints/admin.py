"""The counter: its rules, and the orders. Everything here needs somebody with a role."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import roles, web
from domain.errors import Forbidden, ShopError
from logs import redact
from models import Order, OrderEvent, StripeEvent, User
from services import (
    agreement,
    alerts,
    auth,
    by_hand,
    dispute_pages,
    disputes,
    exceptions,
    invoices,
    orders,
    plan_pages,
    reconcile,
    refunds,
    shipping,
    status_page,
)
from services.causes import Cause
from services.reconcile import Tally

bp = Blueprint("admin", __name__, url_prefix="/admin")

CARRIERS = ("DHL", "DPD", "GLS", "UPS", "FedEx", "Deutsche Post")


@bp.before_request
def _only_who_may() -> Response | None:
    if request.endpoint in roles.OPEN:
        return None
    g.admin = web.admin()
    if g.admin is None:
        return redirect(url_for(".login"), code=303)
    if not roles.may(g.admin.role, request.endpoint):
        raise NotYourRole(g.admin.role)
    return None


class NotYourRole(Forbidden):
    code = "not_your_role"
    headline = "Not with your role"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"Your role here is {role}, and this needs another one. Nothing was done. "
            "An admin can change it under People."
        )


@bp.errorhandler(NotYourRole)
def _closed(error: NotYourRole) -> tuple[str, int]:
    return render_template("admin/closed.html", problem=error), error.http_status


@bp.context_processor
def _what_needs_somebody() -> dict[str, Any]:
    somebody = g.get("admin")
    if not somebody:
        return {}
    return {
        "exception_count": exceptions.count_open(),
        "alerts": roles.only_reachable(somebody.role, alerts.standing()),
        "may": roles.reach(somebody.role),
        "me": somebody,
        "to_do": _of_the_account(somebody),
    }


@bp.get("")
def start() -> Response:
    return redirect(url_for(".orders"), code=303)


@bp.get("/orders", endpoint="orders")
def order_list() -> str:
    if web.is_fragment():
        return render_template("admin/_order_rows.html", **_list())
    return _orders_page(session.pop("synced", None), just_in=session.pop("just_in", False))


@bp.post("/sync")
def sync_orders() -> Response | str:
    """Everything open is held against Stripe; the list that one came from shows what came of it."""
    tally = by_hand.sync_orders(g.admin.email)
    if web.is_fragment():
        return _orders_page(tally.as_dict())
    session["synced"] = tally.as_dict()
    return redirect(url_for(".orders", **_place()), code=303)


@bp.get("/orders/<order_id>")
def order(order_id: str) -> str:
    return order_page(order_id, said=session.pop("order_said", None))


@bp.post("/orders/<order_id>/sync")
def sync(order_id: str) -> str:
    if orders.dossier(order_id) is None:
        raise web.missing()
    started = time.perf_counter()
    tally = reconcile.sync_order(order_id, Cause("admin", actor=g.admin.email))
    auth.note(g.admin.email, "synced", order_id)
    took = f"({time.perf_counter() - started:.1f} s)"
    said = {
        bool(tally.synced): f"Asked Stripe: brought up to date {took}",
        bool(tally.skipped): f"Asked Stripe, nothing new {took}",
        bool(tally.failed): f"Stripe did not answer {took}. Try again in a moment.",
    }
    return order_page(order_id, sync_result=said[True])


def _of_the_account(user: User) -> str | None:
    """What somebody should still do about how they sign in."""
    if user.password_hash is None:
        return "Set a password, so that you come in again without a link."
    if user.is_asked_for_second_factor:
        return f"Add a second factor: {user.role} is a role that a stolen password must not open."
    return None


def _orders_page(synced: dict[str, int] | None, *, just_in: bool = False) -> str:
    tally = Tally(**synced) if synced else None
    return render_template(
        "admin/orders.html",
        views=_views(request.args.get("view", "all")),
        sync_url=url_for(".sync_orders", **_place()),
        sync_result=by_hand.said(tally) if tally else None,
        sync_failed=tally.failed if tally else 0,
        just_in=just_in,
        **_list(),
    )


def _place() -> dict[str, Any]:
    """Where in the list one is, for the way back."""
    names = ("view", "q", "after")
    return {name: request.args[name][:200] for name in names if name in request.args}


def _list() -> dict[str, Any]:
    view, query = request.args.get("view", "all"), request.args.get("q", "").strip()[:200]
    before = web.instant(request.args.get("after"))
    found = orders.admin_list(view, query, before)
    page, more = found[: orders.PAGE], len(found) > orders.PAGE
    here: dict[str, Any] = {"view": view, "q": query or None}
    return {
        "rows": _rows(page),
        "query": query,
        "newer": url_for(".orders", **here) if before else None,
        "older": url_for(".orders", **here, after=web.cursor(page[-1])) if more else None,
    }


def order_page(
    order_id: str,
    sync_result: str | None = None,
    *,
    said: str | None = None,
    conflict: ShopError | None = None,
    typed: Mapping[str, str] | None = None,
) -> str:
    """One order with everything about it; ``conflict`` says what was not done, and why."""
    case = orders.dossier(order_id)
    if case is None:
        raise web.missing()
    order, attempt = orders.as_order(case), case.attempt  # a checkout may have no order yet
    paid_after = (order.paid_at - order.created_at).total_seconds() if order.paid_at else None
    previous = {leg.id: leg.stripe_id for leg in case.legs}
    given_back = refunds.of_order(order.id)
    parcels = shipping.parcels_of(order.id)
    shown_plans = plan_pages.of(case)
    return render_template(
        "admin/order.html",
        order={
            **_row(order, "", False),
            "is_provisional": order.is_provisional,
            "sync_status": order.sync_status,
            "subtotal": order.subtotal,
            "shipping": order.shipping,
            "tax": order.tax,
            "discount": order.discount,
            "code": order.code,
            "tax_rates": order.tax_rates,
            "invoice": invoices.number_of(order.id),
            "address": _address(order),
            "paid_at": order.paid_at,
            "strategy": order.strategy,
            "attempt_id": attempt.id,
            "seconds_to_paid": paid_after,
            "version": order.version,
            "refunded": order.refunded,
            "is_paid": bool(case.settling) or order.is_paid,
            "unpaid": plan_pages.unpaid(case.items) if order.paid_at else 0,
            "is_refundable": bool(case.settling),
        },
        lines=case.items or status_page.lines_of(attempt),
        line_states=plan_pages.states(case),
        plans=shown_plans,
        titles={item.sku: item.title for item in case.items if item.plan},
        refund_left=refunds.left_by_intent(paid for plan in shown_plans for paid in plan.renewals),
        legs=[
            {
                "stripe_id": leg.stripe_id,
                "kind": leg.kind,
                "state": leg.state,
                "amount": leg.amount,
                "currency": leg.currency,
                "deadline": leg.deadline,
                "previous": previous.get(leg.previous_id or 0),
            }
            for leg in case.legs
        ],
        payments=[p for p in case.payments if not any(p in plan.renewals for plan in shown_plans)],
        refunds=given_back,
        refund_on_its_way=any(row.state in refunds.ON_ITS_WAY for row in given_back),
        disputes=dispute_pages.of_order(order.id),
        parcels=parcels,
        held=disputes.shown_why_held(order.id),
        to_ship=shipping.waiting(order, parcels),
        not_yet=shipping.not_yet(case.items),
        typed=typed or {},
        carriers=CARRIERS,
        said=said,
        conflict=conflict,
        agree=agreement.of(case),
        history=[_entry(event, news) for event, news in orders.history(order_id)],
        exceptions=[  # a dispute has a card of its own, with what to do about it
            _exception(row) for row in exceptions.of_order(order_id) if row.type != "dispute"
        ],
        sync_result=sync_result,
    )


def _views(current: str) -> list[dict[str, Any]]:
    counts = orders.view_counts()
    return [
        {
            "label": label,
            "url": url_for(".orders", view=code),
            "count": _count(counts[code]),
            "current": code == current,
        }
        for code, (label, _) in orders.VIEWS.items()
    ]


def _count(number: int) -> str:
    most = orders.COUNTED_UP_TO
    return f"{most}+" if number >= most else str(number)


def _rows(page: list[Order]) -> list[dict[str, Any]]:
    ids = [order.id for order in page]
    texts, troubled = orders.items_text(ids), orders.with_exceptions(ids)
    return [_row(order, texts.get(order.id, ""), order.id in troubled) for order in page]


def _row(order: Order, items_text: str, troubled: bool) -> dict[str, Any]:
    return {
        "id": order.id,
        "number": orders.number(order),
        "name": order.name,
        "email": order.email,
        "items_text": items_text,
        "total": order.total,
        "currency": order.currency,
        "status": order.status,
        "payment_status": order.payment_status,
        "placed_at": order.created_at,
        "exception": troubled,
    }


def _address(order: Order) -> list[str]:
    given = order.address or {}
    town = " ".join(given[part] for part in ("postal_code", "city") if given.get(part))
    lines = (given.get("line1"), given.get("line2"), town, given.get("state"), given.get("country"))
    return [line for line in lines if line]


_TITLES = {
    "payment": "Payment seen",
    "refund": "Refund",
    "parcel": "Parcel sent",
    "ignored": "Nothing to change",
    "note": "Note",
    "plan": "Subscription",
}


def _entry(event: OrderEvent, news: StripeEvent | None) -> dict[str, Any]:
    title = _TITLES.get(event.kind, "")
    if event.kind == "transition":
        came_from = f", was {event.from_status}" if event.from_status else ""
        title = f"Order is {event.to_status}{came_from}".replace("_", " ")
    detail = event.detail
    if event.kind == "dispute":
        title, detail = dispute_pages.entry(detail)
    if news:
        wait = (event.at - news.received_at).total_seconds()
        signed = "signature good" if news.lane == "webhook" else "fetched from Stripe"
        detail = " · ".join(
            part for part in (news.type, signed, f"waited {max(wait, 0):.1f} s", detail) if part
        )
    return {
        "at": event.at,
        "author": "person" if event.actor else "stripe" if news else "shop",
        "title": title,
        "detail": detail,
        "cause": event.cause,
        "event_id": event.stripe_event_id,
        "initials": event.actor[:2].upper(),
        "payload_json": masked(news.payload) if news else None,
    }


def masked(payload: str) -> str:
    """The event as it came, without what opens something and without people."""
    try:
        return redact(json.dumps(json.loads(payload), indent=1, ensure_ascii=False))
    except ValueError:
        return ""


def _exception(row: Any) -> dict[str, Any]:
    return {
        "type": row.type,
        "title": row.type.replace("_", " ").capitalize(),
        "detail": row.detail,
        "amount": row.amount,
        "currency": row.currency,
        "opened_at": row.opened_at,
        "order_id": row.order_id,
        "order_number": None,
        "stripe_id": row.stripe_id,
    }
