"""Stripe's own books: its lists for the reconciler and the proof, and money back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.facts import DisputeSeen, Fact, RefundSeen
from gateway import facts
from gateway.calls import plain
from gateway.doors import EXPAND, INTENTS, SESSION, SESSIONS, SUBSCRIPTIONS, Doors
from gateway.webhooks import VerifiedEvent, envelope

LINE_ITEMS = f"{SESSION}/line_items"
MOST_TYPES = 20  # that one call of the list of events takes


@dataclass(frozen=True, slots=True)
class Standing:
    """How a checkout stands in Stripe's ledger; amounts in minor units."""

    state: str  # the intent's status, or the session's while there is no intent
    amount: int
    currency: str
    refunded: int


class Ledger(Doors):
    """What was paid, bought, refunded and told."""

    def standing(self, session_id: str, payment_intent: str | None) -> Standing:
        """What Stripe's ledger says about a session, or about the intent that paid it."""
        if payment_intent is None:
            session = self._get(SESSION, session_id, expand=EXPAND, quick=True)
            state = session["status"]
            intent = session.get("payment_intent")
            if state == "complete" and intent:
                state = intent["status"]
            return Standing(state, session["amount_total"], session["currency"], 0)
        intent = self._intent(payment_intent, quick=True)
        charge = intent.get("latest_charge") or {}
        return Standing(
            intent["status"],
            intent["amount_received" if intent["status"] == "succeeded" else "amount"],
            intent["currency"],
            charge.get("amount_refunded", 0),
        )

    def purchase_of(
        self, payment_intent: str, subscription: str | None = None
    ) -> facts.Purchase | None:
        """What was bought with a payment, or begun as a subscription, as Stripe kept it; None if no
        session led to it."""
        by: Any = {"payment_intent": payment_intent}
        if subscription:  # such a session does not name its intent
            by = {"subscription": subscription}
        read_along = [
            "data.payment_intent",
            "data.shipping_cost.shipping_rate",
            "data.discounts.promotion_code",
            "data.total_details.breakdown",
        ]
        found = self._get(SESSIONS, limit=1, expand=read_along, **by)
        if not found["data"]:
            return None
        session = found["data"][0]
        return facts.purchase(session, list(self._pages(LINE_ITEMS, session["id"])))

    def payer_of(self, payment_intent: str) -> facts.Payer:
        """Who paid, as far as Stripe knows. Raises StripeMissing."""
        return facts.payer(self._intent(payment_intent))

    def refund(self, payment_intent: str, amount: int | None, *, row: str, key: str) -> RefundSeen:
        """Refund ``amount`` (minor units) of a payment, or with None what is left of it: then none
        is given, so that a refund made in the dashboard meanwhile does not change the request.
        ``row`` is the refund row's id."""
        wish: Any = {"payment_intent": payment_intent, "metadata": {"refund_row": row}}
        if amount is not None:
            wish["amount"] = amount
        refund = self._call(lambda client: client.v1.refunds.create(wish, {"idempotency_key": key}))
        return facts.of_refund(plain(refund))

    def refunds_of(self, payment_intent: str) -> list[RefundSeen]:
        """Every refund of a payment, read afresh."""
        return [
            facts.of_refund(refund)
            for refund in self._pages("/v1/refunds", payment_intent=payment_intent)
        ]

    def events_since(self, since: datetime) -> Iterator[tuple[VerifiedEvent, datetime]]:
        """Events of the types we follow, each with Stripe's time (UTC), in no order: the list takes
        only so many types at once."""
        types = list(facts.FOLLOWED_TYPES)
        for start in range(0, len(types), MOST_TYPES):
            for told in self._pages(
                "/v1/events", created=_from(since), types=types[start : start + MOST_TYPES]
            ):
                verified = envelope(
                    told, json.dumps(told, separators=(",", ":")), livemode=self.livemode
                )
                created = facts.time_of(told["created"])
                assert created is not None
                yield verified, created

    def sessions_since(self, since: datetime) -> Iterator[tuple[str, tuple[Fact, ...]]]:
        """Checkout sessions of this shop's kind created since then (UTC), newest first: each one's
        attempt id and what it says, its payment intent read along with it."""
        read_along = ["data.payment_intent", "data.payment_intent.latest_charge"]
        for told in self._pages(SESSIONS, created=_from(since), expand=read_along):
            attempt_id = (told.get("metadata") or {}).get(facts.ATTEMPT_KEY)
            if attempt_id:
                yield attempt_id, facts.of_session(told)

    def intents_since(self, since: datetime) -> Iterator[tuple[str, tuple[Fact, ...]]]:
        """The same of payment intents, which have no session when they were paid on our page."""
        for intent in self.payments_since(since):
            attempt_id = (intent.get("metadata") or {}).get(facts.ATTEMPT_KEY)
            if attempt_id:
                yield attempt_id, facts.of_intent(intent)

    def invoices_since(self, since: datetime) -> Iterator[tuple[str, tuple[Fact, ...]]]:
        """The same of paid invoices of subscriptions, whose intents do not name the attempt."""
        for invoice in self.paid_invoices_since(since):
            attempt_id = facts.attempt_of_invoice(invoice)
            if attempt_id:
                owner = facts.subscription_of_invoice(invoice)
                subscription = self._subscription(owner) if owner else None
                yield attempt_id, facts.of_invoice(invoice, subscription, self._payer(invoice))

    def paid_invoices_since(self, since: datetime) -> Iterator[dict[str, Any]]:
        """Stripe's own ledger of subscriptions: paid invoices as plain dicts, newest first."""
        return self._pages(
            "/v1/invoices", created=_from(since), status="paid", expand=["data.payments"]
        )

    def disputes_since(self, since: datetime) -> Iterator[DisputeSeen]:
        """Disputes opened since then (UTC), newest first."""
        for dispute in self._pages("/v1/disputes", created=_from(since)):
            yield facts.of_dispute(dispute)

    def subscriptions_since(self, since: datetime) -> Iterator[tuple[str, str, str]]:
        """Subscriptions of this shop's kind begun since then (UTC): id and status of each, and the
        attempt that it names."""
        for told in self._pages(SUBSCRIPTIONS, created=_from(since), status="all"):
            attempt_id = facts.attempt_of(told)
            if attempt_id:
                yield told["id"], told["status"], attempt_id

    def payments_since(self, since: datetime) -> Iterator[dict[str, Any]]:
        """Stripe's own ledger: payment intents as plain dicts, newest first."""
        return self._pages(INTENTS, created=_from(since), expand=["data.latest_charge"])


def _from(since: datetime) -> dict[str, int]:
    return {"gte": int(since.timestamp())}
