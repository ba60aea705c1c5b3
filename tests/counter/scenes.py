"""Orders that are paid, and what is done with them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import stripe

from domain.errors import ShopError
from models import Refund
from services import refunds
from tests.shop import MUG, Checkout, Shop

ADA = "ada@example.com"
FAILS_LATER = "4000000000005126"  # the refund succeeds, then the bank gives it back
WAITS = "4000000000007726"  # the refund is pending for a while


def a_paid_order(
    shop: Shop, sku: str = MUG, quantity: int = 1, card: str = "4242424242424242", **changes: str
) -> Checkout:
    bought = shop.shopper().buy(sku, quantity, **changes)
    bought.pay(card)
    shop.deliver_and_work()
    return bought


def ask(
    order: Checkout,
    amount: int | None = None,
    restock: Mapping[int, int] | None = None,
    *,
    key: str | None = None,
    **more: Any,
) -> Refund:
    """One press of the refund button, on a form of its own unless a key is given."""
    about = {"reason": "came broken", "actor": ADA, **more}
    form = key or str(uuid.uuid4())
    (row,) = refunds.ask(order.order_id, amount, restock or {}, key=form, **about)
    return row


def in_the_dashboard(shop: Shop, order: Checkout, amount: int | None = None) -> str:
    """Somebody refunds at Stripe itself; the refund's id."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": shop.sandbox.url})
    wish: Any = {"payment_intent": order.session["payment_intent"]}
    if amount is not None:
        wish["amount"] = amount
    return str(client.v1.refunds.create(wish).id)


def at_stripe(shop: Shop) -> list[tuple[int, str]]:
    """Every refund that Stripe made."""
    return [(refund["amount"], refund["status"]) for refund in shop.sandbox.ledger()["refunds"]]


def at_once(shop: Shop, *acts: Callable[[], Any]) -> list[Any]:
    """What each returned, or the shop's refusal."""
    gate = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def run(place: int, act: Callable[[], Any]) -> None:
        with shop.app.app_context():
            gate.wait()
            try:
                results[place] = act()
            except ShopError as error:
                results[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
