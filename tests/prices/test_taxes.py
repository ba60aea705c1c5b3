"""Tax through Stripe: found out before an order is written, and held against Stripe's bill."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from domain.transitions import PaymentStatus
from extensions import atomic
from models import CheckoutAttempt, Order, OrderItem
from services import reconcile, refunds
from tests.pages.conftest import signed_in
from tests.prices.conftest import maker
from tests.shop import COFFEE, LAMP, MUG, Shop, TestShops
from tests.strategies.test_rebuild import restore_backup_from_before

# What 19 % on top makes: of 3600 − 360, of 3300 − 330, and of the parcel's 490.
ON_TOP = (616, 564, 93)


@pytest.mark.accept("X19")
def test_tax_comes_on_top_of_what_the_code_left(taxed_shop: Shop) -> None:
    shop = taxed_shop
    maker(shop)()
    maya = shop.shopper()
    maya.put_in_cart(MUG, 2)
    maya.put_in_cart(LAMP, 1)

    bought = maya.opened(maya.check_out(code="SPRING"))

    order = shop.the_order()
    assert (order.subtotal, order.discount, order.shipping) == (6900, 690, 490)
    assert (order.tax, order.total) == (sum(ON_TOP), 6900 - 690 + 490 + sum(ON_TOP))
    assert [item.tax for item in shop.rows(OrderItem)] == list(ON_TOP[:2])
    assert order.tax_rates == [
        {
            "name": "VAT",
            "percent": "19",
            "country": "DE",
            "inclusive": False,
            "taxable": 6900 - 690 + 490,
            "amount": sum(ON_TOP),
        }
    ]
    session = bought.session
    assert session["amount_total"] == order.total
    assert session["total_details"]["amount_tax"] == order.tax
    assert session["shipping_cost"]["amount_subtotal"] == 490

    bought.pay()
    shop.deliver_and_work()

    assert shop.the_order().payment_status == PaymentStatus.PAID
    assert shop.exceptions() == []
    shown = maya.json("GET", f"/api/orders/{order.id}").get_json()
    assert shown["total"] == (
        shown["subtotal"] - shown["discount"] + shown["shipping"] + shown["tax"]
    )
    assert shown["taxRates"][0]["amount"] == sum(ON_TOP)
    assert shop.proves()


@pytest.mark.accept("X19")
def test_tax_in_the_price_changes_no_total_and_is_named(shops: TestShops) -> None:
    with shops.opened(tax="stripe", tax_behavior="inclusive") as shop:
        bought = shop.shopper().buy(MUG, 2)
        bought.pay()
        shop.deliver_and_work()

        order = shop.the_order()
        assert (order.total, order.tax, order.tax_included) == (3600 + 490, 0, 575 + 78)
        assert bought.session["total_details"]["amount_tax"] == 575 + 78
        assert order.payment_status == PaymentStatus.PAID
        page = bought.shopper.come_back(bought).text
        assert "VAT 19 %, included" in page
        assert shop.proves()


def test_where_no_tax_is_collected_none_is_added(taxed_shop: Shop) -> None:
    maya = taxed_shop.shopper()
    bought = maya.buy(MUG, country="NZ", city="Nelson", postal_code="7010")

    bought.pay()
    taxed_shop.deliver_and_work()

    order = taxed_shop.the_order()
    assert (order.tax, order.tax_rates, order.payment_status) == (0, [], "paid")
    assert "No tax is collected" in maya.get(f"/orders/{order.id}/invoice").text
    assert taxed_shop.proves()


def test_an_address_without_a_place_is_said_and_nothing_is_held(taxed_shop: Shop) -> None:
    maya = taxed_shop.shopper()
    maya.put_in_cart(MUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.tax.is_a_place", lambda place: False)
        refused = maya.check_out(line1="Kept Street 7")

    assert refused.status_code == 422
    assert "cannot work out the tax for this address" in refused.text
    assert "Kept Street 7" in refused.text
    assert (taxed_shop.product(MUG).held, taxed_shop.count(CheckoutAttempt)) == (0, 0)


def test_stripe_silent_about_tax_is_no_order(taxed_shop: Shop) -> None:
    maya = taxed_shop.shopper()
    maya.put_in_cart(MUG)
    taxed_shop.sandbox.chaos.outage = "503"

    refused = maya.check_out()

    assert refused.status_code == 502
    assert "Nothing was charged" in refused.text
    taxed_shop.sandbox.chaos.outage = ""
    assert maya.check_out().status_code == 303


def test_a_subscription_waits_until_its_tax_can_be_found_out(taxed_shop: Shop) -> None:
    maya = taxed_shop.shopper()
    maya.put_in_cart(COFFEE)

    refused = maya.check_out()

    assert refused.status_code == 409
    assert "cannot work out the tax on a subscription" in refused.text


def test_the_checkout_says_that_tax_comes_on_top(taxed_shop: Shop) -> None:
    maya = taxed_shop.shopper()
    maya.put_in_cart(MUG)

    page = maya.get("/checkout").text

    assert "Total before tax" in page
    assert "Go on to pay" in page
    assert "Taxes included" not in page + maya.get("/cart").text


@pytest.mark.accept("X19")
def test_our_own_page_takes_the_tax_and_names_the_calculation(shops: TestShops) -> None:
    with shops.opened(tax="stripe", tax_behavior="exclusive", payment_ui="elements") as shop:
        maya = shop.shopper()
        maya.put_in_cart(MUG, 2)
        assert maya.check_out().status_code == 303
        order = shop.the_order()
        (leg,) = shop.legs(order.id)
        intent = shop.sandbox.store.objects["payment_intent"][leg.stripe_id]

        assert intent["amount"] == order.total == 3600 + 684 + 490 + 93
        assert intent["hooks"]["inputs"]["tax"]["calculation"].startswith("taxcalc_")
        shop.sandbox.confirm(intent["id"], "4242424242424242")
        shop.deliver_and_work()
        assert shop.the_order().payment_status == PaymentStatus.PAID
        assert shop.proves()


@pytest.mark.accept("X4", "X19")
def test_lines_are_refunded_to_the_cent_of_what_was_paid_for_them(taxed_shop: Shop) -> None:
    """Two of three mugs, then the third with the parcel: together all that was paid."""
    shop = taxed_shop
    maker(shop)("ODD", coupon={"amount_off": 100, "currency": "eur"})
    bought = shop.shopper().buy(MUG, 3, code="ODD")
    bought.pay()
    shop.deliver_and_work()
    order, (item,) = shop.the_order(), shop.rows(OrderItem)
    assert item.paid == 5400 - 100 + 1007
    admin = signed_in(shop)

    def refund(key: str, **form: object) -> list[int | None]:
        form = {"key": key * 10, "reason": "Goodwill", "line": item.id, **form}
        answer = admin.post(f"/admin/orders/{order.id}/refund", form)
        assert answer.status_code == 303, answer.text
        return [row.amount for row in refunds.of_order(order.id)]

    assert refund("a", **{f"units-{item.id}": 2}) == [6307 * 2 // 3]
    shop.work()
    shop.deliver_and_work()
    left = order.total - 6307 * 2 // 3
    shown = admin.get(f"/admin/orders/{order.id}/refund").text
    assert f'data-paid="{item.paid}" data-of="3"' in shown
    assert f'data-paid="{490 + 93}" data-of="1"' in shown
    refunds.ask(order.id, None, {}, reason="The rest", actor="boss", key="b" * 10)
    shop.work()
    shop.deliver_and_work()
    assert {row.amount for row in refunds.of_order(order.id)} == {6307 * 2 // 3, left}
    assert shop.the_order().payment_status == PaymentStatus.REFUNDED
    assert shop.proves()


@pytest.mark.accept("X4")
def test_all_lines_and_the_parcel_are_the_whole_order(taxed_shop: Shop) -> None:
    shop = taxed_shop
    maker(shop)()
    maya = shop.shopper()
    maya.put_in_cart(MUG, 3)
    bought = maya.buy(LAMP, 2, code="SPRING")
    bought.pay()
    shop.deliver_and_work()
    order = shop.the_order()
    form = {"key": "k" * 10, "reason": "All of it", "shipping": "1"}

    answer = signed_in(shop).post(
        f"/admin/orders/{order.id}/refund",
        {**form, "line": [item.id for item in shop.rows(OrderItem)]},
    )

    assert answer.status_code == 303
    assert [row.amount for row in refunds.of_order(order.id)] == [order.total]


@pytest.mark.accept("X19", "X23")
@pytest.mark.fault("F21")
@pytest.mark.parametrize("behavior", ["inclusive", "exclusive"])
def test_discount_and_tax_come_back_from_what_stripe_kept(shops: TestShops, behavior: str) -> None:
    with shops.opened(tax="stripe", tax_behavior=behavior) as shop:
        maker(shop)()
        maya = shop.shopper()
        maya.put_in_cart(LAMP, 1)
        bought = maya.buy(MUG, 2, code="SPRING")
        before = shop.the_order()
        known = (before.subtotal, before.discount, before.shipping, before.tax, before.total)
        lines = sorted((item.sku, item.discount, item.tax) for item in shop.rows(OrderItem))
        bought.pay()
        restore_backup_from_before(shop, bought)

        reconcile.sync(since=shop.clock.now() - timedelta(hours=1))

        order = shop.the_order()
        now = (order.subtotal, order.discount, order.shipping, order.tax, order.total)
        assert now == known
        assert sorted((i.sku, i.discount, i.tax) for i in shop.rows(OrderItem)) == lines
        assert (order.code, order.tax_rates) == ("SPRING", before.tax_rates)
        assert order.payment_status == PaymentStatus.PAID
        shop.deliver_and_work()
        assert shop.exceptions() == []
        assert shop.proves()


@pytest.mark.accept("X14", "X19")
def test_the_proof_finds_an_order_that_does_not_add_up(taxed_shop: Shop) -> None:
    bought = taxed_shop.shopper().buy(MUG, 2)
    bought.pay()
    taxed_shop.deliver_and_work()
    assert taxed_shop.proves()
    with atomic() as session:
        session.scalars(select(Order)).one().tax += 1

    assert not taxed_shop.proves(ledger=False)


def test_delivery_is_one_of_stripes_shipping_rates_with_its_days(sqlite_shop: Shop) -> None:
    bought = sqlite_shop.shopper().buy(MUG, delivery="standard")

    (rate,) = sqlite_shop.sandbox.store.objects["shipping_rate"].values()
    assert (rate["display_name"], rate["fixed_amount"]["amount"]) == (
        "Parcel, 2–4 working days",
        490,
    )
    assert rate["delivery_estimate"]["minimum"] == {"unit": "business_day", "value": 2}
    assert rate["delivery_estimate"]["maximum"] == {"unit": "business_day", "value": 4}
    assert bought.session["total_details"]["amount_shipping"] == 490
