"""Facts are applied to one locked attempt, and what follows is concluded.

Used by ``settle`` alone, inside its transaction. ``casefile`` holds what the attempt's rows amount
to, ``recurring`` what becomes of its lines that recur.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import current_app

from domain import facts as known
from domain import plans
from domain.bills import Bill
from domain.clock import now
from domain.errors import ShopError
from domain.facts import Fact, LegState
from domain.money import display
from domain.strategies import Moment
from domain.transitions import (
    SETTLING,
    Effect,
    Move,
    Outcome,
    Status,
    decide,
    is_confirmed,
    judge,
    judge_refunds,
)
from extensions import db
from models import Payment, StripeLeg, User
from services import (
    attempts,
    disputes,
    history,
    invoices,
    legs,
    outbox,
    plan_rows,
    refunds,
    stock,
)
from services.announcements import announce
from services.casefile import settles
from services.recurring import Recurring

_ROLES = {
    "settles": "which settles the order",
    "surplus": "which is too much: the order was already paid",
    "mismatch": "which is not what was due",
    "renewal": "which renews a subscription",
}
_OF_PAYMENTS = (known.RefundSeen, known.DisputeSeen)  # they name a payment, and no attempt


class SnapshotMissing(Exception):
    """Money came for an attempt whose person is forgotten, and its order is yet to be made."""

    def __init__(self, payment_intent: str | None, subscription: str | None) -> None:
        super().__init__(payment_intent)
        self.payment_intent, self.subscription = payment_intent, subscription


class Desk(Recurring):
    """Takes facts one by one, and concludes what follows."""

    # -- facts

    def take(self, fact: Fact) -> None:
        if not isinstance(fact, _OF_PAYMENTS) and not self._is_ours(fact):
            return
        if isinstance(fact, (known.PaymentSucceeded, known.LegEnded, known.LegSeen)):
            self._adopt_invoice(fact)
        match fact:
            case known.PaymentSucceeded():
                self._take_payment(fact)
            case known.LegEnded():
                self._take_ending(fact)
            case known.LegSeen():
                self._take_mirror(fact)
            case known.SubscriptionSeen():
                self._take_subscription(fact)
            case known.DisputeSeen():
                if disputes.record(fact, self.attempt.id, self.disputes):
                    self.changed = True
                    sum_ = display(fact.amount, fact.currency)
                    said = f"{fact.dispute_id}: {sum_}, {fact.reason}: {fact.status}"
                    history.noted(self.attempt.id, "dispute", self.cause, said)
            case known.RefundSeen():
                if refunds.record(fact, self.attempt.id):
                    self.changed = True
                    sum_ = display(fact.amount, fact.currency)
                    said = f"{fact.refund_id}: {sum_}, {fact.status}"
                    history.noted(self.attempt.id, "refund", self.cause, said)
                    db.session.flush()
                    settling = [p.payment_intent for p in self.payments if settles(p)]
                    self.refunded = refunds.sum_of(settling)

    def _is_ours(
        self,
        fact: known.PaymentSucceeded | known.LegEnded | known.LegSeen | known.SubscriptionSeen,
    ) -> bool:
        """The object must name this attempt, be no other attempt's leg, and Stripe's customer must
        be this shopper's."""
        said, customer = fact.origin.attempt_id, fact.origin.customer_id
        if fact.leg_id and not self._leg(fact.leg_id):
            said = attempts.owner_of_leg(fact.leg_id) or said
        ours = self.attempt.payment_ui == "elements" or self.attempt.tax_rates is not None
        expected = self.attempt.stripe_customer if ours else None
        if customer and self.attempt.user_id and expected is None:
            user = db.session.get(User, self.attempt.user_id)
            expected = user.stripe_customer_id if user else None
        # A page of ours may be older than the customer: a session names none until it is complete.
        is_our_page = customer is None and self._leg(fact.leg_id) is not None
        is_theirs = expected is None or customer == expected or is_our_page
        if said in (None, self.attempt.id) and is_theirs:
            return True
        intent = getattr(fact, "payment_intent", None)
        object_id = str(intent or fact.leg_id or getattr(fact, "subscription_id", "unknown"))
        self._raise(
            "owner_mismatch",
            object_id,
            f"{object_id} belongs to attempt {said} and customer {customer}; this order belongs to "
            f"attempt {self.attempt.id} and customer {expected}. Nothing was changed.",
        )
        return False

    def _take_payment(self, fact: known.PaymentSucceeded) -> None:
        seen = next((p for p in self.payments if p.payment_intent == fact.payment_intent), None)
        if seen:
            if fact.method and not seen.method:
                seen.method, seen.charge_id = fact.method, fact.charge_id
            self._ignored(f"{fact.payment_intent} is already recorded: one payment, told twice")
            return
        leg = self._leg(fact.leg_id) or self._leg_of_intent(fact.payment_intent)
        role, part = self._purpose(fact, leg)
        payment = Payment(
            payment_intent=fact.payment_intent,
            attempt_id=self.attempt.id,
            leg_id=leg.id if leg else None,
            amount=fact.amount,
            currency=fact.currency,
            role=role,
            part=part,
            invoice=fact.invoice,
            method=fact.method,
            charge_id=fact.charge_id,
            lane=self.cause.lane,
            created_at=now(),
        )
        db.session.add(payment)
        self.payments.append(payment)
        self.new_payments.append(fact.payment_intent)
        if leg and leg.stripe_id == fact.payment_intent and not LegState(leg.state).is_final:
            self._set_leg(leg, LegState.COMPLETE)  # the intent itself is what was to be paid
        self.changed = True
        took = f"{display(fact.amount, fact.currency)} by {fact.payment_intent}"
        history.noted(self.attempt.id, "payment", self.cause, f"{took}, {_ROLES[payment.role]}")
        begins_late = role == "settles" and self.attempt.state == "settled"
        if role == "renewal" or begins_late:  # the order's receipt does not tell of it
            outbox.owe("renewed", fact.payment_intent, order_id=self.attempt.id)
        if role == "renewal":
            announce("subscription.renewed", self.attempt.id, fact.payment_intent)

    def _purpose(self, fact: known.PaymentSucceeded, leg: StripeLeg | None) -> tuple[str, str]:
        """What this money is for: its role, and the part of the checkout that it pays for."""
        if fact.renews:
            renewed = [row.part for row in self.plans if row.stripe_id == fact.subscription]
            return "renewal", renewed[0] if renewed else plans.ONCE
        part, due, pays_for = self._meant(fact, leg)
        return self._role(fact, due, pays_for), part

    def _meant(
        self, fact: known.PaymentSucceeded, leg: StripeLeg | None
    ) -> tuple[str, int, set[str]]:
        """The part that a payment is for, what was due for it, and all parts that it pays for."""
        pays_for = self._pays_for(leg, fact.invoice)
        part = leg.part if leg and leg.kind == legs.PAYS_FIRST else plans.ONCE
        if pays_for == set(self.due):
            return part, self.attempt.total, pays_for
        return part, sum(self.due.get(one, 0) for one in pays_for), pays_for

    def _role(self, fact: known.PaymentSucceeded, due: int, pays_for: set[str]) -> str:
        """Amount and currency must match to the minor unit (rule R8)."""
        if (fact.amount, fact.currency) != (due, self.attempt.currency):
            self._raise(
                "amount_mismatch",
                fact.payment_intent,
                f"Paid {display(fact.amount, fact.currency)}, due "
                f"{display(due, self.attempt.currency)}. The order is not paid.",
                fact.amount,
                fact.currency,
            )
            return "mismatch"
        if pays_for & self._paid_for():
            self._raise(
                "duplicate_payment",
                fact.payment_intent,
                "This order was already paid by another payment; what is left of this one is "
                "refunded.",
                fact.amount,
                fact.currency,
            )
            refunds.owe(fact.payment_intent, self.attempt.id, "paid twice")
            if fact.subscription:  # it must not renew what was paid twice
                self._owe_end(fact.subscription)
            return "surplus"
        if self.attempt.state == "settled" and not self._hold_again(pays_for):
            self._raise(
                "late_payment",
                fact.payment_intent,
                "Paid after this line had ended, and there is none left of it.",
                fact.amount,
                fact.currency,
            )
            if _settings().late_payment == "refund":
                refunds.owe(fact.payment_intent, self.attempt.id, "paid too late")
            if fact.subscription:
                self._owe_end(fact.subscription)
            return "surplus"
        return "settles"

    def _take_ending(self, fact: known.LegEnded) -> None:
        leg = self._leg(fact.leg_id) or self._adopt(fact)
        if leg is None:
            self._ignored(f"{fact.leg_id} is no leg of this order; its session decides")
            return
        if fact.payment_intent and not leg.payment_intent:
            leg.payment_intent = fact.payment_intent
        if fact.address and self.order and not (self.order.address or self.attempt.erased_at):
            self.order.address = fact.address
        if fact.bill and leg.is_ours:
            self._compare(fact.leg_id, fact.bill)
        if LegState(leg.state).is_final:
            self._ignored(f"{fact.leg_id} has already ended as {leg.state}")
            return
        self._set_leg(leg, fact.state)

    def _compare(self, session_id: str, theirs: Bill) -> None:
        """Amount and currency decide whether it is paid (see ``_role``). Where they are right, and
        discount or tax in them are not ours, a person is told once Stripe's bill is final."""
        ours = self.attempt.bill
        found = ours.differs(theirs)
        if found and (ours.total, ours.currency) == (theirs.total, theirs.currency):
            said = f"The page was paid, and adds up differently. {'; '.join(found)}."
            self._raise("bill_differs", session_id, said, theirs.total, theirs.currency)

    def _take_mirror(self, fact: known.LegSeen) -> None:
        leg = self._leg(fact.leg_id)
        if leg is None or LegState(leg.state).is_final:
            return
        if fact.payment_intent:
            leg.payment_intent = fact.payment_intent
        if (leg.state, leg.failure) != (fact.state, fact.failure):
            leg.failure = fact.failure
            self._set_leg(leg, fact.state)

    def _adopt(self, fact: known.LegEnded) -> StripeLeg | None:
        """A session that carries our metadata but is in no row: the answer to our call was lost,
        or somebody else opened it. What else ends without a row is no leg of this checkout."""
        if fact.origin.attempt_id != self.attempt.id or not fact.leg_id.startswith("cs_"):
            return None
        leg = None
        if fact.origin.by_us:
            asked = [leg for leg in self.legs if leg.kind == legs.PAYS_ALL]
            leg = next((leg for leg in asked if leg.state == LegState.CREATING), None)
        if leg is None:
            leg = StripeLeg(
                attempt_id=self.attempt.id,
                kind=legs.PAYS_ALL,
                part=plans.ONCE,
                is_ours=False,
                amount=self.attempt.total,
                currency=self.attempt.currency,
                state=LegState.OPEN,
                deadline=self.attempt.deadline,
                version=1,
            )
            db.session.add(leg)
            self.legs.append(leg)
        leg.stripe_id = fact.leg_id
        leg.payment_intent = fact.payment_intent
        return leg

    # -- what follows

    def conclude(self, *, verbose: bool) -> None:
        """Let the table say what the rows amount to, and do what it owes."""
        was_confirmed = self.attempt.state == "settled"
        self._owe_subscriptions()
        self._tell_what_nobody_paid()
        outcome = judge(
            confirmed=is_confirmed(self.due, self._covered()),
            legs=[leg.view for leg in self.legs],
            cancelling=self.cancelling,
        )
        if outcome is Outcome.PAID and was_confirmed:  # only refunds change what was paid
            outcome = self._judge_refunds() or outcome
        self._decide(outcome, verbose)
        if self.attempt.state == "settled" and not was_confirmed:  # told of both at once
            self._decide(self._judge_refunds(), verbose)
        self._settle_lines()
        self._end_unwanted()
        self._park()
        self._show()

    def _judge_refunds(self) -> Outcome | None:
        return judge_refunds(
            Status(self.attempt.status),
            settled_amount=self._settling() or 0,
            refunded=self.refunded,
            goes_on=plan_rows.runs(self.plans) or any(map(_is_asked_for, self.legs)),
        )

    def _decide(self, outcome: Outcome | None, verbose: bool) -> None:
        if outcome:
            decision = decide(Status(self.attempt.status), outcome)
            if isinstance(decision, Move):
                self._move(outcome, decision)
            elif verbose and not self.changed and not self.has_ignored:
                self._ignored(decision.why)

    def _park(self) -> None:
        """Out of the shopper's hands: the bank, or a person here, decides. Meanwhile the shopper
        may buy something else, and so its lines are out of the cart in every strategy."""
        parked = self.attempt.state == "open" and (
            any(leg.state == LegState.PROCESSING for leg in self.legs)
            or any(payment.role == "mismatch" for payment in self.payments)
        )
        if parked:
            attempts.take_lines(self.attempt)
        self.attempt.is_processing = parked

    def _unpark(self) -> None:
        """Back in the shopper's hands, and its lines where its strategy has them by now."""
        reached = Moment.RETURN if self.order else Moment.START
        if self.attempt.is_processing and reached < self.attempt.strategy.lines_leave_cart:
            attempts.return_lines(self.attempt)
        self.attempt.is_processing = False

    def replace(self, leg_id: int, payment_ui: str | None = None) -> bool:
        """A retry, or another way to pay: open a new leg in the place of ``leg_id``, which is
        closed at Stripe by now.

        False, and nothing is changed, if it was paid, if the bank is still deciding, or if
        somebody else has replaced it already. Raises OutOfStock, ProductUnavailable, Conflict.
        """
        previous = [leg for leg in self.legs if leg.is_ours][-1]
        if previous.id != leg_id or not all(LegState(leg.state).is_final for leg in self.legs):
            return False
        is_done = any(  # or nothing was due
            leg.state == LegState.COMPLETE for leg in self.legs if leg.kind != legs.SAVES_CARD
        )
        if self.payments or is_done or self.attempt.purged_at:
            return False
        if payment_ui and self.attempt.state != "open":
            return False  # another way to pay revives nothing; only a retry does
        before = Status(self.attempt.status)
        decision = decide(before, Outcome.RETRIED)
        if isinstance(decision, Move):
            stock.must_be_sold(self.attempt.lines)
            attempts.take_lines_again(self.attempt, self.cause)
            self.attempt.status, self.attempt.state, self.attempt.hold = decision.to, "open", "held"
            self.attempt.closed_at = None
            self.stock_moves += [(stock.hold, line) for line in self.attempt.lines]
            history.moved(self.attempt.id, before, decision.to, self.cause, str(Outcome.RETRIED))
        elif self.attempt.state != "open":
            return False
        self._unpark()
        db.session.flush()  # the old leg gives up its place in the index before the new one comes
        self.attempt.payment_ui = payment_ui or self.attempt.payment_ui
        opened = legs.opening(self.attempt, self.legs)
        db.session.add_all(opened)
        self.legs += opened
        self.attempt.deadline = opened[0].deadline
        self.attempt.next_look_at = now() + timedelta(seconds=_settings().reconcile_seconds)
        self.changed = True
        history.noted(
            self.attempt.id, "note", self.cause, f"tried again, in place of {previous.stripe_id}"
        )
        if self.order:
            self.order.is_provisional = self.attempt.strategy.provisional
        self._show()
        return True

    def _move(self, outcome: Outcome, move: Move) -> None:
        if Effect.RETAKE_STOCK in move.effects and not self._take_back():
            return
        if outcome is Outcome.PAID:
            if self.order is None and self.attempt.purged_at:
                paid = next((p.payment_intent for p in self.payments), None)
                raise SnapshotMissing(paid, next((row.stripe_id for row in self.plans), None))
            self.order = attempts.reach(self.attempt, Moment.PAYMENT, self.cause, self.order)
        before = Status(self.attempt.status)
        self.attempt.status = move.to
        self.attempt.state = "settled" if outcome in SETTLING else "closed"
        self.attempt.closed_at = now()
        self.changed = True
        history.moved(self.attempt.id, before, move.to, self.cause, detail=str(outcome))
        if outcome is Outcome.PAID:
            self._confirm()
        if outcome is Outcome.REFUNDED:  # what is owed and not asked for shall not be charged
            for leg in self.legs:
                if leg.kind == legs.PAYS_FIRST and leg.state == LegState.CREATING:
                    self._set_leg(leg, LegState.CANCELED)
        for effect in move.effects:
            EFFECTS[effect](self)

    def _confirm(self) -> None:
        assert self.order is not None
        settling = sorted(filter(settles, self.payments), key=lambda p: p.part != plans.ONCE)
        paid = next(iter(settling), None)
        self.order.payment_intent = paid.payment_intent if paid else None
        self.is_new_sale = self.order.paid_at is None  # and not one whose refund failed
        self.order.paid_at = self.order.locked_at = now()
        self.order.paid_lane = self.cause.lane

    def _take_back(self) -> bool:
        """Late money: hold the stock again, or leave the payment to a person (rule R9)."""
        reason = None
        attempts.lock_cart(self.attempt)  # nobody checks these lines out while we look
        if attempts.bought_or_out_again(self.attempt):
            reason = "the same lines were checked out again meanwhile"
        else:
            try:
                with db.session.begin_nested():
                    stock.hold(self.attempt.lines)
            except ShopError as error:
                reason = error.message
        if reason is None:
            self.attempt.hold = "held"
            return True
        for payment in self.payments:
            if settles(payment):
                payment.role = "surplus"
                self._raise(
                    "late_payment",
                    payment.payment_intent,
                    f"Paid after this order had ended, and it cannot be filled: {reason}",
                    payment.amount,
                    payment.currency,
                )
                if _settings().late_payment == "refund":
                    refunds.owe(payment.payment_intent, self.attempt.id, "paid too late")
        return False

    def _show(self) -> None:
        """Write what the shopper and the admin see, if it changed."""
        order = self.order
        if order is None:
            return
        decided = self.attempt.state != "open"
        ours = [leg for leg in self.legs if leg.is_ours]
        newest = ours[-1] if ours else None
        shown = {
            "status": self.attempt.status,
            "payment_status": self.payment_status(),
            "failure_reason": newest.failure if newest and not order.paid_at else None,
            "sync_status": "synced" if decided else "syncing",
            "is_provisional": order.is_provisional and not decided,
            "payment_intent": order.payment_intent
            if order.paid_at
            else newest and newest.payment_intent,
            "refunded": self.refunded if order.paid_at else 0,
        }
        if any(getattr(order, name) != value for name, value in shown.items()):
            for name, value in shown.items():
                setattr(order, name, value)
            order.version += 1

    # -- effects

    def release_stock(self) -> None:
        if self.attempt.hold == "held":
            self.attempt.hold = "released"
            self.stock_moves += [(stock.release, line) for line in self.attempt.lines]

    def sell_stock(self) -> None:
        """What recurs stays held until its own first payment is decided."""
        self.attempt.hold = "sold"
        once = [line for line in self.attempt.lines if not plans.recurs(line)]
        self.stock_moves += [(stock.sell, line) for line in once]

    def carry_out(self) -> None:
        """The rows that everybody wants come last, because they are locked shortest then: the
        stock, and the counter of invoices. Flush before."""
        stock.carry_out(self.stock_moves)
        if self.is_new_sale:
            invoices.issue(self.attempt.id)

    def return_lines(self) -> None:
        attempts.return_lines(self.attempt)

    def tell_failure(self) -> None:
        key = f"{self.attempt.id}:{len(self.legs)}"  # a retry may fail for good as well
        outbox.owe("payment_failed", key, order_id=self.attempt.id)

    def send_receipt(self) -> None:
        outbox.owe("receipt", self.attempt.id, order_id=self.attempt.id)


def _settings() -> Any:
    return current_app.extensions["settings"]


def _is_asked_for(leg: StripeLeg) -> bool:
    """Whether Stripe may be collecting a first invoice."""
    return leg.kind == legs.PAYS_FIRST and leg.state in known.LIVE and leg.asked_at is not None


EFFECTS = {
    Effect.SELL_STOCK: Desk.sell_stock,
    Effect.RELEASE_STOCK: Desk.release_stock,
    Effect.RETURN_LINES: Desk.return_lines,
    Effect.SEND_RECEIPT: Desk.send_receipt,
    Effect.TELL_FAILURE: Desk.tell_failure,
    Effect.RETAKE_STOCK: lambda desk: None,  # done before the move, which depends on it
}
