"""Whether the shop and Stripe say the same about an order: state, amount, currency, refunded, and
the status of each subscription and dispute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.clock import now
from domain.errors import StripeError
from domain.facts import DisputeSeen, LegEnded, LegSeen, LegState, SubscriptionSeen
from domain.money import display
from extensions import reading
from gateway import current_gateway
from models import Dispute, StripeLeg
from services import disputes, legs, refunds
from services.orders import Dossier


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    shop: str
    stripe: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    rows: list[Row]
    checked_at: datetime

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def ok_count(self) -> int:
        return sum(row.ok for row in self.rows)


def of(case: Dossier) -> Agreement | None:
    """Ask Stripe now; None while there is nothing there to compare with, or it does not answer.

    Call it outside any transaction.
    """
    leg = case.legs[-1] if case.legs else None
    if leg is None or (leg.stripe_id is None and not case.settling):
        return None
    try:
        money = _payments(case) if case.settling else _leg(leg)
        claims = [_dispute(row) for row in disputes.of_order(case.attempt.id)]
        return Agreement(money + _bill(case) + _subscriptions(case) + claims, now())
    except StripeError:
        return None


def _bill(case: Dossier) -> list[Row]:
    """Discount and tax, where an order has any: Stripe's page says what it made of them."""
    attempt = case.attempt
    pages = [leg.stripe_id for leg in case.legs if leg.is_ours and leg.session_id]
    if not pages or (attempt.code is None and attempt.tax_rates is None):
        return []
    theirs = current_gateway().bill(str(pages[-1]))
    if theirs is None:
        return []
    ours, there = attempt.bill, (theirs.currency,)
    return [
        _money("Discount", ours.discount, ours.currency, theirs.discount, *there),
        _money("Tax", ours.tax, ours.currency, theirs.tax, *there),
    ]


def _payments(case: Dossier) -> list[Row]:
    """All that paid for the order, taken together."""
    intents = [payment.payment_intent for payment in case.settling]
    ledger = [current_gateway().standing(intent, intent) for intent in intents]
    with reading():
        refunded = refunds.at_stripe(intents)
    currency = case.settling[0].currency
    theirs = next((one.currency for one in ledger if one.currency != currency), currency)
    state = next((one.state for one in ledger if one.state != "succeeded"), "succeeded")
    return [
        Row("State", "paid", state, _same_state("paid", state)),
        _money(
            "Amount",
            sum(payment.amount for payment in case.settling),
            currency,
            sum(one.amount for one in ledger),
            theirs,
        ),
        Row("Currency", currency.upper(), theirs.upper(), currency == theirs),
        _money("Refunded", refunded, currency, sum(one.refunded for one in ledger), theirs),
    ]


def _leg(leg: StripeLeg) -> list[Row]:
    """What it can be paid through, or a card be saved with, while nothing is paid."""
    assert leg.stripe_id is not None
    ours = LegState(leg.state).value
    if leg.kind in (legs.SAVES_CARD, legs.PAYS_FIRST):
        told = current_gateway().read_leg(leg.kind, leg.stripe_id, quick=True)
        state = next(
            (str(fact.state) for fact in told if isinstance(fact, (LegSeen, LegEnded))), "unknown"
        )
        return [Row("State", ours, state, ours == state)]
    # A payment on our own page has no session.
    intent = leg.stripe_id if leg.stripe_id == leg.payment_intent else None
    ledger = current_gateway().standing(leg.stripe_id, intent)
    currency = leg.currency
    return [
        Row("State", ours, ledger.state, _same_state(ours, ledger.state)),
        _money("Amount", leg.amount, currency, ledger.amount, ledger.currency),
        Row("Currency", currency.upper(), ledger.currency.upper(), currency == ledger.currency),
        _money("Refunded", 0, currency, ledger.refunded, ledger.currency),
    ]


def _subscriptions(case: Dossier) -> list[Row]:
    """One row for each subscription at Stripe."""
    first = {row.stripe_id: row for row in reversed(case.plans)}
    return [
        _subscription(
            ", ".join(row.title for row in case.plans if row.stripe_id == stripe_id),
            first[stripe_id].status,
            stripe_id,
        )
        for stripe_id in dict.fromkeys(row.stripe_id for row in case.plans)
    ]


def _subscription(title: str, ours: str, stripe_id: str) -> Row:
    told = current_gateway().read_subscription(stripe_id, quick=True)
    theirs = next((fact.status for fact in told if isinstance(fact, SubscriptionSeen)), "unknown")
    return Row(title, ours.replace("_", " "), theirs.replace("_", " "), ours == theirs)


def _dispute(row: Dispute) -> Row:
    told = current_gateway().read_dispute(row.stripe_id)
    theirs = next((fact.status for fact in told if isinstance(fact, DisputeSeen)), "unknown")
    same = row.status == theirs
    return Row("Dispute", row.status.replace("_", " "), theirs.replace("_", " "), same)


_SAME = {
    "paid": ("succeeded",),
    "open": ("requires_payment_method", "requires_confirmation", "requires_action"),
    "expired": ("canceled",),
    "failed": ("requires_payment_method", "canceled"),
}


def _same_state(ours: str, theirs: str) -> bool:
    return ours == theirs or theirs in _SAME.get(ours, ())


def _money(label: str, ours: int, our_currency: str, theirs: int, their_currency: str) -> Row:
    shop, stripe = display(ours, our_currency), display(theirs, their_currency)
    return Row(label, shop, stripe, shop == stripe)
