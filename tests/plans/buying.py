"""Buying what recurs, on Stripe's page and on ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models import OrderItem, Subscription
from services import catalogue, reconcile
from services.causes import SYNC
from tests.shop import ADDRESS, Shop, Shopper

COFFEE, PRINTS = "COF-SUB-M", "PRT-CLB-M"
GOOD, DECLINED, ASKS = "4242424242424242", "4000000000000341", "4000002760003184"


def _good(sku: str, title: str, amount: int, **plan: Any) -> dict[str, Any]:
    return {
        "sku": sku,
        "slug": sku.lower(),
        "title": title,
        "prices": {"eur": amount, "usd": amount, "jpy": amount},
        "units": 200,
        **plan,
    }


def sells_plans() -> None:
    """Add what recurs to the shelf, unless the demo's goods have it."""
    catalogue.stock_up(
        [
            _good(COFFEE, "Monthly coffee", 1200, interval="month"),
            _good(PRINTS, "Print club", 900, interval="month", trial_days=14),
        ]
    )


def contact() -> dict[str, Any]:
    return {
        "contact": {"name": ADDRESS["name"], "email": ADDRESS["email"]},
        "shipping": {
            "line1": ADDRESS["line1"],
            "city": ADDRESS["city"],
            "postalCode": ADDRESS["postal_code"],
            "country": "DE",
        },
    }


@dataclass
class OwnPage:
    """A shopper who pays on a page of ours, with Stripe's fields."""

    shop: Shop

    def opened(self, *skus: str, shopper: Shopper | None = None) -> Opened:
        """Put these in the basket and open the page."""
        who = shopper or self.shop.shopper()
        items = [{"sku": sku, "quantity": 1} for sku in skus]
        answer = who.json("POST", "/api/stripe/initiate-checkout", {**contact(), "items": items})
        assert answer.status_code == 201, answer.text
        return Opened(self.shop, who, answer.get_json())


@dataclass
class Opened:
    """A page of ours that is open: what the browser was told."""

    shop: Shop
    shopper: Shopper
    told: dict[str, Any]

    @property
    def order_id(self) -> str:
        return str(self.told["orderId"])

    @property
    def setup(self) -> str:
        """The id of what saves the card."""
        secret = self.told.get("setupClientSecret") or self.told["clientSecret"]
        return str(secret.split("_secret_")[0])

    @property
    def intent(self) -> str:
        """The id of what pays for the things bought once."""
        return str(self.told["paymentIntentId"])

    def save_card(self, card: str = GOOD) -> None:
        self.shop.sandbox.confirm(self.setup, card)
        self.shop.sandbox.authenticate(self.setup)

    def pay(self, card: str = GOOD) -> None:
        self.shop.sandbox.confirm(self.intent, card)

    def buy(self, card: str = GOOD) -> None:
        """What the page does: first the card, then what is bought once."""
        self.save_card(card)
        if "paymentIntentId" in self.told:
            self.pay()
        settle(self.shop)


def settle(shop: Shop) -> None:
    """Webhooks and workers, until nothing is left to tell."""
    for _ in range(6):
        shop.deliver_and_work()


def sync(shop: Shop) -> None:
    """The same without any webhook: the clock's passes."""
    for _ in range(4):
        reconcile.sync(cause=SYNC, due_only=False)


def months(shop: Shop, count: int = 1, *, deliver: bool = True) -> None:
    """Time goes by, for Stripe and for us."""
    for _ in range(count):
        shop.clock.forward(days=31)
        shop.sandbox.tick()
        if deliver:
            settle(shop)


def lines(shop: Shop, order_id: str) -> dict[str, str]:
    """The state of each line of an order."""
    rows = shop.rows(OrderItem, OrderItem.order_id == order_id)
    return {row.sku: row.state for row in rows}


def plans_of(shop: Shop, order_id: str) -> list[Subscription]:
    return shop.rows(Subscription, Subscription.checkout_attempt_id == order_id)
