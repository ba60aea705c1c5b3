"""What a shopper can pay through or save a card with: each kind can be opened, found again, looked
at and closed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from domain.bills import Bill
from domain.errors import (
    StripeMissing,
    StripeRefused,
    StripeReplayedFailure,
    StripeUnavailable,
)
from domain.facts import Fact
from gateway import facts
from gateway.calls import UNREACHED, Calls, plain

SESSIONS, SESSION = "/v1/checkout/sessions", "/v1/checkout/sessions/{}"
INTENTS, INTENT = "/v1/payment_intents", "/v1/payment_intents/{}"
SETUPS, SETUP = "/v1/setup_intents", "/v1/setup_intents/{}"
SUBSCRIPTIONS, SUBSCRIPTION = "/v1/subscriptions", "/v1/subscriptions/{}"

EXPAND = [
    "payment_intent",
    "payment_intent.latest_charge",
    "invoice.payments",
    "subscription.latest_invoice.payments",
]


@dataclass(frozen=True, slots=True)
class OpenedLeg:
    """What can be paid: at ``url``, or on a page of ours with the ``client_secret``."""

    id: str
    url: str | None = None
    client_secret: str | None = None
    payment_intent: str | None = None
    bill: Bill | None = None  # what a session adds up to


class Doors(Calls):
    """Sessions, payment intents, setup intents, subscriptions with their first invoice."""

    def open_leg(
        self, kind: str, parameters: dict[str, Any], key: str, *, quick: bool = False
    ) -> OpenedLeg:
        """Open a leg; the same key and parameters always give the same one."""
        return _LEGS[kind].open(self, parameters, key, quick=quick)

    def find_leg(
        self,
        kind: str,
        parameters: dict[str, Any],
        attempt_id: str,
        since: datetime,
        known: Collection[str],
    ) -> OpenedLeg | None:
        """Look for a leg that a lost answer left behind: one of this attempt, asked for with these
        parameters, created since then (UTC), that is not among those ``known``. Whatever has become
        of it, it is returned."""
        how = _LEGS[kind]
        product = parameters.get("product", {}).get("id")
        since_then = {"gte": int(since.timestamp()) - 60}
        for found in self._pages(how.path, created=since_then, **how.filters):
            opened = how.opened(found)
            if (
                facts.attempt_of(found) == attempt_id
                and opened.id not in known
                and (product is None or product in facts.products_of(found))
            ):
                return opened
        return None

    def read_leg(self, kind: str, stripe_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a leg and its money in one read. Raises StripeMissing."""
        return _LEGS[kind].read(self, stripe_id, quick=quick)

    def close_leg(self, kind: str, stripe_id: str, *, why: str) -> tuple[Fact, ...]:
        """Make a leg unpayable, or say what has become of it instead. ``why`` is one of Stripe's
        reasons for a cancellation."""
        return _LEGS[kind].close(self, stripe_id, why)

    def open_session(
        self, parameters: dict[str, Any], key: str, *, quick: bool = False
    ) -> OpenedLeg:
        """Create a Checkout Session; the same key and parameters always give the same session."""
        session = self._call(
            lambda client: client.v1.checkout.sessions.create(
                parameters,  # type: ignore[arg-type]
                {"idempotency_key": key},
            ),
            quick=quick,
        )
        return _opened(plain(session))

    def read_session(self, session_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a session and its intent in one read; at what paid the invoice of one that
        subscribes in a second. Raises StripeMissing."""
        session = self._get(SESSION, session_id, expand=EXPAND, quick=quick)
        invoice = session.get("invoice")
        return facts.of_session(session, self._payer(invoice, quick=quick) if invoice else None)

    def _payer(self, invoice: dict[str, Any], *, quick: bool = False) -> dict[str, Any] | None:
        """The intent that paid an invoice, or is to pay it."""
        intent_id = facts.payer_of_invoice(invoice)
        return self._intent(intent_id, quick=quick) if intent_id else None

    def _intent(self, intent_id: str, *, quick: bool = False) -> dict[str, Any]:
        return self._get(INTENT, intent_id, expand=["latest_charge"], quick=quick)

    def expire_session(self, session_id: str, why: str = "") -> tuple[Fact, ...]:
        """Make a session unpayable, or say what has become of it instead. Stripe asks no reason."""
        try:
            session = self._call(lambda client: client.v1.checkout.sessions.expire(session_id))
        except StripeRefused:  # "only open sessions can be expired": it is something else by now
            return self.read_session(session_id)
        return facts.of_session(plain(session))

    def open_intent(
        self, parameters: dict[str, Any], key: str, *, quick: bool = False
    ) -> OpenedLeg:
        """Create a PaymentIntent for a page of ours."""
        intent = self._call(
            lambda client: client.v1.payment_intents.create(
                parameters,  # type: ignore[arg-type]
                {"idempotency_key": key},
            ),
            quick=quick,
        )
        return _opened_intent(plain(intent))

    def read_intent(self, intent_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at an intent. Raises StripeMissing."""
        return facts.of_intent_leg(self._intent(intent_id, quick=quick))

    def cancel_intent(self, intent_id: str, why: str) -> tuple[Fact, ...]:
        """Make an intent unpayable (they never expire by themselves), or say what it is instead."""
        reason: Any = {"cancellation_reason": why}
        try:
            intent = self._call(lambda client: client.v1.payment_intents.cancel(intent_id, reason))
        except StripeRefused:  # it succeeded, or the bank has it under way
            return self.read_intent(intent_id)
        return facts.of_intent_leg(plain(intent))

    # -- what saves a card, and what is paid with it again and again

    def open_customer(
        self,
        name: str | None,
        email: str | None,
        key: str,
        shipping: dict[str, Any] | None = None,
    ) -> str:
        """Create a customer, with ``shipping`` one whose parcels go there; the same key always
        gives the same one. Returns its id."""
        given = (("name", name), ("email", email), ("shipping", shipping))
        wish: Any = {name_: told for name_, told in given if told}
        made = self._call(lambda client: client.v1.customers.create(wish, {"idempotency_key": key}))
        return str(made["id"])

    def open_setup(self, parameters: dict[str, Any], key: str, *, quick: bool = False) -> OpenedLeg:
        """Create a SetupIntent for a page of ours."""
        setup = self._call(
            lambda client: client.v1.setup_intents.create(
                parameters,  # type: ignore[arg-type]
                {"idempotency_key": key},
            ),
            quick=quick,
        )
        return _opened(plain(setup))

    def read_setup(self, setup_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a setup intent. Raises StripeMissing."""
        return facts.of_setup(self._get(SETUP, setup_id, quick=quick))

    def cancel_setup(self, setup_id: str, why: str) -> tuple[Fact, ...]:
        """Make a setup intent unusable (they never expire), or say what it is instead."""
        reason: Any = {"cancellation_reason": why}
        try:
            setup = self._call(lambda client: client.v1.setup_intents.cancel(setup_id, reason))
        except StripeRefused:  # the card is saved
            return self.read_setup(setup_id)
        return facts.of_setup(plain(setup))

    def open_subscription(
        self, parameters: dict[str, Any], key: str, *, quick: bool = False
    ) -> OpenedLeg:
        """Begin a subscription with the card that a setup intent has saved, and say which invoice
        is to be paid first. A decline is no error: the invoice stays open.

        ``parameters``: ``setup_intent``, ``product`` {id, name}, ``subscription``.
        """
        product = parameters["product"]
        setup = self._get(SETUP, parameters["setup_intent"], quick=quick)
        self._have_product(product)
        wish = {
            **parameters["subscription"],
            "customer": facts.id_of(setup["customer"]),
            "default_payment_method": facts.id_of(setup["payment_method"]),
            "expand": ["latest_invoice"],
        }
        made = self._call(
            lambda client: client.v1.subscriptions.create(
                wish,  # type: ignore[arg-type]
                {"idempotency_key": key},
            ),
            quick=quick,
        )
        return _opened_subscription(plain(made))

    def _have_product(self, product: dict[str, Any]) -> None:
        """A price that is made on the spot names a product that is there."""
        wish: Any = product
        try:
            self._get("/v1/products/{}", product["id"])
        except StripeMissing:
            try:
                self._call(lambda client: client.v1.products.create(wish))
            except StripeMissing:
                raise
            except StripeReplayedFailure as spent:  # its key, and not that of what it is made for
                raise StripeUnavailable(UNREACHED) from spent
            except StripeRefused:  # made by somebody else this very moment
                self._get("/v1/products/{}", product["id"])

    def read_invoice(self, invoice_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a subscription's invoice, at what pays it, and at the subscription. Raises
        StripeMissing."""
        invoice = self._get("/v1/invoices/{}", invoice_id, expand=["payments"], quick=quick)
        owner = facts.subscription_of_invoice(invoice)
        subscription = self._subscription(owner, quick=quick) if owner else None
        paid_by = self._payer(invoice, quick=quick)
        return facts.of_invoice(invoice, subscription, paid_by, self._latest_payer(subscription))

    def void_invoice(self, invoice_id: str, why: str = "") -> tuple[Fact, ...]:
        """Make a first invoice unpayable, with which its subscription ends, or say what has become
        of it instead. Stripe asks no reason."""
        try:
            self._call(lambda client: client.v1.invoices.void_invoice(invoice_id))
        except StripeMissing:
            raise
        except StripeRefused:  # paid, void already, or its payment is under way
            pass
        return self.read_invoice(invoice_id)

    def read_subscription(self, id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a subscription and its latest invoice. Raises StripeMissing."""
        subscription = self._subscription(id, quick=quick)
        payer = self._latest_payer(subscription)
        return (facts.of_subscription(subscription, paid_by=payer),)

    def _latest_payer(self, subscription: dict[str, Any] | None) -> dict[str, Any] | None:
        """What is to pay a subscription's latest invoice, if that was tried and is not paid: it may
        be under way."""
        if subscription is None or not facts.is_unpaid(subscription.get("latest_invoice")):
            return None
        return self._payer(subscription["latest_invoice"])

    def _subscription(self, id: str, *, quick: bool = False) -> dict[str, Any]:
        return self._get(SUBSCRIPTION, id, expand=["latest_invoice.payments"], quick=quick)

    def end_subscription(self, id: str) -> None:
        """End it now; what is paid stays paid. Ending it again changes nothing."""
        try:
            self._call(lambda client: client.v1.subscriptions.cancel(id))
        except StripeRefused:
            if self._subscription(id)["status"] not in facts.ENDED:
                raise

    def let_run_out(self, id: str, *, leaves: bool) -> None:
        """Have it end with the period that is paid, or go on after all. Raises StripeRefused if it
        has ended."""
        wish: Any = {"cancel_at_period_end": leaves}
        self._call(lambda client: client.v1.subscriptions.update(id, wish))

    def read_dispute(self, id: str) -> tuple[Fact, ...]:
        """Look at a dispute. Raises StripeMissing."""
        return (facts.of_dispute(self._get("/v1/disputes/{}", id)),)

    def read(self, kind: str, stripe_id: str) -> tuple[Fact, ...]:
        """Look at what an event is about. Raises StripeMissing."""
        return _READ[kind](self, stripe_id)


class _Leg(NamedTuple):
    """How one kind of leg is handled."""

    open: Callable[..., OpenedLeg]
    opened: Callable[[dict[str, Any]], OpenedLeg]  # what was opened, from Stripe's object
    path: str  # of the list of all that were opened
    filters: dict[str, Any]
    read: Callable[..., tuple[Fact, ...]]
    close: Callable[..., tuple[Fact, ...]]


def _opened(found: dict[str, Any]) -> OpenedLeg:
    return OpenedLeg(
        found["id"],
        url=found.get("url"),
        client_secret=found.get("client_secret"),
        payment_intent=facts.id_of(found.get("payment_intent")),
        bill=facts.bill_of(found) if found["object"] == "checkout.session" else None,
    )


def _opened_intent(intent: dict[str, Any]) -> OpenedLeg:
    return replace(_opened(intent), payment_intent=intent["id"])


def _opened_subscription(subscription: dict[str, Any]) -> OpenedLeg:
    """What is to be paid of it is its first invoice."""
    invoice = subscription["latest_invoice"]
    return OpenedLeg(invoice["id"], url=invoice.get("hosted_invoice_url"))


_LEGS = {
    "session": _Leg(
        Doors.open_session,
        _opened,
        SESSIONS,
        {},
        Doors.read_session,
        Doors.expire_session,
    ),
    "payment_intent": _Leg(
        Doors.open_intent,
        _opened_intent,
        INTENTS,
        {},
        Doors.read_intent,
        Doors.cancel_intent,
    ),
    "setup_intent": _Leg(
        Doors.open_setup,
        _opened,
        SETUPS,
        {},
        Doors.read_setup,
        Doors.cancel_setup,
    ),
    "invoice": _Leg(  # the first one of a subscription
        Doors.open_subscription,
        _opened_subscription,
        SUBSCRIPTIONS,
        {"status": "all", "expand": ["data.latest_invoice"]},
        Doors.read_invoice,
        Doors.void_invoice,
    ),
}

_READ: dict[str, Callable[..., tuple[Fact, ...]]] = {
    "dispute": Doors.read_dispute,
    "session": Doors.read_session,
    "invoice": Doors.read_invoice,
    "subscription": Doors.read_subscription,
}
