"""What needs a person, made to happen: one function for each kind of trouble."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from domain.facts import LegEnded, LegState, News, Origin
from extensions import atomic
from models import OutboxMessage, Product, ShopException, StripeEvent
from services import inbox, reconcile, settle
from services.causes import EXPIRY, Cause
from services.exceptions import open_exception
from services.settle import settle as really_settle
from tests.counter.scenes import FAILS_LATER, a_paid_order, ask
from tests.shop import LAMP, MUG, Checkout, Shop
from tests.strategies.test_rebuild import restore_backup_from_before


def the_only_one(shop: Shop, type_: str) -> ShopException:
    (found,) = shop.rows(ShopException, ShopException.type == type_)
    row: ShopException = found
    return row


def expire_here_only(shop: Shop, order_id: str) -> None:
    """As after a restored backup: our side ended the checkout, Stripe's did not."""
    session_id = shop.legs(order_id)[0].stripe_id
    assert session_id
    ended = LegEnded(session_id, LegState.EXPIRED, origin=Origin(order_id))
    news = News("evt_x", "checkout.session.expired", attempt_id=order_id, facts=(ended,))
    settle.settle(order_id, EXPIRY, news=news)


def late_money(shop: Shop) -> tuple[Checkout, Checkout]:
    """An order paid after its end while somebody else has its lamps, and that somebody."""
    bought = shop.shopper().buy(LAMP, 2)
    bought.pay()
    expire_here_only(shop, bought.order_id)
    other = shop.shopper().buy(LAMP, 2)
    shop.deliver_and_work()
    the_only_one(shop, "late_payment")
    return bought, other


def leave(shop: Shop, checkout: Checkout) -> None:
    """Somebody gives a basket up, and its goods are free again."""
    settle.settle(checkout.order_id, Cause("shopper"), end=True)


def wrong_amount(shop: Shop) -> Checkout:
    bought = shop.shopper().buy()
    bought.pay("wrong_amount")
    shop.deliver_and_work()
    the_only_one(shop, "amount_mismatch")
    return bought


def paid_twice(shop: Shop) -> Checkout:
    """The refund is owed and not carried out yet."""
    bought = a_paid_order(shop)
    shop.pay_elsewhere(bought.order_id, shop.attempt(bought.order_id).total)
    shop.deliver()
    inbox.drain()
    the_only_one(shop, "duplicate_payment")
    return bought


def unmatched(shop: Shop) -> tuple[Checkout, str]:
    """Money for a checkout that is gone, whose lines no longer fit; and what they were called."""
    bought = shop.shopper().buy(MUG, 2)
    bought.pay()
    restore_backup_from_before(shop, bought)
    title = shop.product(MUG).title
    rename(MUG, "Another mug")
    shop.deliver_and_work()
    the_only_one(shop, "unmatched_payment")
    return bought, title


def rename(sku: str, title: str) -> None:
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == sku).values(title=title))


def failed_refund(shop: Shop, amount: int = 500) -> Checkout:
    order = a_paid_order(shop, card=FAILS_LATER)
    ask(order, amount)
    shop.work()
    time_passes(shop)
    the_only_one(shop, "refund_failed")
    return order


def time_passes(shop: Shop) -> None:
    """The bank has decided, and Stripe tells it."""
    shop.clock.forward(seconds=shop.sandbox.refund_s + 1)
    shop.sandbox.tick()
    shop.deliver_and_work()


def dead_event(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """An order whose payment's news could not be applied, eight times."""
    bought = shop.shopper().buy()
    bought.pay()

    def poison(*_: Any, **__: Any) -> None:
        raise RuntimeError("poison")

    shop.deliver_type("checkout.session.completed")
    with monkeypatch.context() as patch:
        patch.setattr(settle, "settle", poison)
        for _ in range(9):
            shop.work()
            shop.clock.forward(seconds=61)
    the_only_one(shop, "dead_event")
    assert settle.settle is really_settle
    return bought


def dead_effect(shop: Shop) -> Checkout:
    bought = a_paid_order(shop)
    with atomic() as session:
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.kind == "receipt")
            .values(state="dead", tries=8, error="550 no such user")
        )
        open_exception(
            "dead_effect",
            f"receipt:{bought.order_id}",
            "receipt could not be carried out: 550 no such user",
            order_id=bought.order_id,
        )
    return bought


def unknown_at_stripe(shop: Shop) -> Checkout:
    """Its payment page is not at Stripe, as with another account's keys."""
    bought = shop.shopper().buy(LAMP)
    shop.sandbox.store.objects["checkout.session"].pop(bought.session_id)
    shop.clock.forward(seconds=300)
    reconcile.sync()
    the_only_one(shop, "missing_at_stripe")
    return bought


def event_ids(shop: Shop, *types: str) -> list[str]:
    return [row.id for row in shop.rows(StripeEvent) if not types or row.type in types]


def held(shop: Shop, sku: str) -> int:
    return shop.product(sku).held
