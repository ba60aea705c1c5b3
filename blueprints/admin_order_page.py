"""One order with everything about it: the page, its notes, *Sync now*. A part of the counter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import timeline, web
from blueprints.admin import CARRIERS, address_lines, bp, row
from blueprints.forms import tidy
from domain.errors import NotFound, ShopError
from services import (
    agreement,
    auth,
    dispute_pages,
    disputes,
    exceptions,
    invoices,
    metrics,
    notes,
    order_list,
    orders,
    plan_pages,
    receipts,
    reconcile,
    refunds,
    shipping,
    status_page,
)
from services.addresses import mail_address
from services.causes import Cause
from services.order_list import VIEWS, Wanted

__all__ = ["bp"]  # the counter's, with the order's page in it

Page = Response | str | tuple[str, int]


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


@bp.post("/orders/<order_id>/notes")
def write_note(order_id: str) -> Page:
    return _noted(order_id, lambda text: notes.write(order_id, text, g.admin.email))


@bp.post("/orders/<order_id>/notes/<int(max=2147483647):note_id>")
def change_note(order_id: str, note_id: int) -> Page:
    return _noted(order_id, lambda text: notes.change(order_id, note_id, text, g.admin.email))


@bp.post("/orders/<order_id>/receipts")
def resend_receipt(order_id: str) -> Page:
    """To the order's address, or to another one that was typed."""
    case = orders.dossier(order_id)
    if case is None or case.order is None:
        raise web.missing()
    typed = request.form.get("email", "").strip()
    address = mail_address(typed)
    if address is None:
        problem = NotAnAddress("Nothing was sent. Enter an e-mail address like name@example.com.")
        return order_page(order_id, conflict=problem, typed={"email": typed[:254]}), 422
    other = address if address != case.order.email else None
    if not receipts.send_again(order_id, to=other):
        return _back(order_id, "One was sent within this minute, so no second one is.")
    auth.note(g.admin.email, "resent receipt", order_id, "to another address" if other else "")
    return _back(order_id, f"The receipt is on its way to {address}.")


class NotAnAddress(ShopError):
    code = "not_an_address"
    http_status = 422
    headline = "That is no e-mail address"


def _noted(order_id: str, write: Any) -> Page:
    text = _lines(request.form.get("note", ""))
    try:
        write(text)
    except NotFound as error:
        raise web.missing("note") from error
    except ShopError as error:
        return order_page(order_id, conflict=error, unsaved=text), error.http_status
    return _back(order_id, "Your note is kept.")


def _lines(text: str) -> str:
    """Tidied line by line: a note may have several."""
    return "\n".join(tidy(line) or "" for line in text.replace("\r\n", "\n").split("\n"))


def _back(order_id: str, said: str) -> Response:
    session["order_said"] = said
    return redirect(url_for(".order", order_id=order_id), code=303)


def order_page(
    order_id: str,
    sync_result: str | None = None,
    *,
    said: str | None = None,
    conflict: ShopError | None = None,
    typed: Mapping[str, str] | None = None,
    unsaved: str = "",
) -> str:
    """One order with everything about it; ``conflict`` says what was not done, and why."""
    case = orders.dossier(order_id)
    if case is None:
        raise web.missing()
    order, attempt = orders.as_order(case), case.attempt  # a checkout may have no order yet
    told = timeline.entries(orders.history(order_id), orders.mails_of(order_id), g.admin.email)
    author = request.args.get("by", "")
    wanted = Wanted.read(request.args)
    above, below = order_list.neighbours(wanted, order) if case.order else (None, None)
    paid_after = (order.paid_at - order.created_at).total_seconds() if order.paid_at else None
    previous = {leg.id: leg.stripe_id for leg in case.legs}
    given_back = refunds.of_order(order.id)
    parcels = shipping.parcels_of(order.id)
    shown_plans = plan_pages.of(case)
    return render_template(
        "admin/order.html",
        order={
            **row(order, "", False),
            "is_provisional": order.is_provisional,
            "sync_status": order.sync_status,
            "subtotal": order.subtotal,
            "shipping": order.shipping,
            "tax": order.tax,
            "discount": order.discount,
            "code": order.code,
            "tax_rates": order.tax_rates,
            "invoice": invoices.number_of(order.id),
            "address": address_lines(order),
            "paid_at": order.paid_at,
            "strategy": order.strategy,
            "attempt_id": attempt.id,
            "seconds_to_paid": paid_after,
            "version": order.version,
            "refunded": order.refunded,
            "is_paid": bool(case.settling) or order.is_paid,
            "unpaid": plan_pages.unpaid(case.items) if order.paid_at else 0,
            "is_refundable": bool(case.settling),
            "is_row": case.order is not None,
            "sync_attempts": order.sync_attempts or 0,
            "last_sync_attempt": order.last_sync_attempt,
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
        history=[one for one in told if author in ("", one["author"])],
        authors=_authors(timeline.authors(told), author),
        longest_note=notes.LONGEST,
        unsaved=unsaved,
        back=_back_to(wanted),
        above=above and url_for(".order", order_id=above, **wanted.address),
        below=below and url_for(".order", order_id=below, **wanted.address),
        settled=metrics.settled(order),
        orders_of_customer=order_list.count_of(order.email, most=20),
        stripe_url=_stripe_url,
        exceptions=[  # a dispute has a card of its own, with what to do about it
            _exception(row) for row in exceptions.of_order(order_id) if row.type != "dispute"
        ],
        sync_result=sync_result,
    )


def _authors(counts: Mapping[str, int], current: str) -> list[dict[str, Any]]:
    """The timeline by one author at a time, or by all."""
    here = {name: value for name, value in request.args.items() if name != "by"}
    path = f"{request.path.removesuffix('/sync')}"
    base = url_for(".order", order_id=path.split("/")[3], **Wanted.read(here).address)
    join = "&" if "?" in base else "?"
    return [
        {
            "label": label,
            "count": counts[name],
            "url": f"{base}{join}by={name}#history" if name else f"{base}#history",
            "current": name == current,
        }
        for name, label in timeline.AUTHORS.items()
    ]


def _back_to(wanted: Wanted) -> dict[str, str]:
    """The list that one came from."""
    is_plain = not wanted.filters and not wanted.q
    label = VIEWS[wanted.view][0] if is_plain and wanted.view != "all" else None
    found = "What you searched" if wanted.q else "What you filtered"
    words = "All orders" if not wanted.address else label or found
    return {"label": words, "url": url_for(".orders", **wanted.address)}


def _stripe_url(stripe_id: str) -> str | None:
    """Where Stripe's dashboard shows it; the sandbox has no such page."""
    settings = current_app.extensions["settings"]
    kinds = {"pi": "payments", "sub": "subscriptions", "in": "invoices", "cus": "customers"}
    kind = kinds.get(stripe_id.partition("_")[0])
    if kind is None or settings.stripe_api_base:
        return None
    return f"https://dashboard.stripe.com/{'' if settings.livemode else 'test/'}{kind}/{stripe_id}"


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
