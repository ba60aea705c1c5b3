"""Bring an attempt and its order in line with what Stripe says.

One function for every lane: webhook, landing page, reconciler, admin, expiry. It may run any
number of times, at once, in any order. It gathers facts, locks the attempt, applies them, and
commits state, stock, history, inbox and outbox in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy import bindparam, update

from domain import facts as known
from domain.clock import now
from domain.errors import ChangesTooFast
from domain.facts import Fact, LegState, News
from domain.transitions import PaymentStatus, Status
from extensions import atomic, db, enqueue_after_commit, reading, retrying, wait_for_others
from gateway import current_gateway
from models import StripeEvent, StripeLeg
from services import attempts, disputes, legs, plan_rows, rebuild, refunds, snapshots
from services.causes import EXPIRY, Cause
from services.desk import Desk, SnapshotMissing
from services.exceptions import heal

log = structlog.get_logger()

LOOKS = 5  # how often a mirror may be overtaken before we leave it to the next lane


class Overtaken(Exception):
    """A leg changed between our look at Stripe and the lock; look again."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a pass found: ``changed`` says whether it wrote anything that matters."""

    status: Status
    payment_status: PaymentStatus
    state: str  # of the attempt: open, settled, closed
    changed: bool


@dataclass(slots=True)
class Look:
    """Facts from Stripe, with the version of each leg's row as it was before we asked."""

    facts: list[Fact] = field(default_factory=list)
    versions: dict[int, int] = field(default_factory=dict)
    plans: dict[int, int] | None = None  # versions of its subscriptions, if any of them was read
    disputes: dict[str, int] | None = None  # the same of its disputes
    refunds_of: str | None = None  # the payment whose refunds were read
    refunds: dict[str, int] | None = None  # their versions before


def settle(
    attempt_id: str,
    cause: Cause,
    *,
    news: News | None = None,
    look: bool = False,
    end: bool = False,
    replacing: int | None = None,
    payment_ui: str | None = None,
    quick: bool = False,
    refunds_of: str | None = None,
) -> Settled | None:
    """Apply ``news`` and, if asked for, a fresh ``look`` at the attempt's live legs.

    ``end`` asks Stripe to close the legs first, and so gives nothing away that was paid (rule R5).
    ``replacing`` names a leg (our row's id): it and older ones are closed at Stripe, and a new one
    takes its place if nothing was ever paid, to be paid by ``payment_ui`` (else in the same way);
    it changes nothing once somebody else has replaced it.
    ``quick`` waits 3 s instead of 10 s for Stripe. ``refunds_of`` names a payment whose refunds are
    read afresh, as news of one asks for. None if there is no such attempt. Raises the
    Stripe errors of ``domain.errors``, and for a retry OutOfStock, ProductUnavailable, Conflict;
    then nothing was changed here and it may be called again.
    """
    refunds_of = refunds_of or (news.refunds_of if news else None)
    for _ in range(LOOKS):
        seen = Look(facts=list(news.facts) if news else [])
        try:
            reads = news.reads if news else None
            if look or end or replacing or reads or (news and news.must_look):
                with reading():
                    seen.plans = plan_rows.versions(attempt_id)
                    seen.disputes = disputes.versions(attempt_id) if reads else None
                overdue = cause.lane == EXPIRY.lane  # a retry may have given more time meanwhile
                _look(attempt_id, seen, end=end, overdue=overdue, replacing=replacing, quick=quick)
            if reads:
                seen.facts += current_gateway().read(*reads)
            if refunds_of:
                seen.refunds_of = refunds_of
                with reading():
                    seen.refunds = refunds.versions(refunds_of)
                seen.facts += current_gateway().refunds_of(refunds_of)
            cancelling = end and cause.lane != EXPIRY.lane
            renewing = (replacing, payment_ui) if replacing else None
            return _apply(attempt_id, cause, seen, news, cancelling=cancelling, renewing=renewing)
        except Overtaken:
            log.info("settle.overtaken", attempt=attempt_id, lane=cause.lane)
        except SnapshotMissing as missing:  # money came after the person was forgotten (rule R10)
            rebuild.refill(attempt_id, missing.payment_intent, missing.subscription)
    raise ChangesTooFast


def _look(
    attempt_id: str,
    seen: Look,
    *,
    end: bool,
    overdue: bool = False,
    replacing: int | None = None,
    quick: bool,
) -> None:
    """Ask Stripe about every live leg. A leg being created is resolved before anything else.

    ``end`` closes them, with ``overdue`` only those whose own time is up; ``replacing`` closes that
    one and older ones.
    """
    gateway = current_gateway()
    with reading():
        live = [leg for leg in attempts.legs_of(attempt_id) if leg.state in known.LIVE]
        seen.versions = {leg.id: leg.version for leg in live}
        # Who gives up what is paid by now comes too late, and may do what is left of it: save the
        # card for what recurs, or pay a first invoice.
        if not overdue and attempts.is_settled(attempt_id):
            end, replacing = False, None
    # What saves a card comes last: where money turns out to be paid, the card is still wanted.
    for leg in sorted(live, key=lambda leg: leg.kind == legs.SAVES_CARD):
        if leg.state == LegState.CREATING:
            if leg.asked_at is None:  # owed, but Stripe was never asked: the outbox does that
                if _closes(leg, end=end, overdue=overdue, replacing=replacing) and legs.drop(
                    leg.id
                ):
                    raise Overtaken
                continue
            opened = legs.resolve(leg, quick=quick)
            if opened is None:
                raise Overtaken  # refused or known by now: its row has changed
            seen.versions[leg.id] = opened.version
            leg = opened
        assert leg.stripe_id is not None
        closes = _closes(leg, end=end, overdue=overdue, replacing=replacing)
        if leg.kind == legs.SAVES_CARD and not overdue and any(map(_is_money, seen.facts)):
            closes = False
        why = "abandoned" if overdue else "requested_by_customer"
        if closes and leg.state != LegState.PROCESSING:
            seen.facts += gateway.close_leg(leg.kind, leg.stripe_id, why=why)
            continue
        told = gateway.read_leg(leg.kind, leg.stripe_id, quick=quick)
        if leg.state == LegState.PROCESSING and _is_open_again(told):
            # The bank said no days later, and nobody waits on that page: it failed for good.
            told = gateway.close_leg(leg.kind, leg.stripe_id, why="abandoned")
            told = tuple(map(_as_failed, told))
        seen.facts += told


def _closes(leg: StripeLeg, *, end: bool, overdue: bool, replacing: int | None) -> bool:
    if replacing is not None:
        return leg.id <= replacing
    return end and not (overdue and leg.deadline > now())


def _is_money(fact: Fact) -> bool:
    """Whether it says that money is there or under way."""
    under_way = isinstance(fact, known.LegSeen) and fact.state is LegState.PROCESSING
    return under_way or isinstance(fact, known.PaymentSucceeded)


def _is_open_again(told: tuple[Fact, ...]) -> bool:
    return any(isinstance(fact, known.LegSeen) and fact.state is LegState.OPEN for fact in told)


def _as_failed(fact: Fact) -> Fact:
    if isinstance(fact, known.LegEnded) and fact.state is not LegState.COMPLETE:
        return replace(fact, state=LegState.FAILED)
    return fact


@retrying
def _apply(
    attempt_id: str,
    cause: Cause,
    seen: Look,
    news: News | None,
    *,
    cancelling: bool,
    renewing: tuple[int, str | None] | None = None,
) -> Settled | None:
    # Nothing is flushed in between, so that each row is written once, and the stock last. For that
    # the desk reads everything at its start; reading a row again would forget what was changed.
    with atomic() as session, session.no_autoflush:
        attempt = attempts.lock(attempt_id)
        if attempt is None:
            return None
        desk = Desk(attempt, cause, cancelling)
        if desk.is_overtaken(seen.versions, seen.plans, seen.disputes):
            raise Overtaken
        refunded = seen.refunds_of or (news.refunds_of if news else None)
        if refunded and refunds.versions(refunded) != seen.refunds:
            raise Overtaken
        for fact in seen.facts:
            desk.take(fact)
        if renewing is None or not desk.replace(*renewing):
            desk.conclude(verbose=news is not None)
        if news:
            _mark_applied(news, attempt_id)
            if attempt.erased_at:
                snapshots.empty_event(news.event_id)
        session.flush()
        if desk.changed and desk.may_heal:
            heal(attempt_id, desk.new_payments)
        if desk.new_payments:
            _take_up_again(desk.new_payments)
        desk.carry_out()
        return Settled(
            Status(attempt.status), desk.payment_status(), attempt.state, changed=desk.changed
        )


def _mark_applied(news: News, attempt_id: str) -> None:
    """The event is done in the very transaction that applied its facts, and not before."""
    about = {"event": news.event_id, "attempt": attempt_id, "moment": now(), "ms": news.ms(now())}
    db.session.execute(_APPLIED, about)


def _take_up_again(payments: list[str]) -> None:
    """News of a refund or a dispute may come before the payment itself, when nobody knew whose it
    was: now somebody does."""
    for intent in payments:
        wait_for_others(intent)
    taken = db.session.execute(_AGAIN, {"intents": payments, "moment": now()})
    if taken.rowcount:  # type: ignore[attr-defined]
        enqueue_after_commit("drain_inbox")


_events: Any = StripeEvent.__table__
_AGAIN = (
    update(_events)
    .where(
        _events.c.payment_intent.in_(bindparam("intents", expanding=True)),
        _events.c.state == "ignored",
    )
    .values(state="new", tries=0, next_at=bindparam("moment"), error=None)
)
_APPLIED = (
    update(_events)
    .where(_events.c.id == bindparam("event"))
    .values(
        state="done",
        attempt_id=bindparam("attempt"),
        applied_at=bindparam("moment"),
        work_ms=bindparam("ms"),
        error=None,
    )
)
