"""Coupons, promotion codes, automatic tax and tax calculations: what Stripe would say."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox.drive import a_session, event_types

HOME = {"line1": "Sonnenallee 12", "city": "Berlin", "postal_code": "12047", "country": "DE"}


def a_code(
    api: Any, code: str = "SPRING", *, coupon: dict[str, Any] | None = None, **more: Any
) -> Any:
    made = api.coupons.create(coupon or {"percent_off": 10, "duration": "once"})
    promotion = {"type": "coupon", "coupon": made.id}
    return api.promotion_codes.create({"code": code, "promotion": promotion, **more})


def opened(api: Any, code: Any, **changes: Any) -> Any:
    discounts = [{"promotion_code": code.id}]
    return api.checkout.sessions.create(a_session(discounts=discounts, **changes))


def test_a_code_is_found_in_any_case_with_its_coupon(box: Any, api: Any) -> None:
    made = a_code(api)

    found = api.promotion_codes.list(
        {"code": "sPrInG", "active": True, "expand": ["data.promotion.coupon"]}
    ).data

    assert [code.id for code in found] == [made.id]
    assert found[0].promotion.coupon.percent_off == 10
    assert api.promotion_codes.list({"code": "SPRIN"}).data == []


def test_a_code_takes_its_part_off_the_lines_and_not_off_the_parcel(box: Any, api: Any) -> None:
    session = opened(api, a_code(api), expand=["total_details.breakdown"])

    assert (session.amount_subtotal, session.amount_total) == (3660, 3660 - 366 + 490)
    assert session.total_details.amount_discount == 366
    assert session.total_details.breakdown.discounts[0].amount == 366
    line = api.checkout.sessions.line_items.list(session.id).data[0]
    assert (line.amount_subtotal, line.amount_discount, line.amount_total) == (3660, 366, 3294)


def test_an_amount_is_spread_over_lines_to_the_cent(box: Any, api: Any) -> None:
    code = a_code(api, coupon={"amount_off": 100, "currency": "eur", "duration": "once"})
    mug = a_session()["line_items"][0]
    three = [{**mug, "quantity": 1} for _ in range(3)]

    session = opened(api, code, line_items=three)

    lines = api.checkout.sessions.line_items.list(session.id).data
    assert [line.amount_discount for line in lines] == [34, 33, 33]


def test_a_code_counts_when_its_session_is_paid_and_not_before(box: Any, api: Any) -> None:
    code = a_code(api, max_redemptions=1)
    session = opened(api, code)
    assert api.promotion_codes.retrieve(code.id).times_redeemed == 0

    box.pay(session.id, "4242424242424242")

    used = api.promotion_codes.retrieve(code.id)
    assert (used.times_redeemed, used.active) == (1, False)
    assert event_types(box).count("promotion_code.updated") == 1
    with pytest.raises(stripe.InvalidRequestError, match="not active"):
        opened(api, code)


@pytest.mark.parametrize(
    ("coupon", "limits", "why"),
    [
        ({"amount_off": 500, "currency": "usd", "duration": "once"}, {}, "nothing off in eur"),
        (None, {"minimum_amount": 9000, "minimum_amount_currency": "eur"}, "below"),
        (None, {"minimum_amount": 10, "minimum_amount_currency": "usd"}, "another currency"),
    ],
)
def test_a_code_that_does_not_fit_opens_no_session(
    box: Any, api: Any, coupon: Any, limits: Any, why: str
) -> None:
    code = a_code(api, coupon=coupon, restrictions=limits)

    with pytest.raises(stripe.InvalidRequestError, match=why):
        opened(api, code)


def test_a_code_expires_by_itself(box: Any, api: Any) -> None:
    code = a_code(api, expires_at=int(box.now()) + 60)

    later = box.now() + 61
    box.clock = lambda: later

    assert api.promotion_codes.list({"code": "SPRING"}).data[0].active is False
    with pytest.raises(stripe.InvalidRequestError):
        opened(api, code)


def test_a_calculation_and_a_session_find_the_same_tax(box: Any, api: Any) -> None:
    customer = api.customers.create({"shipping": {"name": "Maya", "address": HOME}})
    calculation = api.tax.calculations.create(
        {
            "currency": "eur",
            "customer_details": {"address": HOME, "address_source": "shipping"},
            "line_items": [
                {"amount": 3294, "quantity": 2, "reference": "mug", "tax_behavior": "exclusive"}
            ],
            "shipping_cost": {"amount": 490, "tax_behavior": "exclusive"},
            "expand": ["line_items"],
        }
    )
    given = a_session(customer=customer.id, automatic_tax={"enabled": True})
    given["line_items"][0]["price_data"]["tax_behavior"] = "exclusive"
    given["shipping_options"][0]["shipping_rate_data"]["tax_behavior"] = "exclusive"
    given["discounts"] = [{"promotion_code": a_code(api).id}]
    session = api.checkout.sessions.create({**given, "expand": ["total_details.breakdown"]})

    assert calculation.tax_amount_exclusive == round(3294 * 0.19) + round(490 * 0.19)
    assert session.total_details.amount_tax == calculation.tax_amount_exclusive
    assert session.amount_total == calculation.amount_total
    assert session.total_details.breakdown.taxes[0].rate.percentage == 19
    assert calculation.tax_breakdown[0].tax_rate_details.percentage_decimal == "19"


def test_tax_that_is_in_the_price_changes_no_total(box: Any, api: Any) -> None:
    customer = api.customers.create({"shipping": {"name": "Maya", "address": HOME}})
    given = a_session(customer=customer.id, automatic_tax={"enabled": True})
    given["line_items"][0]["price_data"]["tax_behavior"] = "inclusive"
    given["shipping_options"][0]["shipping_rate_data"]["tax_behavior"] = "inclusive"

    session = api.checkout.sessions.create(given)

    assert session.amount_total == 3660 + 490
    assert session.total_details.amount_tax == round(3660 * 19 / 119) + round(490 * 19 / 119)


def test_tax_without_a_place_or_a_behavior_is_refused(box: Any, api: Any) -> None:
    nowhere = api.customers.create({"name": "Maya"})
    with pytest.raises(stripe.InvalidRequestError, match="tax_behavior"):
        api.checkout.sessions.create(
            a_session(customer=nowhere.id, automatic_tax={"enabled": True})
        )
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.tax.calculations.create(
            {
                "currency": "usd",
                "customer_details": {"address": {"country": "US"}, "address_source": "shipping"},
                "line_items": [{"amount": 100, "reference": "a"}],
            }
        )
    assert refused.value.code == "customer_tax_location_invalid"


def test_where_nothing_is_collected_the_tax_is_nothing(box: Any, api: Any) -> None:
    made = api.tax.calculations.create(
        {
            "currency": "nzd",
            "customer_details": {"address": {"country": "NZ"}, "address_source": "shipping"},
            "line_items": [{"amount": 100, "reference": "a", "tax_behavior": "exclusive"}],
        }
    )
    assert (made.tax_amount_exclusive, made.amount_total) == (0, 100)
    assert made.tax_breakdown[0].taxability_reason == "not_collecting"


def test_an_intent_names_the_calculation_it_was_made_by(box: Any, api: Any) -> None:
    made = api.tax.calculations.create(
        {
            "currency": "eur",
            "customer_details": {"address": HOME, "address_source": "shipping"},
            "line_items": [{"amount": 1000, "reference": "a", "tax_behavior": "exclusive"}],
        }
    )
    hooks = {"inputs": {"tax": {"calculation": made.id}}}

    intent = api.payment_intents.create({"amount": 1190, "currency": "eur", "hooks": hooks})

    assert intent.hooks.inputs.tax.calculation == made.id
    with pytest.raises(stripe.InvalidRequestError):
        hooks["inputs"]["tax"]["calculation"] = "taxcalc_unknown"
        api.payment_intents.create({"amount": 1190, "currency": "eur", "hooks": hooks})
