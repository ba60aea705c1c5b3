"""One locked attempt with everything that belongs to it, and what its rows amount to."""

from __future__ import annotations

from collections.abc import Callable

from domain import plans
from domain.facts import LegState
from domain.transitions import (
    PaymentStatus,
    payment_status,
)
from models import CheckoutAttempt, Order, Payment, StripeLeg, Subscription
from services import attempts, disputes, history, legs, plan_rows, refunds, stock
from services.causes import Cause
from services.exceptions import open_exception


class CaseFile:
    """Reads everything once, so that nothing is read again while facts are applied."""

    def __init__(self, attempt: CheckoutAttempt, cause: Cause, cancelling: bool) -> None:
        self.attempt = attempt
        self.cause = cause
        self.cancelling = cancelling
        self.order: Order | None = attempts.order_of(attempt.id)
        self.legs = attempts.legs_of(attempt.id)
        self.due = legs.due_now(attempt)
        self.recurring = plans.recurring(attempt.lines)
        self.plans: list[Subscription] = plan_rows.of(attempt.id) if self.recurring else []
        self.payments = attempts.payments_of(attempt.id)
        self.refunded = refunds.sum_of([p.payment_intent for p in self.payments if settles(p)])
        self.disputes = disputes.of([p.payment_intent for p in self.payments])
        self.new_payments: list[str] = []
        self.changed = False
        self.is_new_sale = False  # its order was paid in this very pass, for the first time
        # Nothing of what goes well the first time was ever an exception: spare it the question.
        self.may_heal = attempt.state != "open" or attempt.failed_looks > 0
        self.has_ignored = False  # and has said why
        self.stock_moves: list[tuple[Callable[[list[stock.Line]], None], stock.Line]] = []

    def is_overtaken(
        self,
        versions: dict[int, int],
        plans_seen: dict[int, int] | None = None,
        disputes_seen: dict[str, int] | None = None,
    ) -> bool:
        """A mirror may be applied only to the row that it was taken of: each of the legs that were
        read, and all subscriptions or disputes, if any of them was."""
        now_there = {leg.id: leg.version for leg in self.legs}
        if any(now_there.get(leg_id) != version for leg_id, version in versions.items()):
            return True
        if plans_seen is not None and plans_seen != {p.id: p.version for p in self.plans}:
            return True
        here = {row.stripe_id: row.version for row in self.disputes}
        return disputes_seen is not None and disputes_seen != here

    def _pays_for(self, leg: StripeLeg | None, invoice: str | None) -> set[str]:
        """The parts of the checkout that money pays for which came through ``leg``, or through
        something that is no leg of ours: one line that recurs, what is bought once, or everything.

        On a page of ours an intent without an invoice pays for no subscription, whoever opened it.
        """
        if leg and leg.kind == legs.PAYS_FIRST:
            return {leg.part}
        on_our_page = leg is None and invoice is None and self.attempt.payment_ui == "elements"
        is_once = on_our_page or (leg is not None and leg.kind == legs.PAYS_ONCE)
        return {plans.ONCE} if is_once else set(self.due)

    def _paid_for(self) -> set[str]:
        """The parts of the checkout that are paid for."""
        found: set[str] = set()
        for payment in filter(settles, self.payments):
            came_by = [leg for leg in self.legs if payment.leg_id and leg.id == payment.leg_id]
            found |= self._pays_for(next(iter(came_by), None), payment.invoice)
        return found

    def _covered(self) -> set[str]:
        """The parts that are paid for, or complete with nothing to pay."""
        found = self._paid_for()
        for leg in self.legs:
            if leg.state != LegState.COMPLETE:
                continue
            if leg.kind == legs.PAYS_ALL and self.attempt.total == 0:
                found |= set(self.due)
            elif leg.kind == legs.PAYS_FIRST and self.due.get(leg.part) == 0:
                found.add(leg.part)
        return found

    def _setup(self) -> StripeLeg | None:
        """The newest leg that saves a card."""
        return next((leg for leg in reversed(self.legs) if leg.kind == legs.SAVES_CARD), None)

    def _first_invoice(self, part: str) -> StripeLeg | None:
        """The leg that pays for a line that recurs, with the card that was saved last."""
        for leg in reversed(self.legs):
            if leg.kind == legs.SAVES_CARD:
                return None
            if leg.kind == legs.PAYS_FIRST and leg.part == part:
                return leg
        return None

    def _leg(self, stripe_id: str | None) -> StripeLeg | None:
        return next((leg for leg in self.legs if stripe_id and leg.stripe_id == stripe_id), None)

    def _leg_of_intent(self, intent: str) -> StripeLeg | None:
        return next((leg for leg in self.legs if leg.payment_intent == intent), None)

    def _settling(self) -> int | None:
        amounts = [payment.amount for payment in self.payments if settles(payment)]
        return sum(amounts) if amounts else None

    def payment_status(self) -> PaymentStatus:
        return payment_status(
            legs=[leg.view for leg in self.legs],
            paid=self.attempt.state == "settled",
            paid_amount=self._settling() or 0,
            refunded=self.refunded,
            disputed=any(map(disputes.is_harmful, self.disputes)),
        )

    def _set_leg(self, leg: StripeLeg, state: LegState) -> None:
        leg.state = state
        leg.version += 1
        self.changed = True

    def _ignored(self, why: str) -> None:
        self.has_ignored = True
        if self.cause.event_id:
            history.noted(self.attempt.id, "ignored", self.cause, why)

    def _raise(
        self,
        type_: str,
        object_id: str,
        detail: str,
        amount: int | None = None,
        currency: str | None = None,
    ) -> None:
        self.changed = True
        open_exception(
            type_, object_id, detail, order_id=self.attempt.id, amount=amount, currency=currency
        )


def settles(payment: Payment) -> bool:
    return payment.role == "settles"
