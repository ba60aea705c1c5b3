"""The counter: its rules, and the orders. Everything here needs somebody with a role."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response

from blueprints import roles, web
from domain.errors import Forbidden
from models import Order, User
from services import (
    alerts,
    exceptions,
    metrics,
    orders,
)

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
        "events_light": _events_light(),
        "alerts": roles.only_reachable(somebody.role, alerts.standing()),
        "may": roles.reach(somebody.role),
        "me": somebody,
        "to_do": _of_the_account(somebody),
    }


def _events_light() -> dict[str, str] | None:
    """Whether Stripe's events are applied as they come, in a word."""
    try:
        waiting = metrics.inbox_waiting()
    except SQLAlchemyError:
        return None
    if waiting.oldest_s <= metrics.EVENT_GOAL_S:
        return {"look": "ok", "said": "Webhooks live"}
    return {"look": "bad", "said": f"Events wait {alerts.minutes(waiting.oldest_s)}"}


@bp.get("")
def start() -> Response:
    return redirect(url_for(".orders"), code=303)


def _of_the_account(user: User) -> str | None:
    """What somebody should still do about how they sign in."""
    if user.password_hash is None:
        return "Set a password, so that you come in again without a link."
    if user.is_asked_for_second_factor:
        return f"Add a second factor: {user.role} is a role that a stolen password must not open."
    return None


def whole(text: str) -> int | None:
    """A whole number in the digits that our pages write, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def row(order: Order, items_text: str, troubled: bool) -> dict[str, Any]:
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


def address_lines(order: Order) -> list[str]:
    given = order.address or {}
    town = " ".join(given[part] for part in ("postal_code", "city") if given.get(part))
    lines = (given.get("line1"), given.get("line2"), town, given.get("state"), given.get("country"))
    return [line for line in lines if line]
