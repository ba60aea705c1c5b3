from __future__ import annotations

import base64

import pytest
import stripe

from sandbox.contract import check
from tests.sandbox.drive import event_types, open_session, paid_intent


def test_lists_are_newest_first_and_paged_by_cursor(box, api):
    made = [api.customers.create({"name": f"c{n}"}).id for n in range(5)]
    newest_first = made[::-1]

    page = api.customers.list({"limit": 2})
    rest = api.customers.list({"limit": 3, "starting_after": page.data[-1].id})
    back = api.customers.list({"limit": 2, "ending_before": rest.data[0].id})

    assert [c.id for c in page.data] == newest_first[:2]
    assert [c.id for c in rest.data] == newest_first[2:]
    assert [c.id for c in back.data] == newest_first[:2]
    assert (page.has_more, rest.has_more, back.has_more) == (True, False, False)


def test_the_sdk_pages_through_everything_by_itself(api):
    made = {api.customers.create({"name": f"c{n}"}).id for n in range(25)}

    assert {c.id for c in api.customers.list({"limit": 10}).auto_paging_iter()} == made


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"starting_after": "cus_none"}])
def test_a_page_that_cannot_be_is_refused(api, params):
    with pytest.raises(stripe.InvalidRequestError):
        api.customers.list(params)


def test_ids_become_objects_when_asked_for(box, api):
    id = open_session(api)
    box.pay(id)

    session = api.checkout.sessions.retrieve(
        id,
        {
            "expand": [
                "payment_intent.latest_charge.balance_transaction",
                "line_items.data.price.product",
            ]
        },
    )

    charge = session.payment_intent.latest_charge
    assert charge.balance_transaction.amount == 4150
    assert session.line_items.data[0].price.product.name == "Enamel mug"


def test_every_item_of_a_list_can_be_expanded(box, api):
    intent = paid_intent(box, api)

    (session,) = api.checkout.sessions.list({"expand": ["data.payment_intent"]}).data

    assert session.payment_intent.id == intent


@pytest.mark.parametrize("path", ["status", "colour", "payment_intent.status"])
def test_what_cannot_be_expanded_is_refused(box, api, path):
    id = open_session(api)
    box.pay(id)

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        api.checkout.sessions.retrieve(id, {"expand": [path]})


def test_a_charge_shows_its_refunds_only_when_asked(box, api):
    intent = paid_intent(box, api)
    api.refunds.create({"payment_intent": intent})
    charge = api.charges.list({"payment_intent": intent}).data[0]

    assert "refunds" not in charge
    shown = api.charges.retrieve(charge.id, {"expand": ["refunds"]})
    assert shown.refunds.data[0].amount == 4150


def test_an_unknown_id_is_a_404_with_its_code(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.checkout.sessions.retrieve("cs_test_none")

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert "request_log_url" in caught.value.json_body["error"]


@pytest.mark.parametrize("key", ["sk_test_x", "rk_test_x"])
def test_any_test_key_is_let_in(box, key):
    caller = stripe.StripeClient(key, base_addresses={"api": box.url})

    assert caller.v1.customers.list().data == []


@pytest.mark.parametrize("key", ["sk_live_x", "pk_live_x", "whatever"])
def test_any_other_key_is_turned_away(box, key):
    caller = stripe.StripeClient(key, base_addresses={"api": box.url})

    with pytest.raises(stripe.AuthenticationError) as caught:
        caller.v1.customers.list()
    assert caught.value.code is None
    assert key not in str(caught.value.user_message)


def test_basic_authentication_works_too(box):
    import requests

    url = f"{box.url}/v1/customers"
    token = base64.b64encode(b"sk_test_x:").decode()

    assert requests.get(url, headers={"Authorization": f"Basic {token}"}, timeout=5).ok
    assert requests.get(url, timeout=5).status_code == 401


def test_every_answer_names_its_request_and_version(api):
    headers = api.customers.list().last_response.headers

    assert headers["Request-Id"].startswith("req_")
    assert headers["Stripe-Version"] == "2026-10-28.endive"
    assert headers["Stripe-Should-Retry"] == "false"


def test_an_address_that_does_not_exist_says_so(box, api):
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        api.topups.list()


def test_a_family_that_is_not_there_yet_says_that_it_is_the_sandbox(box, api):
    with pytest.raises(stripe.InvalidRequestError, match="The sandbox does not offer"):
        api.refunds.create({"origin": "customer_balance", "amount": 100, "currency": "eur"})


def test_customers_are_made_changed_found_and_deleted(box, api):
    made = api.customers.create({"email": "maya@example.com", "address": {"city": "Berlin"}})
    api.customers.update(made.id, {"name": "Maya", "metadata": {"a": "1"}})

    assert api.customers.retrieve(made.id).name == "Maya"
    assert [c.id for c in api.customers.list({"email": "maya@example.com"}).data] == [made.id]
    api.customers.delete(made.id)
    assert api.customers.retrieve(made.id).deleted is True
    assert api.customers.list().data == []
    assert event_types(box) == ["customer.created", "customer.updated", "customer.deleted"]


def test_products_and_prices_are_made_changed_and_listed(box, api):
    lamp = api.products.create(
        {"name": "Lamp", "default_price_data": {"currency": "eur", "unit_amount": 3300}}
    )
    api.prices.update(lamp.default_price, {"nickname": "plain"})
    api.products.update(lamp.id, {"active": False})

    assert [p.nickname for p in api.prices.list({"product": lamp.id}).data] == ["plain"]
    assert api.products.list({"active": True}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        api.products.delete(lamp.id)
    gone = api.products.create({"name": "Gone"})
    assert api.products.delete(gone.id).deleted is True


def test_a_shipping_rate_can_be_made_once_and_used_by_its_id(box, api):
    rate = api.shipping_rates.create(
        {
            "display_name": "Parcel",
            "type": "fixed_amount",
            "fixed_amount": {"amount": 500, "currency": "eur"},
            "delivery_estimate": {"maximum": {"unit": "business_day", "value": 3}},
        }
    )

    id = open_session(api, shipping_options=[{"shipping_rate": rate.id}])
    assert api.checkout.sessions.retrieve(id).amount_total == 3660 + 500


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda r: r.update(invented=1), "invented"),
        (lambda r: r.pop("reason"), "reason"),
        (lambda r: r.update(amount="12"), "amount"),
        (lambda r: r.update(object="coupon_book"), "coupon_book"),
    ],
)
def test_the_check_itself_notices_what_stripe_would_not_send(box, api, change, problem):
    refund = api.refunds.create({"payment_intent": paid_intent(box, api)}).to_dict()
    assert check.object_problems(refund) == []

    change(refund)

    assert problem in check.object_problems(refund)[0]


def test_what_the_shop_asked_can_be_read_and_held_against_the_contract(box, api):
    open_session(api)

    (request,) = [r for r in box.requests if r["method"] == "POST"]
    assert (request["path"], request["status"]) == ("/v1/checkout/sessions", 200)
    assert request["idempotency_key"]
    params = box.checks.read("POST /v1/checkout/sessions", request["params"])
    assert params["metadata"] == {"checkout_attempt_id": "attempt-1"}
    assert check.request_problems("POST /v1/checkout/sessions", params) == []
    assert check.request_problems("POST /v1/checkout/sessions", {"colour": "red"}) != []
