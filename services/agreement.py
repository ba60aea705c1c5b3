"""Whether the shop and Stripe say the same about an order: state, amount, currency, refunded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.clock import now
from domain.errors import StripeError
from domain.facts import LegState
from domain.money import display
from extensions import reading
from gateway import current_gateway
from services import refunds
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
    if leg is None or leg.stripe_id is None:
        return None
    settling = next((payment for payment in case.payments if payment.role == "settles"), None)
    try:
        intent = settling.payment_intent if settling else None
        if intent is None and leg.stripe_id == leg.payment_intent:
            intent = leg.stripe_id  # a payment on our own page has no session
        ledger = current_gateway().standing(leg.stripe_id, intent)
    except StripeError:
        return None
    with reading():
        refunded = refunds.at_stripe([settling.payment_intent] if settling else [])
    ours = "paid" if settling else LegState(leg.state).value
    expected = settling.amount if settling else leg.amount
    currency = settling.currency if settling else leg.currency
    return Agreement(
        [
            Row("State", ours, ledger.state, _same_state(ours, ledger.state)),
            _money("Amount", expected, currency, ledger.amount, ledger.currency),
            Row("Currency", currency.upper(), ledger.currency.upper(), currency == ledger.currency),
            _money("Refunded", refunded, currency, ledger.refunded, ledger.currency),
        ],
        now(),
    )


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
