"""The history of an order: what changed, what was ignored and why."""

from __future__ import annotations

from domain.clock import now
from domain.transitions import Status
from extensions import db
from models import OrderEvent
from services.announcements import announce_move
from services.causes import Cause

NOTE = "note"  # the kind of what a person wrote down, for colleagues only


def moved(order_id: str, from_: Status | None, to: Status, cause: Cause, detail: str = "") -> None:
    """A change of status; these rows replay to the present one. Programs are told of it, too."""
    _write(order_id, "transition", cause, detail, from_status=from_, to_status=to)
    announce_move(order_id, from_, to)


def noted(order_id: str, kind: str, cause: Cause, detail: str) -> None:
    """Something that happened without a change of status: ``payment``, ``ignored``, ``note``."""
    _write(order_id, kind, cause, detail)


def _write(order_id: str, kind: str, cause: Cause, detail: str, **statuses: Status | None) -> None:
    # Added, not executed: the one flush of a transaction writes all its rows in one statement.
    db.session.add(
        OrderEvent(
            order_id=order_id,
            kind=kind,
            cause=cause.lane,
            actor=cause.actor,
            stripe_event_id=cause.event_id,
            detail=detail,
            at=now(),
            **statuses,
        )
    )
