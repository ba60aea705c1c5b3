"""The list of orders, and what is done with many of them at once. A part of the counter."""

from __future__ import annotations

from typing import Any

from flask import Response as FlaskResponse
from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.admin import CARRIERS, address_lines, bp, row, whole
from blueprints.forms import tidy
from domain.errors import ShopError
from domain.strategies import STRATEGIES
from domain.transitions import PaymentStatus, Status
from models import Order
from services import by_hand, order_batches, order_list, order_views, orders, shipping
from services.order_batches import NothingChosen, Parcel, Result
from services.order_list import Wanted
from services.reconcile import Tally

__all__ = ["bp"]  # the counter's, with the list in it

Page = Response | str | tuple[str, int]

NAMES = {
    "payment": "Payment",
    "shipping": "Shipping",
    "strategy": "Made by",
    "since": "From",
    "until": "Until",
    "least": "At least",
    "most": "At most",
    "sku": "Product",
    "noted": "Has a note",
}
LIVE_EVERY_S = 15


@bp.get("/orders", endpoint="orders")
def order_list_page() -> Page:
    wanted = Wanted.read(request.args)
    shown = _list(wanted)
    if web.is_fragment():
        return render_template("admin/_order_rows.html", **shown)
    if "open" in request.args and len(shown["rows"]) == 1 and wanted.q:
        found = shown["rows"][0]["id"]
        return redirect(url_for(".order", order_id=found), code=303)
    return _page(wanted, shown, session.pop("synced", None), just_in=session.pop("just_in", False))


@bp.get("/order-changes")
def order_changes() -> Page:
    """What has changed of the rows on screen: their chips, and how many orders are new above them.
    Nothing is inserted or moved under somebody's hand."""
    wanted = Wanted.read(request.args)
    ids = request.args.get("ids", "").split(".")[: order_list.PAGE]
    found = order_list.chosen(ids)
    troubled = order_list.with_exceptions([order.id for order in found])
    look = order_list.look_of(found, troubled)
    newest = request.args.get("newest")
    live = _live(wanted, ids, look, newest)
    is_same = look == request.args.get("look")
    return render_template(
        "admin/_order_changes.html",
        live=live,
        rows=[] if is_same else [row(order, "", order.id in troubled) for order in found],
    )


@bp.post("/sync")
def sync_orders() -> Page:
    """Everything open is held against Stripe; the list that one came from shows what came of it."""
    tally = by_hand.sync_orders(g.admin.email)
    wanted = Wanted.read(request.args)
    if web.is_fragment():
        return _page(wanted, _list(wanted), tally.as_dict())
    session["synced"] = tally.as_dict()
    return redirect(url_for(".orders", **wanted.address), code=303)


@bp.post("/order-views")
def keep_view() -> Page:
    wanted = Wanted.read(request.form)
    name = tidy(request.form.get("name")) or ""
    try:
        order_views.keep(name, wanted, g.admin.email)
    except order_views.NotAView as error:
        return _page(wanted, _list(wanted), problem=error, typed=name), error.http_status
    return redirect(url_for(".orders", **wanted.address), code=303)


@bp.post("/order-views/removals")
def remove_view() -> Response:
    order_views.remove(tidy(request.form.get("name")) or "", g.admin.email)
    return redirect(url_for(".orders"), code=303)


# -- many at once


@bp.post("/order-syncs")
def sync_chosen() -> Page:
    return _done("synced", lambda chosen: order_batches.sync(chosen, g.admin.email))


@bp.post("/order-receipts")
def resend_chosen() -> Page:
    return _done("sent again", lambda chosen: order_batches.resend(chosen, g.admin.email))


@bp.post("/order-exports")
def export_chosen() -> Page | FlaskResponse:
    try:
        text = order_batches.table(_chosen(), g.admin.email)
    except NothingChosen as error:
        return _refused(error)
    answer: FlaskResponse = current_app.response_class(text, mimetype="text/csv")
    answer.headers.set("Content-Disposition", "attachment", filename="orders.csv")
    return answer


@bp.get("/packing-slips")
def packing_slips() -> Page:
    """What is left to be sent of each, to be printed; what is not paid has none."""
    try:
        chosen = order_batches.chosen(request.args.getlist("order"))
    except NothingChosen as error:
        return _refused(error)
    slips = [_slip(order) for order in chosen if order.is_paid]
    return render_template("admin/packing_slips.html", slips=[one for one in slips if one["lines"]])


def _slip(order: Order) -> dict[str, Any]:
    left = shipping.waiting_of(order.id)
    return {
        "number": orders.number(order),
        "placed_at": order.created_at,
        "delivery": (order.delivery or {}).get("label"),
        "address": [order.name or "", *address_lines(order)],
        "lines": [
            {"quantity": left[item.id], "title": item.title, "subtitle": item.subtitle,
             "sku": item.sku}
            for item in orders.items_of(order.id) if left[item.id]
        ],
    }  # fmt: skip


@bp.get("/order-shipments")
def shipments_form() -> Page:
    """The parcels of what is ticked, before anything is sent."""
    try:
        chosen = order_batches.chosen(request.args.getlist("order"))
    except NothingChosen as error:
        return _refused(error)
    return _shipments(chosen)


@bp.post("/order-shipments")
def ship_chosen() -> Page:
    carrier = tidy(request.form.get("carrier")) or ""
    try:
        chosen = _chosen()
    except NothingChosen as error:
        return _refused(error)
    if not carrier:
        return _shipments(chosen, problem="Say who carries the parcels."), 422
    pasted, unread = _pasted(request.form.get("pasted", ""), chosen)
    if unread:
        return _shipments(chosen, problem=unread), 422
    parcels = {
        order.id: Parcel(
            pasted.get(order.id) or tidy(request.form.get(f"tracking-{order.id}")) or "",
            whole(request.form.get(f"version-{order.id}", "")),
        )
        for order in chosen
    }
    return _done(
        "sent",
        lambda chosen: order_batches.ship(chosen, parcels, carrier=carrier, actor=g.admin.email),
    )


def _chosen() -> list[Order]:
    return order_batches.chosen(request.form.getlist("order"))


def _done(done: str, act: Any) -> Page:
    try:
        results: list[Result] = act(_chosen())
    except NothingChosen as error:
        return _refused(error)
    failed = sum(result.state == order_batches.FAILED for result in results)
    return render_template(
        "admin/order_results.html",
        said=order_batches.tally(results, done),
        failed=failed,
        results=[{**row(one.order, "", False), "state": one.state, "said": one.said}
                 for one in results],
    )  # fmt: skip


def _refused(error: ShopError) -> Page:
    wanted = Wanted.read(request.args)
    return _page(wanted, _list(wanted), problem=error), error.http_status


def _shipments(chosen: list[Order], *, problem: str | None = None) -> str:
    texts = order_list.items_text([order.id for order in chosen])
    ready = [order for order in chosen if order.status in order_list.TO_SHIP]
    return render_template(
        "admin/order_shipments.html",
        rows=[{**row(order, texts.get(order.id, ""), False), "version": order.version,
               "tracking": request.form.get(f"tracking-{order.id}", "")[:200]} for order in ready],
        left_out=len(chosen) - len(ready),
        carriers=CARRIERS,
        carrier=request.form.get("carrier", CARRIERS[0])[:100],
        pasted=request.form.get("pasted", "")[:20_000],
        problem=problem,
    )  # fmt: skip


def _pasted(text: str, chosen: list[Order]) -> tuple[dict[str, str], str | None]:
    """Tracking numbers by order from lines such as ``NL-10482, 00340…``; and the first line that
    cannot be read, in a sentence."""
    known = {str(order.number): order.id for order in chosen}
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        left, _, right = line.replace("\t", ",").replace(";", ",").partition(",")
        order = known.get(left.strip().strip('"').rpartition("-")[2])
        tracking = tidy(right.strip().strip('"'))
        if order is None or not tracking:
            told = "is not the number of a ticked order, a comma and a tracking number"
            return {}, f"Line {number} {told}: {line[:60]}"
        found[order] = tracking
    return found, None


# -- the page


def _page(
    wanted: Wanted,
    shown: dict[str, Any],
    synced: dict[str, int] | None = None,
    *,
    just_in: bool = False,
    problem: ShopError | None = None,
    typed: str = "",
) -> str:
    tally = Tally(**synced) if synced else None
    return render_template(
        "admin/orders.html",
        views=_views(wanted),
        sync_url=url_for(".sync_orders", **wanted.address),
        sync_result=by_hand.said(tally) if tally else None,
        sync_failed=tally.failed if tally else 0,
        just_in=just_in,
        problem=problem,
        typed=typed,
        longest_name=order_views.LONGEST_NAME,
        choices={
            "payment": list(PaymentStatus),
            "shipping": list(Status),
            "strategy": list(STRATEGIES),
        },
        **shown,
    )


def _list(wanted: Wanted) -> dict[str, Any]:
    before = web.instant(request.args.get("after"))
    found = order_list.page(wanted, before)
    page, more = found[: order_list.PAGE], len(found) > order_list.PAGE
    here = wanted.address
    ids = [order.id for order in page]
    texts, troubled = order_list.items_text(ids), order_list.with_exceptions(ids)
    look = order_list.look_of(page, troubled)
    newest = web.cursor(page[0]) if page else ""
    return {
        "rows": [row(order, texts.get(order.id, ""), order.id in troubled) for order in page],
        "wanted": wanted,
        "query": wanted.q,
        "tags": _tags(wanted),
        "live": None if before else _live(wanted, ids, look, newest),
        "newer": url_for(".orders", **here) if before else None,
        "older": url_for(".orders", **here, after=web.cursor(page[-1])) if more else None,
        "blank": _blank(wanted),
    }


def _live(wanted: Wanted, ids: list[str], look: str, newest: str | None) -> dict[str, Any]:
    """Where the rows on screen ask what has changed, and what the bar above them says."""
    place = dict(wanted.address, ids=".".join(ids), look=look, newest=newest or "")
    arrived = 0 if wanted.q else order_list.arrived(wanted, web.instant(newest))
    return {
        "url": url_for(".order_changes", **place),
        "every_s": LIVE_EVERY_S,
        "arrived": _count(arrived, order_list.NEW_COUNTED_UP_TO),
        "list_url": url_for(".orders", **wanted.address),
    }


def _views(wanted: Wanted) -> list[dict[str, Any]]:
    counts = order_list.counts()
    own = order_views.kept()
    shops = [
        {
            "label": label,
            "url": url_for(".orders", **Wanted(code).address),
            "count": _count(counts[code]),
            "current": wanted.view == code and not wanted.filters
            and wanted not in [view.wanted for view in own],
            "is_own": False,
            "is_bad": code == "exceptions" and counts[code] > 0,
        }
        for code, (label, _) in order_list.VIEWS.items()
    ]  # fmt: skip
    return shops + [
        {
            "label": view.name,
            "url": url_for(".orders", **view.wanted.address),
            "count": None if view.wanted.q else _count(order_list.count(view.wanted)),
            "current": wanted == view.wanted,
            "is_own": True,
        }
        for view in own
    ]


def _tags(wanted: Wanted) -> list[dict[str, str]]:
    """What narrows the list down, each with the address that takes it away."""
    return [
        {
            "label": NAMES[name] if name == "noted" else f"{NAMES[name]}: {_in_words(text)}",
            "without": url_for(
                ".orders", **{key: value for key, value in wanted.address.items() if key != name}
            ),
        }
        for name, text in wanted.filters.items()
    ]


def _in_words(text: str) -> str:
    is_code = text in (*PaymentStatus, *Status, *STRATEGIES)
    return text.replace("_", " ") if is_code else text


def _blank(wanted: Wanted) -> str:
    """What an empty list teaches."""
    if wanted.filters:
        return "Take a filter away, or widen it."
    return {
        "to-ship": "Nothing to ship. What is paid shows up here to be packed.",
        "confirming": "No payment is under way. What a bank takes its time with waits here.",
        "exceptions": "No order needs you. Money or goods that need a person are listed here.",
        "refunds": "No money has gone back.",
        "disputes": "No bank disputes a payment.",
        "ended": "No checkout ended without a payment.",
    }.get(wanted.view, "When somebody buys something, it shows up here.")


def _count(number: int, most: int = order_list.COUNTED_UP_TO) -> str:
    return f"{most}+" if number >= most else str(number)
