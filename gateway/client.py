"""Calls to Stripe, with timeouts, our own idempotency keys, and errors that say what is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import stripe

from domain.clock import now
from domain.errors import (
    StripeBusy,
    StripeMissing,
    StripeRefused,
    StripeReplayedFailure,
    StripeUnavailable,
    UnverifiedEvent,
)
from domain.facts import Fact, RefundSeen
from gateway import facts

# Heroku cuts a request at 30 s; two tries of 3 + 8 s stay below it. The SDK alone waits 80 s.
CONNECT_S, READ_S = 3, 8
QUICK_CONNECT_S, QUICK_READ_S = 1, 2  # on the success page a person is waiting: 3 s in all
NETWORK_RETRIES = 1  # StripeClient itself retries nothing unless told to
TOLERANCE_S = 300  # Stripe's own default for the age of a signature
PAGE = 100  # the largest page that Stripe's lists give
MOST_TYPES = 20  # that one call of the list of events takes
_EXPAND = {
    "expand": [
        "payment_intent",
        "payment_intent.latest_charge",
        "invoice.payments",
        "subscription.latest_invoice",
    ]
}
UNREACHED = (
    "We could not reach the payment service. Nothing was charged, and your basket is kept. "
    "Please try again in a moment."
)


class CalledInsideTransaction(RuntimeError):
    """Stripe was about to be called while a database transaction was open (rule R1)."""


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """An event that Stripe signed. ``ignored`` says why it is none of our business."""

    id: str
    type: str
    object_id: str | None
    api_version: str | None
    livemode: bool
    payload: str
    ignored: str | None = None


@dataclass(frozen=True, slots=True)
class OpenedLeg:
    """What can be paid: at ``url``, or on a page of ours with the ``client_secret``."""

    id: str
    url: str | None = None
    client_secret: str | None = None
    payment_intent: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a checkout stands in Stripe's ledger; amounts in minor units."""

    state: str  # the intent's status, or the session's while there is no intent
    amount: int
    currency: str
    refunded: int


class StripeGateway:
    """Every call we make to Stripe. Raises the Stripe errors of ``domain.errors`` and no others."""

    def __init__(
        self,
        *,
        secret_key: str,
        webhook_secrets: tuple[str, ...],
        api_base: str | None = None,
        in_transaction: Callable[[], bool] = lambda: False,
        transport: Any = None,
    ) -> None:
        """``transport`` replaces the SDK's HTTP client: the storm's needs no socket."""
        self.livemode = secret_key.startswith(("sk_live_", "rk_live_"))
        self._secrets = webhook_secrets
        self._in_transaction = in_transaction
        bases: Any = {"api": api_base} if api_base else {}

        def client(timeout: tuple[int, int], retries: int) -> stripe.StripeClient:
            http = transport or stripe.RequestsClient(timeout=timeout)
            return stripe.StripeClient(
                secret_key, base_addresses=bases, http_client=http, max_network_retries=retries
            )

        self._patient = client((CONNECT_S, READ_S), NETWORK_RETRIES)
        self._quick = client((QUICK_CONNECT_S, QUICK_READ_S), 0)

    # -- webhooks

    def verify(self, body: bytes, signature: str) -> VerifiedEvent:
        """Check the signature over the raw bytes, then read the envelope.

        Accepts any of our secrets (rotation), signatures up to 300 s old, and none from more than
        300 s ahead, which the SDK itself would let pass. Raises UnverifiedEvent.
        """
        try:
            text = body.decode()
            self._check_signature(text, signature)
            event = json.loads(text)
            return self._envelope(event, text)
        except UnverifiedEvent:
            raise
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise UnverifiedEvent(f"This is no event: {type(error).__name__}.") from error

    def _check_signature(self, text: str, signature: str) -> None:
        if not signature.isascii():
            raise UnverifiedEvent("The signature header is malformed.")
        for secret in self._secrets:
            try:
                stripe.WebhookSignature.verify_header(text, signature, secret, tolerance=None)
                break
            except stripe.SignatureVerificationError:
                continue
        else:
            raise UnverifiedEvent("The signature does not match any of our secrets.")
        stamp = next(part[2:] for part in signature.split(",") if part.startswith("t="))
        if abs(now().timestamp() - int(stamp)) > TOLERANCE_S:
            raise UnverifiedEvent("The signature's time is more than 300 seconds off our clock.")

    def _envelope(self, event: Any, text: str) -> VerifiedEvent:
        if not isinstance(event, dict) or not isinstance(event.get("id"), str):
            raise UnverifiedEvent("This is no event: it has no id.")
        body = (event.get("data") or {}).get("object") or {}
        livemode = bool(event.get("livemode"))
        reason = None
        if event.get("object") != "event":
            reason = "a thin event carries no object"
        elif livemode != self.livemode:
            reason = f"a {'live' if livemode else 'test'} event, but this shop runs on other keys"
        elif event.get("account"):
            reason = "it belongs to a connected account"
        return VerifiedEvent(
            id=event["id"][:255],
            type=str(event["type"])[:80],
            object_id=body.get("id"),
            api_version=event.get("api_version"),
            livemode=livemode,
            payload=text,
            ignored=reason,
        )

    # -- legs: each kind can be opened, found again, looked at and closed

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
        return _LEGS[kind].find(self, parameters, attempt_id, since, known)

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
        return _opened(session)

    def find_session(
        self,
        parameters: dict[str, Any],
        attempt_id: str,
        since: datetime,
        known: Collection[str],
    ) -> OpenedLeg | None:
        for session in self._pages(
            lambda client, page: client.v1.checkout.sessions.list(
                {"created": {"gte": int(since.timestamp()) - 60}, "limit": PAGE, **page}
            )
        ):
            if session["client_reference_id"] == attempt_id and session["id"] not in known:
                return _opened(session)
        return None

    def read_session(self, session_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a session and its intent in one read; at what paid the invoice of one that
        subscribes in a second. Raises StripeMissing."""
        session = _plain(
            self._call(
                lambda client: client.v1.checkout.sessions.retrieve(session_id, _EXPAND),  # type: ignore[arg-type]
                quick=quick,
            )
        )
        invoice = session.get("invoice")
        return facts.of_session(session, self._payer(invoice, quick=quick) if invoice else None)

    def _payer(self, invoice: dict[str, Any], *, quick: bool = False) -> dict[str, Any] | None:
        """The intent that paid an invoice, or is to pay it."""
        intent_id = facts.payer_of_invoice(invoice)
        return self._intent(intent_id, quick=quick) if intent_id else None

    def _intent(self, intent_id: str, *, quick: bool = False) -> dict[str, Any]:
        return _plain(
            self._call(
                lambda client: client.v1.payment_intents.retrieve(
                    intent_id, {"expand": ["latest_charge"]}
                ),
                quick=quick,
            )
        )

    def purchase_of(
        self, payment_intent: str, subscription: str | None = None
    ) -> facts.Purchase | None:
        """What was bought with a payment, or begun as a subscription, as Stripe kept it; None if no
        session led to it."""
        by: Any = {"payment_intent": payment_intent}
        if subscription:  # such a session does not name its intent
            by = {"subscription": subscription}
        found = self._call(
            lambda client: client.v1.checkout.sessions.list(
                {
                    **by,
                    "limit": 1,
                    "expand": ["data.payment_intent", "data.shipping_cost.shipping_rate"],
                }
            )
        )
        if not found["data"]:
            return None
        session = _plain(found["data"][0])
        items = self._pages(
            lambda client, page: client.v1.checkout.sessions.line_items.list(
                session["id"], {"limit": PAGE, **page}
            )
        )
        return facts.purchase(session, [_plain(item) for item in items])

    def payer_of(self, payment_intent: str) -> facts.Payer:
        """Who paid, as far as Stripe knows. Raises StripeMissing."""
        return facts.payer(self._intent(payment_intent))

    def expire_session(self, session_id: str, why: str = "") -> tuple[Fact, ...]:
        """Make a session unpayable, or say what has become of it instead. Stripe asks no reason."""
        try:
            session = self._call(lambda client: client.v1.checkout.sessions.expire(session_id))
        except StripeRefused:  # "only open sessions can be expired": it is something else by now
            return self.read_session(session_id)
        return facts.of_session(_plain(session))

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
        return _opened_intent(_plain(intent))

    def find_intent(
        self,
        parameters: dict[str, Any],
        attempt_id: str,
        since: datetime,
        known: Collection[str],
    ) -> OpenedLeg | None:
        for intent in self._pages(
            lambda client, page: client.v1.payment_intents.list(
                {"created": {"gte": int(since.timestamp()) - 60}, "limit": PAGE, **page}
            )
        ):
            plain = _plain(intent)
            named = (plain.get("metadata") or {}).get(facts.ATTEMPT_KEY) == attempt_id
            if named and plain["id"] not in known and plain["status"] != "canceled":
                return _opened_intent(plain)
        return None

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
        return facts.of_intent_leg(_plain(intent))

    # -- what saves a card, and what is paid with it again and again

    def open_customer(self, name: str | None, email: str | None, key: str) -> str:
        """Create a customer; the same key always gives the same one. Returns its id."""
        wish: Any = {name_: told for name_, told in (("name", name), ("email", email)) if told}
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
        return OpenedLeg(setup["id"], client_secret=setup["client_secret"])

    def find_setup(
        self,
        parameters: dict[str, Any],
        attempt_id: str,
        since: datetime,
        known: Collection[str],
    ) -> OpenedLeg | None:
        for setup in self._pages(
            lambda client, page: client.v1.setup_intents.list(
                {"created": {"gte": int(since.timestamp()) - 60}, "limit": PAGE, **page}
            )
        ):
            plain = _plain(setup)
            named = (plain.get("metadata") or {}).get(facts.ATTEMPT_KEY) == attempt_id
            if named and plain["id"] not in known and plain["status"] != "canceled":
                return OpenedLeg(plain["id"], client_secret=plain.get("client_secret"))
        return None

    def read_setup(self, setup_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a setup intent. Raises StripeMissing."""
        setup = self._call(lambda client: client.v1.setup_intents.retrieve(setup_id), quick=quick)
        return facts.of_setup(_plain(setup))

    def cancel_setup(self, setup_id: str, why: str) -> tuple[Fact, ...]:
        """Make a setup intent unusable (they never expire), or say what it is instead."""
        reason: Any = {"cancellation_reason": why}
        try:
            setup = self._call(lambda client: client.v1.setup_intents.cancel(setup_id, reason))
        except StripeRefused:  # the card is saved
            return self.read_setup(setup_id)
        return facts.of_setup(_plain(setup))

    def open_subscription(
        self, parameters: dict[str, Any], key: str, *, quick: bool = False
    ) -> OpenedLeg:
        """Begin a subscription with the card that a setup intent has saved, and say which invoice
        is to be paid first. A decline is no error: the invoice stays open.

        ``parameters``: ``setup_intent``, ``product`` {id, name}, ``subscription``.
        """
        product = parameters["product"]
        setup = _plain(
            self._call(
                lambda client: client.v1.setup_intents.retrieve(parameters["setup_intent"]),
                quick=quick,
            )
        )
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
        return _opened_subscription(_plain(made))

    def _have_product(self, product: dict[str, Any]) -> None:
        """A price that is made on the spot names a product that is there."""
        wish: Any = product
        try:
            self._call(lambda client: client.v1.products.retrieve(product["id"]))
        except StripeMissing:
            try:
                self._call(lambda client: client.v1.products.create(wish))
            except StripeMissing:
                raise
            except StripeRefused:  # made by somebody else this very moment
                self._call(lambda client: client.v1.products.retrieve(product["id"]))

    def find_subscription(
        self,
        parameters: dict[str, Any],
        attempt_id: str,
        since: datetime,
        known: Collection[str],
    ) -> OpenedLeg | None:
        product = parameters["product"]["id"]
        for subscription in self._pages(
            lambda client, page: client.v1.subscriptions.list(
                {
                    "created": {"gte": int(since.timestamp()) - 60},
                    "status": "all",
                    "limit": PAGE,
                    "expand": ["data.latest_invoice"],
                    **page,
                }
            )
        ):
            plain = _plain(subscription)
            named = (plain.get("metadata") or {}).get(facts.ATTEMPT_KEY) == attempt_id
            sold = {facts.id_of(item["price"]["product"]) for item in plain["items"]["data"]}
            if named and product in sold and facts.id_of(plain["latest_invoice"]) not in known:
                return _opened_subscription(plain)
        return None

    def read_invoice(self, invoice_id: str, *, quick: bool = False) -> tuple[Fact, ...]:
        """Look at a subscription's invoice, at what pays it, and at the subscription. Raises
        StripeMissing."""
        invoice = _plain(
            self._call(
                lambda client: client.v1.invoices.retrieve(invoice_id, {"expand": ["payments"]}),
                quick=quick,
            )
        )
        owner = facts.subscription_of_invoice(invoice)
        subscription = self._subscription(owner, quick=quick) if owner else None
        return facts.of_invoice(invoice, subscription, self._payer(invoice, quick=quick))

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
        return (facts.of_subscription(self._subscription(id, quick=quick)),)

    def _subscription(self, id: str, *, quick: bool = False) -> dict[str, Any]:
        return _plain(
            self._call(
                lambda client: client.v1.subscriptions.retrieve(id, {"expand": ["latest_invoice"]}),
                quick=quick,
            )
        )

    def end_subscription(self, id: str) -> None:
        """End it now; what is paid stays paid. Ending it again changes nothing."""
        try:
            self._call(lambda client: client.v1.subscriptions.cancel(id))
        except StripeRefused:  # it has ended already
            self._subscription(id)

    def let_run_out(self, id: str, *, leaves: bool) -> None:
        """Have it end with the period that is paid, or go on after all. Raises StripeRefused if it
        has ended."""
        wish: Any = {"cancel_at_period_end": leaves}
        self._call(lambda client: client.v1.subscriptions.update(id, wish))

    def read(self, kind: str, stripe_id: str) -> tuple[Fact, ...]:
        """Look at what an event is about. Raises StripeMissing."""
        return _READ[kind](self, stripe_id)

    def standing(self, session_id: str, payment_intent: str | None) -> Standing:
        """What Stripe's ledger says about a session, or about the intent that paid it."""
        if payment_intent is None:
            session = _plain(
                self._call(
                    lambda client: client.v1.checkout.sessions.retrieve(session_id, _EXPAND),  # type: ignore[arg-type]
                    quick=True,
                )
            )
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

    # -- money back

    def refund(self, payment_intent: str, amount: int | None, *, row: str, key: str) -> RefundSeen:
        """Refund ``amount`` (minor units) of a payment, or with None what is left of it: then none
        is given, so that a refund made in the dashboard meanwhile does not change the request.
        ``row`` is the refund row's id."""
        wish: Any = {"payment_intent": payment_intent, "metadata": {"refund_row": row}}
        if amount is not None:
            wish["amount"] = amount
        refund = self._call(lambda client: client.v1.refunds.create(wish, {"idempotency_key": key}))
        return facts.of_refund(_plain(refund))

    def refunds_of(self, payment_intent: str) -> list[RefundSeen]:
        """Every refund of a payment, read afresh."""
        return [
            facts.of_refund(_plain(refund))
            for refund in self._pages(
                lambda client, page: client.v1.refunds.list(
                    {"payment_intent": payment_intent, "limit": PAGE, **page}
                )
            )
        ]

    # -- lists, for the reconciler and the proof

    def events_since(self, since: datetime) -> Iterator[tuple[VerifiedEvent, datetime]]:
        """Events of the types we follow, each with Stripe's time (UTC), in no order: the list takes
        only so many types at once."""
        types = list(facts.FOLLOWED_TYPES)
        for start in range(0, len(types), MOST_TYPES):
            asked: Any = {
                "created": {"gte": int(since.timestamp())},
                "types": types[start : start + MOST_TYPES],
                "limit": PAGE,
            }
            for event in self._pages(
                lambda client, page, asked=asked: client.v1.events.list({**asked, **page})  # type: ignore[misc]
            ):
                plain = _plain(event)
                verified = self._envelope(plain, json.dumps(plain, separators=(",", ":")))
                created = facts.time_of(plain["created"])
                assert created is not None
                yield verified, created

    def sessions_since(self, since: datetime) -> Iterator[tuple[str, tuple[Fact, ...]]]:
        """Checkout sessions of this shop's kind created since then (UTC), newest first: each one's
        attempt id and what it says, its payment intent read along with it."""
        for session in self._pages(
            lambda client, page: client.v1.checkout.sessions.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "limit": PAGE,
                    "expand": ["data.payment_intent", "data.payment_intent.latest_charge"],
                    **page,
                }
            )
        ):
            plain = _plain(session)
            attempt_id = (plain.get("metadata") or {}).get(facts.ATTEMPT_KEY)
            if attempt_id:
                yield attempt_id, facts.of_session(plain)

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
        for invoice in self._pages(
            lambda client, page: client.v1.invoices.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "status": "paid",
                    "limit": PAGE,
                    "expand": ["data.payments"],
                    **page,
                }
            )
        ):
            yield _plain(invoice)

    def payments_since(self, since: datetime) -> Iterator[dict[str, Any]]:
        """Stripe's own ledger: payment intents as plain dicts, newest first."""
        for intent in self._pages(
            lambda client, page: client.v1.payment_intents.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "limit": PAGE,
                    "expand": ["data.latest_charge"],
                    **page,
                }
            )
        ):
            yield _plain(intent)

    def webhook_endpoints(self) -> list[dict[str, Any]]:
        """Where Stripe sends events to."""
        return [
            _plain(endpoint)
            for endpoint in self._pages(
                lambda client, page: client.v1.webhook_endpoints.list({"limit": PAGE, **page})
            )
        ]

    def ping(self) -> None:
        """Ask for something small, to see whether address and key are right."""
        self._call(lambda client: client.v1.events.list({"limit": 1}), quick=True)

    # -- how a call is made

    def _pages(self, ask: Callable[[stripe.StripeClient, Any], Any]) -> Iterator[Any]:
        page: dict[str, str] = {}
        while True:
            answer = self._call(lambda client, page=page: ask(client, page))  # type: ignore[misc]
            yield from answer["data"]
            if not answer["has_more"]:
                return
            page = {"starting_after": answer["data"][-1]["id"]}

    def _call(self, ask: Callable[[stripe.StripeClient], Any], *, quick: bool = False) -> Any:
        if self._in_transaction():
            raise CalledInsideTransaction("end the transaction before calling Stripe")
        with _known_errors():
            return ask(self._quick if quick else self._patient)


class _Leg(NamedTuple):
    """How one kind of leg is handled."""

    open: Callable[..., OpenedLeg]
    find: Callable[..., OpenedLeg | None]
    read: Callable[..., tuple[Fact, ...]]
    close: Callable[..., tuple[Fact, ...]]


_LEGS = {
    "session": _Leg(
        StripeGateway.open_session,
        StripeGateway.find_session,
        StripeGateway.read_session,
        StripeGateway.expire_session,
    ),
    "payment_intent": _Leg(
        StripeGateway.open_intent,
        StripeGateway.find_intent,
        StripeGateway.read_intent,
        StripeGateway.cancel_intent,
    ),
    "setup_intent": _Leg(
        StripeGateway.open_setup,
        StripeGateway.find_setup,
        StripeGateway.read_setup,
        StripeGateway.cancel_setup,
    ),
    "invoice": _Leg(  # the first one of a subscription
        StripeGateway.open_subscription,
        StripeGateway.find_subscription,
        StripeGateway.read_invoice,
        StripeGateway.void_invoice,
    ),
}

_READ: dict[str, Callable[..., tuple[Fact, ...]]] = {
    "session": StripeGateway.read_session,
    "invoice": StripeGateway.read_invoice,
    "subscription": StripeGateway.read_subscription,
}


@contextmanager
def _known_errors() -> Iterator[None]:
    """Sort the SDK's errors by what they let us know about the outcome (rule R2)."""
    try:
        yield
    except stripe.IdempotencyError as error:
        # The key was used with other parameters: it will never tell us more. Search instead.
        raise StripeReplayedFailure(UNREACHED) from error
    except stripe.StripeError as error:
        raise _sorted(error) from error


def _sorted(error: stripe.StripeError) -> Exception:
    status = error.http_status
    if status is None or status >= 500:
        headers = {k.lower(): v for k, v in (error.headers or {}).items()}
        if headers.get("idempotent-replayed") == "true":
            return StripeReplayedFailure(UNREACHED)
        return StripeUnavailable(UNREACHED)
    if status in (401, 409, 429):
        return StripeBusy(UNREACHED)
    detail = f"The payment service refused: {error.user_message or error.code or status}"
    return (StripeMissing if status == 404 else StripeRefused)(detail)


def _opened(session: Any) -> OpenedLeg:
    plain = _plain(session)
    return OpenedLeg(
        plain["id"],
        url=plain.get("url"),
        client_secret=plain.get("client_secret"),
        payment_intent=facts.id_of(plain.get("payment_intent")),
    )


def _opened_intent(intent: dict[str, Any]) -> OpenedLeg:
    return OpenedLeg(
        intent["id"], client_secret=intent.get("client_secret"), payment_intent=intent["id"]
    )


def _opened_subscription(subscription: dict[str, Any]) -> OpenedLeg:
    invoice = subscription["latest_invoice"]
    return OpenedLeg(invoice["id"], url=invoice.get("hosted_invoice_url"))


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = value.to_dict(for_json=True)
    return plain
