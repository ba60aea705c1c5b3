"""The lines of an attempt that recur: their cards, first payments, subscriptions and stock."""

from __future__ import annotations

from sqlalchemy import select

from domain import facts as known
from domain import plans
from domain.errors import ShopError
from domain.facts import LegState
from domain.transitions import (
    LineState,
    Status,
    line_state,
)
from extensions import db
from models import OrderItem, StripeLeg, Subscription
from services import history, legs, outbox, plan_rows, stock
from services.announcements import announce
from services.casefile import CaseFile, settles
from services.exceptions import open_exception

# Whose stock is still set aside once the order is confirmed, and whose is free again.
_HELD = (LineState.PENDING, LineState.PAST_DUE)
_TOLD = {LineState.NOT_STARTED: "not_started", LineState.ENDED: "subscription_ended"}


class Recurring(CaseFile):
    """What becomes of them; a desk concludes with it."""

    def _take_subscription(self, fact: known.SubscriptionSeen) -> None:
        leg = self._leg(fact.leg_id) or self._leg(fact.latest_invoice)
        rows = [row for row in self.plans if row.stripe_id == fact.subscription_id]
        rows = rows or self._new_plans(fact, leg)
        is_over = self.attempt.state == "closed" and not rows
        is_over = is_over or (leg is not None and leg.state == LegState.FAILED)
        if is_over and fact.status not in plan_rows.ENDED:  # nobody will pay for it any more
            self._owe_end(fact.subscription_id)
        for row, item in plan_rows.paired(rows, fact.items):
            was = row.status
            if not plan_rows.show(row, fact, item):
                continue
            self.changed = True
            if was != row.status:
                history.noted(
                    self.attempt.id,
                    "plan",
                    self.cause,
                    f"{row.title}: {was or 'new'} → {row.status}",
                )
        if rows and fact.pay_url and fact.latest_invoice:
            outbox.owe("past_due", fact.latest_invoice, order_id=self.attempt.id)
        if rows and fact.status == "canceled":
            is_news = outbox.owe(
                "subscription_ended", fact.subscription_id, order_id=self.attempt.id
            )
            if is_news:
                announce("subscription.ended", self.attempt.id, fact.subscription_id)

    def _new_plans(self, fact: known.SubscriptionSeen, leg: StripeLeg | None) -> list[Subscription]:
        """Rows for a subscription that is seen for the first time: for the line whose first invoice
        led to it, or for all lines of its session. A second one for a line that has one is ended.
        """
        begins = self._begun_by(fact, leg)
        made = []
        for line in self.recurring:
            if line["sku"] not in begins:
                continue
            row = next((row for row in self.plans if row.part == line["sku"]), None)
            if row and row.status not in plan_rows.ENDED:
                self._owe_end(fact.subscription_id)
                return []
            if row is None:
                row = plan_rows.new(self.attempt, line)
                self.plans.append(row)
            made.append(row)
        return made

    def _begun_by(self, fact: known.SubscriptionSeen, leg: StripeLeg | None) -> set[str]:
        """The parts that a subscription was begun for. One that came through no leg of ours was
        begun for what its first invoice has paid for, if that settles the order."""
        is_free = leg and leg.state == LegState.COMPLETE and self.attempt.total == 0
        if leg and (leg.is_ours or is_free):
            return set() if leg.state == LegState.FAILED else self._pays_for(leg, None)
        bills = {fact.leg_id, fact.latest_invoice} - {None}
        paid = any(payment.invoice in bills for payment in filter(settles, self.payments))
        return set(self.due) if paid else set()

    def _owe_end(self, subscription_id: str) -> None:
        outbox.owe("end_subscription", subscription_id, order_id=self.attempt.id)

    def _adopt_invoice(self, fact: known.PaymentSucceeded | known.LegEnded | known.LegSeen) -> None:
        """The first invoice of a line of ours that is in no row: the answer to our call was lost,
        or a backup was restored. Its product says whose it is."""
        is_ours = fact.origin.attempt_id == self.attempt.id and fact.part in self.due
        if not (is_ours and fact.leg_id and fact.part) or self._leg(fact.leg_id):
            return
        if self.attempt.payment_ui != "elements":
            return  # there the session is the leg
        owed = [leg for leg in self.legs if leg.kind == legs.PAYS_FIRST and leg.part == fact.part]
        leg = next((leg for leg in owed if leg.state == LegState.CREATING), None)
        if leg is None:
            leg = legs.found_invoice(self.attempt, fact.part, self.due[fact.part])
            db.session.add(leg)
            self.legs.append(leg)
        leg.stripe_id = fact.leg_id
        self._set_leg(leg, LegState.OPEN)
        db.session.flush()  # a payment of it names it

    def _tell_what_nobody_paid(self) -> None:
        """A first invoice that counts as paid at Stripe without a payment, as when somebody there
        says that it was paid in another way: a person decides about its line."""
        paid = {payment.invoice for payment in self.payments}
        for leg in self.legs:
            is_complete = leg.kind == legs.PAYS_FIRST and leg.state == LegState.COMPLETE
            if is_complete and leg.amount and leg.stripe_id and leg.stripe_id not in paid:
                open_exception(
                    "amount_mismatch",
                    leg.stripe_id,
                    "Stripe counts this invoice as paid, and has no payment for it. Its line does "
                    "not begin by itself.",
                    order_id=self.attempt.id,
                    amount=leg.amount,
                    currency=leg.currency,
                )

    def _owe_subscriptions(self) -> None:
        """A saved card begins the subscriptions of its lines, once the rest is paid. They are legs
        like any other, due now; an effect of the outbox asks Stripe for them."""
        setup = self._setup()
        waits = setup is None or setup.state != LegState.COMPLETE or self.cancelling
        is_over = self.attempt.state == "closed" or self.attempt.status == Status.CANCELLED
        if waits or is_over or self.attempt.payment_ui != "elements":
            return
        assert setup is not None
        covered = self._covered()
        if plans.ONCE in self.due and plans.ONCE not in covered:
            return
        for line in self.recurring:
            part = line["sku"]
            tries = sum(leg.kind == legs.PAYS_FIRST and leg.part == part for leg in self.legs)
            if part in covered or self._first_invoice(part):
                continue
            leg = legs.first_invoice(self.attempt, line, setup, tries)
            db.session.add(leg)
            self.legs.append(leg)
            self.changed = True
            if self.attempt.state == "open":
                self.attempt.deadline = max(self.attempt.deadline, leg.deadline)
            key = (leg.idempotency_key or "").removeprefix("subscription:")
            outbox.owe("subscription", key, order_id=self.attempt.id, part=part)

    def _hold_again(self, pays_for: set[str]) -> bool:
        """A line that had ended is paid after all: set its units aside again, as they were. False
        if there are not enough."""
        if not self.recurring:
            return True
        ended = db.session.scalars(
            select(OrderItem).where(
                OrderItem.order_id == self.attempt.id,
                OrderItem.sku.in_(pays_for),
                OrderItem.state.in_((LineState.ENDED, LineState.NOT_STARTED)),
            )
        ).all()
        lines = {line["sku"]: line for line in self.recurring}
        try:
            with db.session.begin_nested():
                stock.hold([dict(lines[item.sku]) for item in ended])
        except ShopError:
            return False
        for item in ended:
            item.state = LineState.PENDING
        return True

    def _settle_lines(self) -> None:
        """Once the order is confirmed each line that recurs goes its own way, and its stock with
        it: sold when its first amount is paid, free again when it never will be."""
        if self.attempt.state != "settled" or not self.recurring:
            return
        db.session.flush()  # items that are new in this very transaction
        covered, setup = self._covered(), self._setup()
        cancelled = self.attempt.status == Status.CANCELLED
        lines = {line["sku"]: line for line in self.recurring}
        items = db.session.scalars(select(OrderItem).where(OrderItem.order_id == self.attempt.id))
        for item in [item for item in items if item.plan and item.state in _HELD]:
            invoice = self._first_invoice(item.sku)
            state = line_state(
                covered=item.sku in covered,
                setup=LegState(setup.state) if setup else None,
                invoice=LegState(invoice.state) if invoice else None,
                cancelled=cancelled,
            )
            if state == item.state:
                continue
            if state not in _HELD:
                move = stock.sell if state is LineState.ACTIVE else stock.release
                self.stock_moves.append((move, dict(lines[item.sku])))
            history.noted(
                self.attempt.id, "plan", self.cause, f"{item.title}: {item.state} → {state}"
            )
            item.state = state
            self.changed = True
            if state in _TOLD and not cancelled:  # who got all money back was told that
                key = f"{self.attempt.id}:{item.sku}"
                outbox.owe(_TOLD[state], key, order_id=self.attempt.id, part=item.sku)
            if state is LineState.ENDED:
                announce("subscription.ended", self.attempt.id, f"{self.attempt.id}.{item.sku}")

    def _end_unwanted(self) -> None:
        """What runs for an order that has ended unpaid must not renew. Whenever it is seen: its
        money may have been told of, and refused, before anybody knew that it subscribes."""
        for row in self.plans if self.attempt.state == "closed" else ():
            if row.status not in plan_rows.ENDED:
                self._owe_end(row.stripe_id)
