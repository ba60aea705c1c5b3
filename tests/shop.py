"""The shop under test, as its users meet it: shoppers with browsers, Stripe with webhooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import stripe
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import select
from werkzeug.test import TestResponse

import logs
from app import create_app
from config import Settings, demo_environment, demo_settings
from domain import clock
from extensions import atomic, db, doorbell, limiter, reading
from models import (
    CheckoutAttempt,
    Order,
    OrderEvent,
    OutboxMessage,
    Payment,
    Product,
    ShopException,
    StripeEvent,
    StripeLeg,
)
from sandbox import Delivery, Sandbox, Server, create_sandbox
from services import catalogue, check, inbox, outbox
from services.demo_goods import GOODS
from services.live import Streams

SECRET = "whsec_test_of_the_shop"
ORIGIN = "http://shop.test"
ADDRESS = {
    "name": "Maya Lindqvist",
    "email": "maya@example.com",
    "phone": "",
    "line1": "Sonnenallee 12",
    "line2": "",
    "city": "Berlin",
    "postal_code": "12047",
    "state": "",
    "country": "DE",
    "delivery": "standard",
}
MUG = "MUG-FOR-35"  # plenty
LAMP = "LMP-CLA-BR"  # two left
KETTLE = "KET-PUR-09"  # sold out
COFFEE = "COF-SUB-M"  # every month
PRINTS = "PRT-CLB-M"  # every month, after 14 days free


class Clock:
    """Time that moves when a test says so, for the shop and the sandbox alike."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.moment

    def seconds(self) -> float:
        return self.moment.timestamp()

    def forward(self, **step: float) -> None:
        self.moment += timedelta(**step)


class TestShops:
    """One database, and an app for each set of settings, made once: making one takes longer than
    most tests. Opened with empty tables for each test."""

    __test__ = False

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._stripe = Server()
        self._apps: dict[Settings, tuple[Flask, dict[str, Any], dict[str, Any]]] = {}
        self._migrated = False

    @contextmanager
    def opened(self, *, anew: bool = False, **changes: Any) -> Iterator[Shop]:
        """``changes`` are settings of this one shop. ``anew`` is for whoever changes the app."""
        with ExitStack() as stack:
            time = Clock()
            stack.enter_context(clock.running_on(time.now))
            sandbox = create_sandbox(
                webhook_url=f"{ORIGIN}/stripe/webhook",
                webhook_secret=SECRET,
                clock=time.seconds,
                deliver=False,
            )
            sandbox.start(server=self._stripe)
            stack.callback(sandbox.stop)
            app = self._app(changes, anew=anew)
            stack.enter_context(app.app_context())
            stack.callback(db.engine.dispose)
            stack.callback(db.session.remove)
            _empty()
            catalogue.stock_up(GOODS)
            yield Shop(app, sandbox, time)

    def _app(self, changes: dict[str, Any], *, anew: bool) -> Flask:
        """An app as if it had just been started."""
        settings = replace(settings_for(self.database_url, self._stripe.port), **changes)
        if anew or settings not in self._apps:
            limiter.enabled = True  # or this app would never be able to limit anything
            made = create_app(settings)
            self._apps[settings] = made, dict(made.extensions), dict(vars(limiter))
        app, extensions, limits = self._apps.pop(settings) if anew else self._apps[settings]
        if not self._migrated:
            with app.app_context():
                upgrade(directory=str(Path(__file__).resolve().parent.parent / "migrations"))
            self._migrated = True
        app.testing = False  # errors are answered, as in production
        app.extensions.clear()  # here an app keeps what it remembers
        app.extensions.update(extensions)
        app.extensions["streams"] = Streams(settings.web_threads)
        doorbell.init_app(app, url=settings.redis_url, flag_ttl_s=settings.sweep_seconds)
        logs.set_up(human=settings.embedded)
        vars(limiter).update(limits)  # one for all apps, with the storage of the one made last
        limiter.reset()
        limiter.enabled = False
        return app

    def close(self) -> None:
        """Nothing outlives a test but the database, which its owner removes."""
        self._stripe.stop()


def settings_for(database_url: str, sandbox_port: int) -> Settings:
    """The embedded shop's settings, on a given database and sandbox."""
    environment = demo_environment(
        Path("/nonexistent"),
        public_origin=ORIGIN,
        stripe_api_base=f"http://127.0.0.1:{sandbox_port}",
        database_url=database_url,
        overrides={
            "SECRET_KEY": "k" * 40,
            "STRIPE_SECRET_KEY": "sk_test_shop",
            "STRIPE_PUBLISHABLE_KEY": "pk_test_shop",
            "STRIPE_WEBHOOK_SECRET": SECRET,
        },
    )
    return demo_settings(environment)


def _empty() -> None:
    """Every table at once: one statement each would be a tenth of a short test."""
    tables = (f"DELETE FROM {table.name};" for table in reversed(db.metadata.sorted_tables))
    with atomic() as session:
        raw: Any = session.connection().connection.driver_connection
        if db.engine.dialect.name == "postgresql":
            raw.execute("".join(tables))
        else:
            for statement in tables:
                raw.execute(statement)


@dataclass
class Shop:
    """One shop: its app, its sandbox, its clock, and its shoppers."""

    app: Flask
    sandbox: Sandbox
    clock: Clock
    told: list[tuple[str, int | None]] = field(default_factory=list)

    def shopper(self) -> Shopper:
        return Shopper(self)

    # -- Stripe's side

    def pay(self, session_id: str, card: str = "4242424242424242") -> dict[str, Any]:
        """Pay on the hosted page; nothing is delivered yet."""
        result: dict[str, Any] = self.sandbox.pay(session_id, card)
        return result

    def pay_elsewhere(self, order_id: str, amount: int) -> str:
        """A second session with our metadata, opened by somebody else and paid; its intent's id."""
        link = {"checkout_attempt_id": order_id}
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": self.sandbox.url})
        session = client.v1.checkout.sessions.create(
            {
                "mode": "payment",
                "success_url": ORIGIN,
                "metadata": link,
                "payment_intent_data": {"metadata": link},
                "line_items": [
                    {
                        "quantity": 1,
                        "price_data": {
                            "currency": "eur",
                            "unit_amount": amount,
                            "product_data": {"name": "The same again"},
                        },
                    }
                ],
            }
        )
        return str(self.pay(session.id)["session"]["payment_intent"])

    def deliver(
        self, only: Callable[[Delivery], bool] = lambda delivery: True
    ) -> list[tuple[str, int | None]]:
        """Deliver the webhooks that are due and chosen; returns (type, status) of each."""
        sent = []
        for delivery in self.sandbox.due():
            if only(delivery):
                status = self.sandbox.attempt(delivery, self.post_webhook)
                sent.append((delivery.event_type, status))
        self.told += sent
        return sent

    def deliver_type(self, type_: str) -> list[tuple[str, int | None]]:
        return self.deliver(lambda delivery: delivery.event_type == type_)

    def work(self) -> None:
        """What the workers do: drain inbox and outbox."""
        inbox.drain()
        outbox.drain()

    def deliver_and_work(self) -> None:
        self.deliver()
        self.work()

    def post_webhook(self, body: bytes, headers: dict[str, str]) -> int:
        """One webhook over HTTP, as it comes."""
        return (
            self.app.test_client()
            .post("/stripe/webhook", data=body, headers=headers, base_url=ORIGIN)
            .status_code
        )

    # -- looking

    def order(self, order_id: str) -> Order | None:
        with reading() as session:
            return session.scalar(select(Order).where(Order.id == order_id))

    def the_order(self) -> Order:
        with reading() as session:
            return session.scalars(select(Order)).one()

    def attempt(self, attempt_id: str) -> CheckoutAttempt:
        with reading() as session:
            return session.scalars(
                select(CheckoutAttempt).where(CheckoutAttempt.id == attempt_id)
            ).one()

    def legs(self, attempt_id: str) -> list[StripeLeg]:
        return self.rows(StripeLeg, StripeLeg.attempt_id == attempt_id)

    def payments(self) -> list[Payment]:
        return self.rows(Payment)

    def exceptions(self) -> list[ShopException]:
        return self.rows(ShopException)

    def events(self) -> list[StripeEvent]:
        return self.rows(StripeEvent)

    def history(self, order_id: str) -> list[OrderEvent]:
        return self.rows(OrderEvent, OrderEvent.order_id == order_id)

    def receipts(self) -> list[OutboxMessage]:
        return self.rows(OutboxMessage, OutboxMessage.kind == "receipt")

    def product(self, sku: str) -> Product:
        with reading() as session:
            return session.scalars(select(Product).where(Product.sku == sku)).one()

    def count(self, model: Any) -> int:
        return len(self.rows(model))

    def rows(self, model: Any, *where: Any) -> list[Any]:
        with reading() as session:
            return list(
                session.scalars(select(model).where(*where).order_by(*model.__mapper__.primary_key))
            )

    def proves(self, *, ledger: bool = True) -> bool:
        """``flask check`` holds; prints what does not, for the failing test's report.

        ``ledger=False`` for payments that the test made up: the sandbox does not know them.
        """
        report = check.run(against_stripe=ledger)
        if not report.holds:
            print(report.text())  # noqa: T201
        return report.holds


class Shopper:
    """Somebody with a browser of their own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.browser: FlaskClient = shop.app.test_client()

    def get(self, path: str, **more: Any) -> TestResponse:
        return outside(self.browser.get, path, base_url=ORIGIN, **more)

    def post(self, path: str, data: dict[str, Any] | None = None, **more: Any) -> TestResponse:
        """A form, sent with the page's token."""
        form = {"csrf_token": self.token(), **(data or {})}
        return outside(self.browser.post, path, data=form, base_url=ORIGIN, **more)

    def json(self, method: str, path: str, body: Any = None) -> TestResponse:
        """An API call from our own page."""
        headers = {"X-CSRFToken": self.token()}
        return outside(
            self.browser.open, path, method=method, json=body, headers=headers, base_url=ORIGIN
        )

    def token(self) -> str:
        page = self.get("/orders/find").text  # a cheap page; every page carries the token
        found = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert found
        return found[1]

    def put_in_cart(self, sku: str = MUG, quantity: int = 1) -> TestResponse:
        return self.post("/cart/items", {"sku": sku, "quantity": quantity})

    def cart(self) -> list[tuple[str, int]]:
        items = self.json("GET", "/api/cart").get_json()["items"]
        return [(item["sku"], item["quantity"]) for item in items]

    def check_out(self, **changes: str) -> TestResponse:
        return self.post("/checkout", {**ADDRESS, **changes})

    def buy(self, sku: str = MUG, quantity: int = 1, **changes: str) -> Checkout:
        """Put something in the basket and press Pay; the payment page is open now."""
        assert self.put_in_cart(sku, quantity).status_code == 303
        return self.opened(self.check_out(**changes))

    def opened(self, answer: TestResponse) -> Checkout:
        """The checkout that a press of Pay opened."""
        assert answer.status_code == 303, answer.text
        session_id = urlsplit(answer.location).path.rsplit("/", 1)[-1]
        with reading() as session:
            leg = session.scalars(select(StripeLeg).where(StripeLeg.stripe_id == session_id)).one()
        return Checkout(self, leg.attempt_id, session_id, answer.location)

    def come_back(self, checkout: Checkout) -> TestResponse:
        return self.get(f"/checkout/success?session_id={checkout.session_id}")


@dataclass
class Checkout:
    """One open checkout of a shopper."""

    shopper: Shopper
    order_id: str
    session_id: str
    pay_url: str

    def pay(self, card: str = "4242424242424242") -> dict[str, Any]:
        return self.shopper.shop.pay(self.session_id, card)

    @property
    def session(self) -> dict[str, Any]:
        """The session as the sandbox knows it."""
        found: dict[str, Any] = self.shopper.shop.sandbox.store.objects["checkout.session"][
            self.session_id
        ]
        return found


def outside(request: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a request as from outside: with an app context of its own, like every real one."""
    return Context().run(request, *args, **kwargs)


def query(url: str) -> dict[str, list[str]]:
    """The parameters of an address."""
    return parse_qs(urlsplit(url).query)
