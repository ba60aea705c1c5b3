"""What needs a person: the daily start. A part of the counter, under its rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import current_app, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints import roles
from blueprints.admin import bp
from blueprints.forms import tidy
from domain.clock import now
from domain.errors import NotFound, ShopError
from domain.money import display
from gateway import current_gateway
from models import ShopException
from services import exceptions, remedies

__all__ = ["bp"]  # the counter's, with the exceptions in it

Page = Response | str | tuple[str, int]

PAGE = 30
VIEWS = {"open": "Needs you", "seen": "Seen to", "healed": "Healed by itself"}
DASHBOARD = "https://dashboard.stripe.com"

# Each remedy: its address, what its button says, its glyph. {} is the sum.
BUTTONS = {
    "refund": ("admin.refund_exception", "Refund {}", "undo"),
    "accept": ("admin.accept_exception", "Accept it after all", "check"),
    "look": ("admin.look_at_exception", "Look again at Stripe", "sync"),
    "replay": ("admin.replay_exception", "Try again", "sync"),
    "rehearse": ("admin.rehearse_events", "What would it change?", "find"),
}
TASKS = {
    "receipt": "The receipt",
    "refund": "The refund",
    "refund_unmatched": "The refund",
    "refunded": "The mail about the refund",
    "shipped": "The mail about the parcel",
    "subscription": "The start of the subscription",
    "end_subscription": "The end of a subscription",
}


@bp.get("/exceptions", endpoint="exceptions")
def exception_list() -> Page:
    return _page(said=session.pop("exceptions_said", None))


@bp.post("/exceptions/<int(max=2147483647):exception_id>/refunds")
def refund_exception(exception_id: int) -> Page:
    def press() -> str:
        amount, currency = remedies.refund(exception_id, g.admin.email)
        return f"Refund of {display(amount, currency)} on its way. This ends when Stripe says so."

    return _pressed(exception_id, press)


@bp.post("/exceptions/<int(max=2147483647):exception_id>/acceptance")
def accept_exception(exception_id: int) -> Page:
    def press() -> str:
        remedies.accept(exception_id, g.admin.email)
        return "Accepted: the order is confirmed, and the shopper gets the receipt."

    return _pressed(exception_id, press)


@bp.post("/exceptions/<int(max=2147483647):exception_id>/looks")
def look_at_exception(exception_id: int) -> Page:
    return _pressed(exception_id, lambda: remedies.look_again(exception_id, g.admin.email))


@bp.post("/exceptions/<int(max=2147483647):exception_id>/replays")
def replay_exception(exception_id: int) -> Page:
    def press() -> str:
        remedies.replay(exception_id, g.admin.email)
        return "It is being tried again. If it gives up once more, it comes back here."

    return _pressed(exception_id, press)


@bp.post("/exceptions/<int(max=2147483647):exception_id>/notes")
def see_to_exception(exception_id: int) -> Page:
    def press() -> str:
        remedies.see_to(exception_id, g.admin.email, tidy(request.form.get("note")) or "")
        return "Seen to. It stands under “Seen to”, with your note."

    return _pressed(exception_id, press, undo=exception_id)


@bp.post("/exceptions/<int(max=2147483647):exception_id>/reopenings")
def reopen_exception(exception_id: int) -> Page:
    def press() -> str:
        remedies.reopen(exception_id, g.admin.email)
        return "Open again."

    return _pressed(exception_id, press)


def _pressed(exception_id: int, press: Callable[[], str], *, undo: int | None = None) -> Page:
    """Do it and go back to the list; or say on it why nothing was done."""
    try:
        said = press()
    except NotFound:
        raise
    except ShopError as error:
        return _page(problem=error, about=exception_id), error.http_status
    session["exceptions_said"] = {"text": said, "undo": undo}
    return redirect(url_for(".exceptions"), code=303)


def _page(
    *,
    said: dict[str, Any] | None = None,
    problem: ShopError | None = None,
    about: int | None = None,
) -> str:
    view = request.args.get("show", "open")
    view = view if view in VIEWS else "open"
    after = _whole(request.args.get("after", ""))
    if view == "open":
        found = exceptions.open_ones(PAGE + 1, after)
    else:
        found = exceptions.ended_ones(PAGE + 1, healed=view == "healed", after=after)
    rows, more = found[:PAGE], len(found) > PAGE
    whose = remedies.whose(rows)
    here = None if view == "open" else view
    return render_template(
        "admin/exceptions.html",
        cards=[_card(row, whose.get(row.order_id or "", {})) for row in rows],
        view=view,
        views=[
            {"label": label, "url": url_for(".exceptions", show=code), "current": code == view}
            for code, label in VIEWS.items()
        ],
        stake=[display(total, currency) for total, currency in exceptions.at_stake()],
        next=url_for(".exceptions", show=here, after=rows[-1].id) if more else None,
        first=url_for(".exceptions", show=here) if after else None,
        longest_note=remedies.LONGEST_NOTE,
        typed=request.form.get("note", "")[: remedies.LONGEST_NOTE],
        looked_at=now(),
        said=said,
        problem=problem,
        about=about,
    )


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def _card(row: ShopException, whose: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.type,
        "sentence": _sentence(row, whose),
        "detail": row.detail,
        "amount": row.amount,
        "currency": row.currency,
        "opened_at": row.opened_at,
        "order_id": row.order_id if whose else None,
        "number": whose.get("number"),
        "name": whose.get("name"),
        "stripe_id": row.stripe_id,
        "dashboard": _at_stripe(row.stripe_id),
        "is_decided_at_stripe": row.type in ("dispute", "owner_mismatch"),
        "event_id": row.stripe_id if row.type == "dead_event" else None,
        "buttons": _buttons(row) if row.state == "open" else [],
        "resolution": row.resolution,
        "resolved_by": row.resolved_by,
        "resolved_at": row.resolved_at,
        "healed_by": row.healed_by,
        "can_be_reopened": remedies.can_be_reopened(row),
    }


def _buttons(row: ShopException) -> list[dict[str, str]]:
    """The best first, without those that this role may not press."""
    about = row.amount is not None and row.currency
    sum_ = display(row.amount or 0, row.currency or "") if about else "it"
    return [
        {
            "name": name,
            "url": url_for(endpoint, exception_id=row.id)
            if name != "rehearse"
            else url_for(endpoint),
            "label": label.format(sum_),
            "glyph": glyph,
        }
        for name in remedies.OFFERS.get(row.type, ())
        for endpoint, label, glyph in (BUTTONS[name],)
        if roles.may(g.admin.role, endpoint)
    ]


def _at_stripe(stripe_id: str) -> str | None:
    """Its page in Stripe's dashboard; a shop on the sandbox has none there."""
    if current_app.extensions["settings"].stripe_api_base:
        return None
    folders = {"pi_": "payments", "dp_": "disputes", "du_": "disputes", "evt": "events"}
    mode = "" if current_gateway().livemode else "/test"
    folder = folders.get(stripe_id[:3])
    if folder:
        return f"{DASHBOARD}{mode}/{folder}/{stripe_id}"
    known = stripe_id.startswith(("re_", "cs_", "pyr_"))
    return f"{DASHBOARD}{mode}/search?query={stripe_id}" if known else None


def _sentence(row: ShopException, whose: dict[str, Any]) -> str:
    """What happened, whose order it is, what is at stake."""
    about = {
        "who": whose.get("name") or "Somebody",
        "order": whose.get("number") or "a checkout without an order yet",
        "sum": display(row.amount, row.currency)
        if row.amount is not None and row.currency
        else "A sum",
        "task": TASKS.get(row.stripe_id.partition(":")[0], "A task"),
        "for": f" for {whose['number']}" if whose.get("number") else "",
    }
    told = _SENTENCES.get(row.type, row.type.replace("_", " ").capitalize() + ".")
    return told.format(**about)


_SENTENCES = {
    "unmatched_payment": "{sum} arrived at Stripe for a checkout that this shop does not have.",
    "amount_mismatch": "{who} paid {sum} for {order}, which is not what was due.",
    "duplicate_payment": "{who} paid {order} twice, and {sum} of it is too much.",
    "late_payment": "{who} paid {sum} for {order} when its goods were gone.",
    "owner_mismatch": "Something at Stripe names {order}, but belongs to somebody else.",
    "refund_failed": "{who} did not get {sum} of {order} back: the refund failed.",
    "dead_event": "An event from Stripe could not be applied{for}, and nobody tries any more.",
    "dead_effect": "{task}{for} could not be carried out, and nobody tries any more.",
    "subscription_refused": "{who} saved a card, but a subscription of {order} could not begin.",
    "bill_differs": "Stripe adds up discount or tax of {order} in another way than this shop.",
    "missing_at_stripe": "Stripe does not know where {who} was to pay for {order}.",
    "dispute": "{who}’s bank wants {sum} of {order} back.",
}
