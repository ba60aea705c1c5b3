"""The inbox: an event is stored before it is acknowledged, and its id makes it count once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from domain.clock import now
from domain.errors import (
    CannotStore,
    ChangesTooFast,
    StripeBusy,
    StripeMissing,
    StripeUnavailable,
)
from domain.facts import LegEnded, News, PaymentSucceeded
from domain.money import display
from extensions import (
    HungJob,
    atomic,
    db,
    doorbell,
    enqueue_after_commit,
    inserting_once,
    is_postgresql,
    one_statement,
    reading,
    retrying,
    wait_for_others,
)
from gateway import current_gateway, facts
from gateway.webhooks import VerifiedEvent
from models import AuditEntry, CheckoutAttempt, Payment, StripeEvent, StripeLeg
from services import attempts, leases, plan_rows, rebuild, settle, snapshots
from services.causes import Cause
from services.exceptions import TRIED, close_exception, open_exception

log = structlog.get_logger()

LEASE_S = 60  # a crashed worker's events come free after this
MOST_IDS = 1000  # in one question; both databases have a limit, and a month of events is beyond it
BATCH = 50  # one job serves many events; at 20 ms each a batch takes a second
MOST_TRIES = 8  # of our own failures; an outage of Stripe or the database is not a try
LONGEST_WAIT_S = 60
REFUSALS_NOTED_EVERY = timedelta(minutes=1)
BUDGET_S = 5  # RQ jobs stay short, so that a stopping worker finishes the one it has


def receive(event: VerifiedEvent, lane: str = "webhook") -> bool:
    """Store a verified event and ring; says whether it was new.

    Committed when this returns. Raises CannotStore if the database did not take it: Stripe then
    sends it again. Receiving the same event twice is a no-op, in any process, at any time.
    """
    try:
        with one_statement() as connection:
            row = connection.execute(inserting_once(StripeEvent), _row(event, lane)).first()
    except SQLAlchemyError as error:
        log.error("inbox.cannot_store", event_id=event.id, error=type(error).__name__)
        raise CannotStore("The event could not be stored. Send it again.") from error
    stored = row is not None
    if stored and not event.ignored:
        doorbell.ring("drain_inbox")
    return stored


def _row(event: VerifiedEvent, lane: str) -> dict[str, Any]:
    moment = now()
    return {
        "id": event.id,
        "type": event.type,
        "object_id": event.object_id,
        "api_version": event.api_version,
        "livemode": event.livemode,
        "payload": event.payload,
        "lane": lane,
        "state": "ignored" if event.ignored else "new",
        "error": event.ignored,
        "tries": 0,
        "next_at": moment,
        "received_at": moment,
    }


def note_refused(about: str) -> None:
    """Remember that a body was refused, for whoever asks why no event comes: when, and whether for
    our ``secret`` or our ``clock``. At most once a minute and process, whoever knocks how often."""
    noted: dict[str, datetime] = current_app.extensions.setdefault("refusals_noted", {})
    last = noted.get(about)
    if last and now() - last < REFUSALS_NOTED_EVERY:
        return
    noted[about] = now()
    try:
        leases.write(_refused(about), now().isoformat())
    except SQLAlchemyError as error:
        log.warning("inbox.refusal_not_noted", error=type(error).__name__)


def has_heard_since(moment: datetime) -> bool:
    """Whether a webhook was accepted after then (UTC)."""
    with reading() as session:
        newer = select(StripeEvent.id).where(
            StripeEvent.lane == "webhook", StripeEvent.received_at > moment
        )
        return session.scalar(newer.limit(1)) is not None


def last_refused(about: str) -> datetime | None:
    """When a body was last refused for its ``secret`` or for our ``clock`` (UTC, to a minute)."""
    told = leases.read(_refused(about))
    return datetime.fromisoformat(told) if told else None


def _refused(about: str) -> str:
    return f"webhook-refused:{about}"


def drain() -> int:
    """Apply what is waiting; returns how many events were taken. May run in many workers at once:
    each batch is leased by a commit, then every event has a transaction of its own."""
    doorbell.answered("drain_inbox")
    started, taken = now(), 0
    while batch := _lease():
        for position, row in enumerate(batch):
            if now() - started > timedelta(seconds=BUDGET_S):
                _give_back([left.id for left in batch[position:]])
                doorbell.ring("drain_inbox")
                return taken
            apply(row.id, row.payload, row.lane, row.tries)
            taken += 1
        if len(batch) < BATCH:
            break  # whatever came since has rung again
    return taken


@retrying
def _give_back(event_ids: list[str]) -> None:
    """End the lease on events that this job has no time for."""
    with atomic() as session:
        session.execute(
            update(StripeEvent)
            .where(StripeEvent.id.in_(event_ids), StripeEvent.state == "new")
            .values(next_at=now())
            .execution_options(synchronize_session=False)
        )


@retrying
def _lease() -> list[Any]:
    moment = now()
    waiting = (
        select(StripeEvent.id)
        .where(StripeEvent.state == "new", StripeEvent.next_at <= moment)
        .order_by(StripeEvent.next_at)
        .limit(BATCH)
    )
    if is_postgresql():
        waiting = waiting.with_for_update(skip_locked=True)
    with atomic() as session:
        return list(
            session.execute(
                update(StripeEvent)
                .where(StripeEvent.id.in_(waiting.scalar_subquery()))
                .values(next_at=moment + timedelta(seconds=LEASE_S))
                .returning(StripeEvent.id, StripeEvent.payload, StripeEvent.lane, StripeEvent.tries)
                .execution_options(synchronize_session=False)
            ).all()
        )


def apply(event_id: str, payload: str, lane: str, tries: int) -> None:
    """Apply one event. Failures are noted on its row and tried again later; nothing is lost."""
    news = None
    try:
        news = replace(facts.of_event(json.loads(payload)), begun=now())
        _apply(news, lane)
    except (StripeUnavailable, StripeBusy, ChangesTooFast, OperationalError) as error:
        _try_again(event_id, tries, error)
    except HungJob:
        raise
    except Exception as error:
        log.exception("inbox.event_failed", event_id=event_id, tries=tries + 1)
        _try_again(event_id, tries + 1, error, news)


def _apply(news: News, lane: str) -> None:
    if news.ignored:
        _close(news, "ignored", news.ignored)
        return
    if take(news, Cause(lane, event_id=news.event_id)):
        return
    if tell_unmatched(told(news)):
        return
    known = (news.attempt_id or "none")[:80]
    why = f"no checkout attempt of this shop (metadata names {known})"
    _close(news, "ignored", why, early=not news.facts)


def take(news: News, cause: Cause) -> str | None:
    """Settle the attempt that the news is about, which is made anew if it paid and is missing here.

    Returns its id, or None if it is no attempt of this shop; then nothing was changed. Raises the
    Stripe errors. Safe to repeat.
    """
    attempt_id = attempt_of(news)
    if attempt_id is None:
        return None
    if settle.settle(attempt_id, cause, news=news):
        return attempt_id
    paid = told(news).payment
    if paid and rebuild.attempt(attempt_id, paid, cause):
        settle.settle(attempt_id, cause, news=news)
        return attempt_id
    return None


def told(news: News) -> News:
    """The same news with what has to be read afresh for it, where no attempt of ours will do so:
    its money, if any. Raises the Stripe errors."""
    if news.reads is None or attempts.exists(attempt_of(news)):
        return news
    try:
        facts_ = current_gateway().read(*news.reads)
    except StripeMissing:
        return news
    final = tuple(fact for fact in facts_ if isinstance(fact, (PaymentSucceeded, LegEnded)))
    return replace(news, facts=news.facts + final, reads=None)


def attempt_of(news: News) -> str | None:
    """The attempt an event is about: what its metadata says, else what our own records say."""
    if news.attempt_id:
        return news.attempt_id
    with reading() as session:
        if news.object_id:
            owner = session.scalar(
                select(StripeLeg.attempt_id).where(StripeLeg.stripe_id == news.object_id)
            )
            owner = owner or plan_rows.attempt_of(news.object_id)
            if owner:
                return owner
        return session.scalar(
            select(Payment.attempt_id).where(Payment.payment_intent == news.payment_intent)
        )


@retrying
def tell_unmatched(news: News) -> bool:
    """Money that names an attempt we do not have: a person has to look at it (rule R10). Says
    whether it is that."""
    payment = news.payment
    if news.attempt_id is None or payment is None:
        return False
    took = display(payment.amount, payment.currency)
    with atomic() as session:
        open_exception(
            "unmatched_payment",
            payment.payment_intent,
            f"Stripe took {took} for checkout {news.attempt_id[:80]}, which this shop has no "
            "record of.",
            amount=payment.amount,
            currency=payment.currency,
        )
        session.execute(_closing(news, "done", "unmatched payment: see exceptions"))
    return True


@retrying
def _close(news: News, state: str, why: str, *, early: bool = False) -> None:
    """``early``: it is taken up again if its payment turns out to be ours, which may be found out
    this very moment."""
    log.info("inbox.closed", event_id=news.event_id, type=news.type, state=state, why=why)
    intent = news.payment_intent if early else None
    with atomic() as session:
        if intent:
            wait_for_others(intent)
            if session.scalar(select(Payment.id).where(Payment.payment_intent == intent)):
                return  # it stays new, and is taken again when its lease is over
        session.execute(_closing(news, state, why, intent))
        snapshots.empty_if_erased(news.event_id)


def _closing(news: News, state: str, why: str, early: str | None = None) -> Any:
    return (
        update(StripeEvent)
        .where(StripeEvent.id == news.event_id)
        .values(
            state=state,
            error=why,
            applied_at=now(),
            payment_intent=early,
            work_ms=news.ms(now()),
        )
        .execution_options(synchronize_session=False)
    )


@retrying
def _try_again(event_id: str, tries: int, error: Exception, news: News | None = None) -> None:
    dead = tries >= MOST_TRIES
    wait = timedelta(seconds=min(2 ** min(tries + 1, 6), LONGEST_WAIT_S))
    why = f"{type(error).__name__}: {error}"[:2000]
    with atomic() as session:
        session.execute(
            update(StripeEvent)
            .where(StripeEvent.id == event_id, StripeEvent.state == "new")
            .values(state="dead" if dead else "new", tries=tries, next_at=now() + wait, error=why)
            .execution_options(synchronize_session=False)
        )
        if dead:
            told = f"{news.type if news else 'It'} could not be applied: {why}"
            open_exception("dead_event", event_id, told, **_at_stake(news))


def _at_stake(news: News | None) -> dict[str, Any]:
    """Whose order dead news is about, and its money; inside the caller's transaction."""
    if news is None:
        return {}
    named = select(CheckoutAttempt.id).where(CheckoutAttempt.id == news.attempt_id)
    paid = news.payment
    return {
        "order_id": db.session.scalar(named),
        "amount": paid and paid.amount,
        "currency": paid and paid.currency,
    }


def replay(event_id: str, actor: str, *states: str) -> bool:
    """Take an event up again that is in one of ``states`` (dead, if none is named), and close its
    exception; says if it was. Applying it twice changes nothing."""
    with atomic() as session:
        taken = session.execute(
            update(StripeEvent)
            .where(StripeEvent.id == event_id, StripeEvent.state.in_(states or ("dead",)))
            .values(state="new", tries=0, next_at=now())
            .execution_options(synchronize_session=False)
        )
        again = bool(taken.rowcount)  # type: ignore[attr-defined]
        if again:
            close_exception("dead_event", event_id, TRIED, "Taken up again.", by=actor)
            session.add(AuditEntry(actor=actor, action="replayed", subject=event_id))
            enqueue_after_commit("drain_inbox")
    return again


def is_empty() -> bool:
    """Whether every stored event has been dealt with."""
    with reading() as session:
        return (
            session.scalar(select(StripeEvent.id).where(StripeEvent.state == "new").limit(1))
            is None
        )


def states_of(event_ids: list[str]) -> Counter[str]:
    """How many of these events are in which state."""
    found: Counter[str] = Counter()
    with reading() as session:
        for start in range(0, len(event_ids), MOST_IDS):
            some = StripeEvent.id.in_(event_ids[start : start + MOST_IDS])
            found.update(session.scalars(select(StripeEvent.state).where(some)))
    return found


def orders_of(event_ids: list[str]) -> int:
    """How many orders these events were applied to."""
    found: set[str | None] = set()
    with reading() as session:
        for start in range(0, len(event_ids), MOST_IDS):
            some = StripeEvent.id.in_(event_ids[start : start + MOST_IDS])
            found |= set(session.scalars(select(StripeEvent.attempt_id).where(some)))
    return len(found - {None})
