"""Opening a leg at Stripe, when the answer may be lost (rule R2).

The row with the idempotency key and the exact parameters is committed before the call. An unknown
outcome is not a refusal: the same parameters go out again with the same key. When the key can no
longer tell (older than Stripe keeps it, or it replays a failure), Stripe is searched, and a new
key is used only when nothing is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from flask import current_app
from sqlalchemy import select, update

from domain import plans
from domain.clock import now
from domain.errors import StripeBusy, StripeRefused, StripeReplayedFailure
from domain.facts import LegState
from extensions import atomic, db, reading, retrying
from gateway import current_gateway, parameters
from gateway.doors import OpenedLeg
from models import CheckoutAttempt, StripeLeg, User
from services import language
from services.exceptions import open_exception

log = structlog.get_logger()

KEY_LIVES = timedelta(hours=24)  # docs.stripe.com/api/idempotent_requests: "at least 24 hours"


_CREATING = StripeLeg.state == LegState.CREATING


def idempotency_key(attempt_id: str, number: int, generation: int = 1) -> str:
    """Ours, because the SDK's automatic key does not survive a retry of the job."""
    return f"{attempt_id}:leg{number}:g{generation}"


# Kinds of legs, by what they do for an attempt: pay for all of it, for what is bought once, save a
# card for what recurs, pay the first amount of one line that recurs.
PAYS_ALL, PAYS_ONCE, SAVES_CARD, PAYS_FIRST = "session", "payment_intent", "setup_intent", "invoice"
FIRST_INVOICE_PAYABLE = timedelta(hours=23)  # then Stripe voids it and ends its subscription


def opening(attempt: CheckoutAttempt, older: list[StripeLeg]) -> list[StripeLeg]:
    """The rows of the legs through which an attempt is to be paid next, for the way that it is to
    be paid, with a deadline of their own and exactly what Stripe will be asked for. ``older`` are
    those it had. Writing them is the caller's transaction."""
    settings = current_app.extensions["settings"]
    deadline = now() + timedelta(minutes=settings.checkout_ttl_minutes)
    kinds = [PAYS_ALL]
    if attempt.payment_ui == "elements":
        recurs = bool(plans.recurring(attempt.lines))
        kinds = [SAVES_CARD] * recurs + [PAYS_ONCE] * (plans.ONCE in due_now(attempt))
    previous = next((leg for leg in reversed(older) if leg.is_ours), None)
    return [
        _row(
            attempt,
            kind,
            amount=_AMOUNTS[kind](attempt),
            deadline=deadline,
            key=idempotency_key(attempt.id, len(older) + place),
            parameters=_PARAMETERS[kind](attempt, deadline, settings.public_origin),
            previous_id=previous.id if previous else None,
            asked_at=now(),
        )
        for place, kind in enumerate(kinds, 1)
    ]


def first_invoice(
    attempt: CheckoutAttempt, line: plans.Line, setup: StripeLeg, tries: int
) -> StripeLeg:
    """The row of the subscription that a line owes, once the card for it is saved. It is not asked
    for yet: until then it can be dropped. ``tries`` is how often that was owed before."""
    assert setup.stripe_id is not None
    again = f":r{tries}" if tries else ""
    return _row(
        attempt,
        PAYS_FIRST,
        part=line["sku"],
        amount=plans.first_amount(line),
        deadline=now() + FIRST_INVOICE_PAYABLE,
        key=f"subscription:{attempt.id}:{line['sku']}{again}",
        parameters=parameters.subscription(
            attempt_id=attempt.id,
            line=line,
            currency=attempt.currency,
            setup_intent=setup.stripe_id,
        ),
    )


def found_invoice(attempt: CheckoutAttempt, part: str, amount: int) -> StripeLeg:
    """The row of a first invoice that is there at Stripe, and was in no row."""
    return _row(
        attempt,
        PAYS_FIRST,
        part=part,
        amount=amount,
        deadline=now() + FIRST_INVOICE_PAYABLE,
        key=f"subscription:{attempt.id}:{part}",
        asked_at=now(),
    )


def due_now(attempt: CheckoutAttempt) -> dict[str, int]:
    """What was due at first, by part, in minor units."""
    tax_of_lines = sum(line.get("tax", 0) for line in attempt.lines)
    return plans.due_now(attempt.lines, attempt.shipping + attempt.tax - tax_of_lines)


def _row(attempt: CheckoutAttempt, kind: str, *, key: str, **more: Any) -> StripeLeg:
    return StripeLeg(
        attempt_id=attempt.id,
        kind=kind,
        currency=attempt.currency,
        state=LegState.CREATING,
        idempotency_key=key,
        created_at=now(),
        version=1,
        is_ours=True,
        **more,
    )


def _session(attempt: CheckoutAttempt, deadline: datetime, origin: str) -> dict[str, Any]:
    delivery = attempt.snapshot["delivery"]
    with language.speaking(attempt.language):  # Stripe's page reads like the one before it
        lines = [dict(line) | {"title": language.kept(line["title"])} for line in attempt.lines]
        delivery = dict(delivery) | {"label": language.kept(delivery["label"])}
    return parameters.session(
        attempt_id=attempt.id,
        lines=lines,
        currency=attempt.currency,
        locale=attempt.language,
        delivery=delivery,
        contact=attempt.snapshot["contact"],
        address=attempt.snapshot["address"],
        expires_at=deadline,
        origin=origin,
        embedded=attempt.payment_ui == "embedded",
        promotion=attempt.snapshot.get("promotion"),
        tax_behavior=_tax_behavior(attempt),
    )


def _tax_behavior(attempt: CheckoutAttempt) -> str | None:
    """Whether its prices include tax or not; None where no tax was found out for it."""
    return attempt.snapshot.get("tax_behavior")


def _intent(attempt: CheckoutAttempt, deadline: datetime, origin: str) -> dict[str, Any]:
    return parameters.payment_intent(
        attempt_id=attempt.id,
        amount=due_now(attempt)[plans.ONCE],
        currency=attempt.currency,
        contact=attempt.snapshot["contact"],
        address=attempt.snapshot["address"],
        calculation=attempt.snapshot.get("calculation"),
    )


def _setup(attempt: CheckoutAttempt, deadline: datetime, origin: str) -> dict[str, Any]:
    return parameters.setup_intent(attempt_id=attempt.id)


_PARAMETERS = {PAYS_ALL: _session, PAYS_ONCE: _intent, SAVES_CARD: _setup}
_AMOUNTS: dict[str, Callable[[CheckoutAttempt], int]] = {
    PAYS_ALL: lambda attempt: attempt.total,
    PAYS_ONCE: lambda attempt: due_now(attempt)[plans.ONCE],
    SAVES_CARD: lambda attempt: 0,
}


def resolve(leg: StripeLeg, *, quick: bool = False) -> StripeLeg | None:
    """Learn what became of a leg whose creation we have not seen answered.

    Returns the leg as it is now, or None when somebody else resolved it or Stripe refused it.
    Raises StripeUnavailable or StripeBusy when the outcome is still unknown. Safe to repeat, and
    to be done by several at once.
    """
    is_first = leg.asked_at is None
    if is_first:
        claimed = _claim(leg.id)
        if claimed is None:
            return None
        leg = claimed
    try:
        opened = _open(leg, quick)
    except StripeBusy:
        if is_first:  # nobody has asked before, and nothing was done: it is as it was
            _unclaim(leg.id, leg.version)
        raise
    except StripeRefused as refusal:
        _refuse(leg, refusal.message)
        return None
    return _remember(leg.id, opened) if opened else None


@retrying
def _claim(leg_id: int) -> StripeLeg | None:
    """From now on this leg may be there at Stripe. None if it was dropped or is resolved."""
    with atomic() as session:
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.asked_at.is_(None), _CREATING)
            .values(asked_at=now(), version=StripeLeg.version + 1)
            .execution_options(synchronize_session=False)
        )
        return session.scalar(select(StripeLeg).where(StripeLeg.id == leg_id, _CREATING))


@retrying
def _unclaim(leg_id: int, version: int) -> None:
    with atomic() as session:
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.version == version, _CREATING)
            .values(asked_at=None, version=StripeLeg.version + 1)
            .execution_options(synchronize_session=False)
        )


@retrying
def drop(leg_id: int) -> bool:
    """Give up a leg that Stripe was never asked for; says whether it was that."""
    with atomic() as session:
        dropped = session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.asked_at.is_(None), _CREATING)
            .values(state=LegState.CANCELED, version=StripeLeg.version + 1)
            .execution_options(synchronize_session=False)
        )
    return bool(dropped.rowcount)  # type: ignore[attr-defined]


def _open(leg: StripeLeg, quick: bool) -> OpenedLeg | None:
    assert leg.idempotency_key is not None
    assert leg.asked_at is not None
    gateway, kind, key = current_gateway(), leg.kind, leg.idempotency_key
    wish = _wish(leg)
    since = leg.created_at
    if kind == PAYS_FIRST:  # this row may be younger than the subscription: a backup was restored
        since = _began(leg.attempt_id)
    if now() - min(leg.asked_at, since) < KEY_LIVES:
        try:
            return gateway.open_leg(kind, wish, key, quick=quick)
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
        return gateway.open_leg(kind, wish, newer, quick=quick)
    found = gateway.find_leg(kind, wish, leg.attempt_id, since=since, known=known)
    if found:
        return found
    return gateway.open_leg(kind, wish, _next_generation(leg.id, key))


def _began(attempt_id: str) -> datetime:
    with reading() as session:
        begun = select(CheckoutAttempt.created_at).where(CheckoutAttempt.id == attempt_id)
        return session.scalars(begun).one()


def _wish(leg: StripeLeg) -> dict[str, Any]:
    """What Stripe is asked for: the stored parameters, and whose card it is where one is saved."""
    assert leg.parameters is not None
    if leg.kind == PAYS_ALL and "automatic_tax" in leg.parameters:
        named = _taxed_customer(leg.attempt_id)  # whose name and address the page then knows
        rest = {name: told for name, told in leg.parameters.items() if name != "customer_email"}
        return {**rest, "customer": named}
    if leg.kind not in (SAVES_CARD, PAYS_ONCE):
        return leg.parameters
    customer = _customer(leg.attempt_id)
    return {**leg.parameters, "customer": customer} if customer else leg.parameters


def _customer(attempt_id: str) -> str | None:
    """Stripe's customer of a checkout that saves a card, made if there is none yet: always the
    same one, because the first that is written down stays."""
    with reading() as session:
        attempt = session.scalars(
            select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id)
        ).one()
        user = session.get(User, attempt.user_id) if attempt.user_id else None
        known = attempt.stripe_customer or (user.stripe_customer_id if user else None)
        contact = attempt.snapshot.get("contact") or {}
    if known or not plans.recurring(attempt.lines):
        return known
    key = f"customer:{attempt_id}"
    who = (contact.get("name"), contact.get("email"))
    try:
        made = current_gateway().open_customer(*who, key)
    except StripeReplayedFailure:
        # A customer too many does no harm, so no search comes first: the next key is the moment's,
        # because that one may be spent on a failure as well.
        made = current_gateway().open_customer(*who, f"{key}:{now().timestamp():.0f}")
    return _keep_customer(attempt_id, made)


def _taxed_customer(attempt_id: str) -> str:
    """Stripe's customer of a checkout with tax: the tax is that of where their parcels go, so each
    checkout has one of its own. Always the same one."""
    with reading() as session:
        attempt = session.get_one(CheckoutAttempt, attempt_id)
        known, snapshot = attempt.stripe_customer, attempt.snapshot
    if known:
        return known
    contact, key = snapshot["contact"], f"customer:{attempt_id}:tax"
    sent_to = parameters.shipping_to(contact, snapshot["address"])
    who = (contact["name"], contact["email"])
    try:
        made = current_gateway().open_customer(*who, key, sent_to)
    except StripeReplayedFailure:  # see above
        made = current_gateway().open_customer(*who, f"{key}:{now().timestamp():.0f}", sent_to)
    kept = _keep_customer(attempt_id, made)
    assert kept is not None
    return kept


def _keep_customer(attempt_id: str, made: str) -> str | None:
    with atomic() as session:
        session.execute(
            update(CheckoutAttempt)
            .where(CheckoutAttempt.id == attempt_id, CheckoutAttempt.stripe_customer.is_(None))
            .values(stripe_customer=made)
            .execution_options(synchronize_session=False)
        )
        return session.scalar(
            select(CheckoutAttempt.stripe_customer).where(CheckoutAttempt.id == attempt_id)
        )


@retrying
def _remember(leg_id: int, opened: OpenedLeg) -> StripeLeg | None:
    """Write down what Stripe opened. A page that adds up to something else than we do is kept
    without its address, so that nobody can be sent there, and a person is told."""
    with atomic() as session:
        differs = _differs(leg_id, opened)
        known = session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, _CREATING)
            .values(
                stripe_id=opened.id,
                url=None if differs else opened.url,
                client_secret=None if differs else opened.client_secret,
                payment_intent=opened.payment_intent,
                state=LegState.OPEN,
                last_error=differs,
                version=StripeLeg.version + 1,
            )
            .execution_options(synchronize_session=False)
        )
        if not known.rowcount:  # type: ignore[attr-defined]
            return None
        return session.scalar(select(StripeLeg).where(StripeLeg.id == leg_id))


def _differs(leg_id: int, opened: OpenedLeg) -> str | None:
    """Where Stripe's bill is not ours (rule R8), in words; None if it is."""
    if opened.bill is None:
        return None
    leg = db.session.get_one(StripeLeg, leg_id)
    attempt = db.session.get_one(CheckoutAttempt, leg.attempt_id)
    found = attempt.bill.differs(opened.bill)
    if not found:
        return None
    said = f"The page was not shown to the shopper. {'; '.join(found)}."
    open_exception(
        "bill_differs",
        opened.id,
        said,
        order_id=attempt.id,
        amount=opened.bill.total,
        currency=opened.bill.currency,
    )
    return said


@retrying
def _refuse(leg: StripeLeg, why: str) -> None:
    """It was never opened. Where a card was saved already, a person has to know that."""
    log.error("leg.refused", leg=leg.id, why=why)
    with atomic() as session:
        if leg.kind == PAYS_FIRST:
            open_exception(
                "subscription_refused",
                f"{leg.attempt_id}:{leg.part}",
                f"The card is saved, but the subscription to {leg.part} could not begin. {why}",
                order_id=leg.attempt_id,
                amount=leg.amount,
                currency=leg.currency,
            )
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg.id, _CREATING)
            .values(state=LegState.REFUSED, last_error=why, version=StripeLeg.version + 1)
            .execution_options(synchronize_session=False)
        )


def _next_generation(leg_id: int, spent: str) -> str:
    """Commit a new key before it is used; the search has shown that the spent one made nothing.
    Whoever else has come to the same conclusion uses the same key."""
    found = re.fullmatch(r"(.*?)(?::g(\d+))?", spent)
    assert found is not None
    key = f"{found[1]}:g{int(found[2] or 1) + 1}"
    with atomic() as session:
        session.execute(
            update(StripeLeg)
            .where(StripeLeg.id == leg_id, StripeLeg.idempotency_key == spent)
            .values(idempotency_key=key, asked_at=now())
            .execution_options(synchronize_session=False)
        )
    return key
