"""Opening a leg at Stripe, when the answer may be lost (rule R2).

The row with the idempotency key and the exact parameters is committed before the call. An unknown
outcome is not a refusal: the same parameters go out again with the same key. When the key can no
longer tell (older than Stripe keeps it, or it replays a failure), Stripe is searched, and a new
key is used only when nothing is there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import select, update

from domain.clock import now
from domain.errors import StripeRefused, StripeReplayedFailure
from domain.facts import LegState
from extensions import atomic, reading, retrying
from gateway import current_gateway, parameters
from gateway.client import OpenedLeg
from models import CheckoutAttempt, StripeLeg

log = structlog.get_logger()

KEY_LIVES = timedelta(hours=24)  # docs.stripe.com/api/idempotent_requests: "at least 24 hours"


def idempotency_key(attempt_id: str, number: int, generation: int = 1) -> str:
    """Ours, because the SDK's automatic key does not survive a retry of the job."""
    return f"{attempt_id}:leg{number}:g{generation}"


KINDS = {"hosted": "session", "embedded": "session", "elements": "payment_intent"}


def draft(attempt: CheckoutAttempt, number: int, previous: StripeLeg | None = None) -> StripeLeg:
    """The row of an attempt's next leg, for the way that it is to be paid, with a deadline of its
    own and exactly what Stripe will be asked for. Writing it is the caller's transaction."""
    settings = current_app.extensions["settings"]
    deadline = now() + timedelta(minutes=settings.checkout_ttl_minutes)
    kind = KINDS[attempt.payment_ui]
    return StripeLeg(
        attempt_id=attempt.id,
        amount=attempt.total,
        currency=attempt.currency,
        state=LegState.CREATING,
        deadline=deadline,
        previous_id=previous.id if previous else None,
        idempotency_key=idempotency_key(attempt.id, number),
        parameters=_PARAMETERS[kind](attempt, deadline, settings.public_origin),
        asked_at=now(),
        created_at=now(),
        version=1,
        is_ours=True,
        kind=kind,
    )


def _session(attempt: CheckoutAttempt, deadline: datetime, origin: str) -> dict[str, Any]:
    return parameters.session(
        attempt_id=attempt.id,
        lines=attempt.lines,
        currency=attempt.currency,
        delivery=attempt.snapshot["delivery"],
        contact=attempt.snapshot["contact"],
        address=attempt.snapshot["address"],
        expires_at=deadline,
        origin=origin,
        embedded=attempt.payment_ui == "embedded",
    )


def _intent(attempt: CheckoutAttempt, deadline: datetime, origin: str) -> dict[str, Any]:
    return parameters.payment_intent(
        attempt_id=attempt.id,
        amount=attempt.total,
        currency=attempt.currency,
        contact=attempt.snapshot["contact"],
        address=attempt.snapshot["address"],
    )


_PARAMETERS = {"session": _session, "payment_intent": _intent}


def resolve(leg: StripeLeg, *, quick: bool = False) -> StripeLeg | None:
    """Learn what became of a leg whose creation we have not seen answered.

    Returns the leg as it is now, or None when somebody else resolved it or Stripe refused it.
    Raises StripeUnavailable or StripeBusy when the outcome is still unknown. Safe to repeat, and
    to be done by several at once.
    """
    try:
        opened = _open(leg, quick)
    except StripeRefused as refusal:
        _refuse(leg.id, refusal.message)
        return None
    return _remember(leg.id, opened) if opened else None


def _open(leg: StripeLeg, quick: bool) -> OpenedLeg | None:
    assert leg.parameters is not None and leg.idempotency_key is not None
    gateway, kind, key = current_gateway(), leg.kind, leg.idempotency_key
    if now() - leg.asked_at < KEY_LIVES:
        try:
            return gateway.open_leg(kind, leg.parameters, key, quick=quick)
        except StripeReplayedFailure:
            log.warning("leg.key_is_spent", attempt=leg.attempt_id)
    with reading() as session:
        rows = session.scalars(
            select(StripeLeg).where(StripeLeg.attempt_id == leg.attempt_id)
        ).all()
        known = {id_ for row in rows for id_ in (row.stripe_id, row.payment_intent) if id_}
        state, newer = next((row.state, row.idempotency_key) for row in rows if row.id == leg.id)
    if state != LegState.CREATING:
        return None
    if newer and newer != key:  # somebody else found it spent, searched, and goes on with this one
        return gateway.open_leg(kind, leg.parameters, newer, quick=quick)
    found = gateway.find_leg(kind, leg.attempt_id, since=leg.created_at, known=known)
    if found:
        return found
    return gateway.open_leg(kind, leg.parameters, _next_generation(leg.id, key))


@retrying
def _remember(leg_id: int, opened: OpenedLeg) -> StripeLeg | None:
    with atomic() as session:
        known = session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.state == LegState.CREATING)
            .values(
                stripe_id=opened.id,
                url=opened.url,
                client_secret=opened.client_secret,
                payment_intent=opened.payment_intent,
                state=LegState.OPEN,
                last_error=None,
                version=StripeLeg.version + 1,
            )
            .execution_options(synchronize_session=False)
        )
        if not known.rowcount:  # type: ignore[attr-defined]
            return None
        return session.scalar(select(StripeLeg).where(StripeLeg.id == leg_id))


@retrying
def _refuse(leg_id: int, why: str) -> None:
    log.error("leg.refused", leg=leg_id, why=why)
    with atomic() as session:
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.state == LegState.CREATING)
            .values(state=LegState.REFUSED, last_error=why, version=StripeLeg.version + 1)
            .execution_options(synchronize_session=False)
        )


def _next_generation(leg_id: int, spent: str) -> str:
    """Commit a new key before it is used; the search has shown that the spent one made nothing.
    Whoever else has come to the same conclusion uses the same key."""
    stem, _, generation = spent.rpartition(":g")
    key = f"{stem}:g{int(generation) + 1}"
    with atomic() as session:
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.idempotency_key == spent)
            .values(idempotency_key=key, asked_at=now())
            .execution_options(synchronize_session=False)
        )
    return key
