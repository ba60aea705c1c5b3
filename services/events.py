"""The inbox as people look at it: find an event, take it up again, put it aside."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select, update

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from extensions import atomic, db, reading
from gateway import current_gateway, webhooks
from models import Order, StripeEvent, StripeLeg
from services import auth, inbox, orders
from services.exceptions import SEEN_TO, close_exception
from services.shop import IDENTITY

PAGE = 50
MOST_AT_ONCE = 50  # to replay: as many as a page shows
LONGEST_NOTE = 300
STATES = ("new", "done", "ignored", "dead")
REPLAYABLE = ("done", "ignored", "dead")


class CannotBeReplayed(Conflict):
    code = "event_not_replayable"
    headline = "Nothing was replayed"


class NothingChosen(ShopError):
    code = "no_event_chosen"
    http_status = 422
    headline = "Nothing was done"

    def __init__(self) -> None:
        super().__init__(f"Tick 1 to {MOST_AT_ONCE} events first.")


class NotANote(ShopError):
    code = "note_missing"
    http_status = 422
    headline = "Nothing was done"

    def __init__(self) -> None:
        super().__init__(f"Say why it is ignored, in 1 to {LONGEST_NOTE} characters.")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a page of the inbox shows; empty means all."""

    state: str = ""
    type: str = ""
    text: str = ""


def newest(wanted: Filter, after: str | None = None, limit: int = PAGE) -> list[StripeEvent]:
    """What came last; ``after`` is the id of the last row of the page above."""
    query = select(StripeEvent).order_by(StripeEvent.received_at.desc(), StripeEvent.id.desc())
    if wanted.state in STATES:
        query = query.where(StripeEvent.state == wanted.state)
    if wanted.type:
        query = query.where(StripeEvent.type == wanted.type)
    if wanted.text:
        query = query.where(_matches(wanted.text))
    with reading() as session:
        last = session.get(StripeEvent, after) if after else None
        if last:
            query = query.where(
                (StripeEvent.received_at < last.received_at)
                | ((StripeEvent.received_at == last.received_at) & (StripeEvent.id < last.id))
            )
        return list(session.scalars(query.limit(limit)))


def _matches(text: str) -> ColumnElement[bool]:
    """An event's id, an object's, or an order's number or id: as it was pasted."""
    if text.startswith("evt_"):
        return StripeEvent.id == text
    bare = text.upper().removeprefix(f"{IDENTITY.number_prefix}-")
    if bare.isascii() and bare.isdecimal() and len(bare) <= 9:
        return StripeEvent.attempt_id.in_(select(Order.id).where(Order.number == int(bare)))
    if _is_uuid(text):
        return StripeEvent.attempt_id == text.lower()
    legs = select(StripeLeg.attempt_id).where(
        or_(StripeLeg.stripe_id == text, StripeLeg.payment_intent == text)
    )
    return or_(StripeEvent.object_id == text, StripeEvent.attempt_id.in_(legs))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def find(event_id: str) -> StripeEvent:
    """One event. Raises NotFound."""
    with reading() as session:
        found = session.scalar(select(StripeEvent).where(StripeEvent.id == event_id))
    if found is None:
        raise NotFound("There is no such event. Stripe may have sent it to another address.")
    return found


def numbers(order_ids: Iterable[str | None]) -> dict[str, str]:
    """The numbers of these orders, by id."""
    ids = set(order_ids) - {None}
    if not ids:
        return {}
    with reading() as session:
        found = session.scalars(select(Order).where(Order.id.in_(ids)))
        return {order.id: orders.number(order) for order in found}


def chosen(event_ids: list[str]) -> list[StripeEvent]:
    """Those that somebody ticked, in the order in which they came. Raises NothingChosen, NotFound,
    CannotBeReplayed."""
    if not 1 <= len(set(event_ids)) <= MOST_AT_ONCE:
        raise NothingChosen
    with reading() as session:
        found = list(
            session.scalars(
                select(StripeEvent)
                .where(StripeEvent.id.in_(set(event_ids)))
                .order_by(StripeEvent.received_at, StripeEvent.id)
            )
        )
    if len(found) < len(set(event_ids)):
        raise NotFound("There is no such event. Stripe may have sent it to another address.")
    for row in found:
        _must_be_replayable(row)
    return found


def replay(actor: str, event_ids: list[str]) -> int:
    """Take events up again, whatever has become of them; says how many. Applying one twice changes
    nothing, so a second press does nothing either. Raises as ``chosen`` does; then none was."""
    rows = chosen(event_ids)
    return sum(inbox.replay(row.id, actor, *REPLAYABLE) for row in rows)


def why_not(row: StripeEvent) -> str | None:
    """Why it cannot be replayed, or None if it can."""
    if row.state == "new":
        return "it waits, and is applied by itself"
    at_the_door = webhooks.envelope(
        json.loads(row.payload), row.payload, livemode=current_gateway().livemode
    ).ignored
    return at_the_door and f"it is none of this shop’s: {at_the_door}"


def _must_be_replayable(row: StripeEvent) -> None:
    reason = why_not(row)
    if reason:
        raise CannotBeReplayed(f"{row.id} ({row.type}): {reason}.")


def ignore(actor: str, event_id: str, note: str) -> None:
    """Put an event aside that gave up or waits, and say why; replaying it takes that back. Raises
    NotFound, NotANote, Conflict."""
    note = note.strip()
    if not note or len(note) > LONGEST_NOTE:
        raise NotANote
    find(event_id)
    with atomic() as session:
        taken = session.execute(
            update(StripeEvent)
            .where(StripeEvent.id == event_id, StripeEvent.state.in_(("new", "dead")))
            .values(state="ignored", error=f"{actor}: {note}", applied_at=now())
            .execution_options(synchronize_session=False)
        )
        if not taken.rowcount:  # type: ignore[attr-defined]
            raise Conflict("It is done or ignored already, so there is nothing to put aside.")
        close_exception("dead_event", event_id, SEEN_TO, f"Ignored: {note}", by=actor)
        auth.note_in(db.session(), actor, "ignored event", event_id, note)
