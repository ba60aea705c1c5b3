"""What a shopper sees, does and is told after buying what recurs."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import datetime
from email.message import EmailMessage
from html import unescape
from typing import Any

import pytest

from models import OutboxMessage, Payment
from services import inbox, links, people, receipts
from services.outbox import MAIL_KINDS
from tests.plans.buying import (
    ASKS,
    COFFEE,
    DECLINED,
    GOOD,
    PRINTS,
    Opened,
    OwnPage,
    lines,
    months,
    plans_of,
    settle,
    sync,
)
from tests.shop import MUG, Shop


def words(answer: Any) -> str:
    """What a page says, without its markup."""
    text = re.sub(r"<(script|style|svg)\b.*?</\1>", "", answer.text, flags=re.S)
    text = re.sub(r"</?(a|b|span|time)\b[^>]*>", "", text)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def bought(page: OwnPage, *skus: str) -> Opened:
    opened = page.opened(*skus)
    opened.buy()
    return opened


def order_page(opened: Opened) -> str:
    return words(opened.shopper.get(f"/orders/{opened.order_id}"))


def cancel(opened: Opened, when: str) -> Any:
    (plan,) = plans_of(opened.shop, opened.order_id)
    address = f"/orders/{opened.order_id}/subscriptions/{plan.id}/cancel"
    return opened.shopper.post(address, {"when": when})


def sent(shop: Shop, kind: str | None = None) -> list[str]:
    """The subjects of all mails that went out, oldest first."""
    kinds = MAIL_KINDS if kind is None else (kind,)
    rows = shop.rows(OutboxMessage, OutboxMessage.kind.in_(kinds), OutboxMessage.state == "done")
    return [row.result["subject"] for row in rows if "subject" in row.result]


def letter(shop: Shop, kind: str) -> str:
    """The newest mail of a kind, as it was written."""
    row = shop.rows(OutboxMessage, OutboxMessage.kind == kind)[-1]
    mail = email.message_from_string(row.result["source"], policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def day(moment: datetime | None) -> str:
    assert moment is not None
    return f"{moment.day} {moment:%b %Y}"


def renewals(shop: Shop) -> list[Payment]:
    return [payment for payment in shop.payments() if payment.role == "renewal"]


# -- the page


@pytest.mark.accept("D20")
def test_the_address_by_payment_opens_a_mixed_order_for_its_shopper(any_page: OwnPage) -> None:
    opened = bought(any_page, MUG, COFFEE)

    page = words(opened.shopper.get(f"/payment/success?payment_intent={opened.intent}"))

    assert "We received your payment of €34.90." in page
    assert "Active, renews on" in page


@pytest.mark.accept("A29")
def test_the_page_says_what_was_bought_and_when_it_renews(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, MUG, COFFEE)

    page = order_page(opened)
    (plan,) = plans_of(shop, opened.order_id)
    assert "We received your payment of €34.90." in page
    assert "€12.00 every month" in page
    assert f"Active, renews on {day(plan.period_end)}." in page
    assert "Total paid €34.90" in page
    assert "Cancel at the end of the period" in page
    assert "Cancel now" in page


def test_a_trial_says_until_when_and_what_follows(any_page: OwnPage) -> None:
    opened = bought(any_page, PRINTS)

    page = order_page(opened)
    (plan,) = plans_of(any_page.shop, opened.order_id)
    assert "Your free time has begun, and nothing was charged." in page
    assert "We received your payment" not in page
    assert f"Trial until {day(plan.trial_end)}, then €9.00 every month." in page
    assert "Cancel at the end of the trial" in page


def test_a_stranger_sees_nothing_of_it(page: OwnPage) -> None:
    opened = bought(page, MUG, COFFEE)
    address = f"/payment/success?payment_intent={opened.intent}"

    seen = words(page.shop.shopper().get(address))
    assert "This order is paid." in seen
    for secret in ("coffee", "€", "Cancel", "Subscription"):
        assert secret not in seen


def test_whoever_holds_the_link_may_end_it_and_nobody_else(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, COFFEE)
    (plan,) = plans_of(shop, opened.order_id)
    address = f"/orders/{opened.order_id}/subscriptions/{plan.id}/cancel"
    assert shop.shopper().post(address, {"when": "now"}).status_code == 404
    friend = shop.shopper()
    order = shop.order(opened.order_id)
    assert order is not None
    friend.get(links.path(order))

    answer = friend.post(address, {"when": "period_end"})

    assert answer.status_code == 303
    assert plans_of(shop, opened.order_id)[0].cancel_at is not None


def test_a_form_without_the_pages_token_ends_nothing(page: OwnPage) -> None:
    opened = bought(page, COFFEE)
    (plan,) = plans_of(page.shop, opened.order_id)

    answer = opened.shopper.browser.post(
        f"/orders/{opened.order_id}/subscriptions/{plan.id}/cancel",
        data={"when": "now"},
        base_url="http://shop.test",
    )

    assert answer.status_code == 400
    assert plans_of(page.shop, opened.order_id)[0].status == "active"


def test_another_orders_subscription_is_not_there(page: OwnPage) -> None:
    mine, other = bought(page, COFFEE), bought(page, COFFEE)
    (theirs,) = plans_of(page.shop, other.order_id)

    address = f"/orders/{mine.order_id}/subscriptions/{theirs.id}"
    assert mine.shopper.post(f"{address}/cancel", {"when": "now"}).status_code == 404
    assert mine.shopper.post(f"{address}/resume").status_code == 404
    assert theirs.status == "active"


@pytest.mark.accept("X6")
def test_it_ends_with_its_period_and_can_be_kept_until_then(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, COFFEE)
    assert cancel(opened, "period_end").status_code == 303
    (plan,) = plans_of(shop, opened.order_id)
    page = order_page(opened)
    assert f"Ends on {day(plan.period_end)}. Nothing more is charged." in page
    assert "Cancel at the end" not in page

    address = f"/orders/{opened.order_id}/subscriptions/{plan.id}/resume"
    assert "Keep it after all" in page
    assert opened.shopper.post(address).status_code == 303
    assert "Active, renews on" in order_page(opened)
    months(shop)
    assert len(renewals(shop)) == 1

    cancel(opened, "period_end")
    months(shop, 2)

    (plan,) = plans_of(shop, opened.order_id)
    assert plan.status == "canceled"
    assert len(renewals(shop)) == 1
    assert "Ended on" in order_page(opened)
    assert sent(shop, "subscription_ended") == ["Monthly coffee has ended"]
    assert shop.proves()


def test_it_ends_now_and_what_is_paid_stays_paid(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, COFFEE)

    assert cancel(opened, "now").status_code == 303
    settle(shop)

    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.payment_status, order.refunded) == ("paid", 0)
    assert "Nothing more is charged." in order_page(opened)
    again = cancel(opened, "now")
    assert again.status_code == 409
    assert "has ended already" in words(again)
    assert [row.cause for row in shop.history(opened.order_id) if "ended now" in row.detail] == [
        "shopper"
    ]
    assert sent(shop, "subscription_ended") == ["Monthly coffee has ended"]
    assert shop.proves()


# -- when the first payment, or the card, is missing


def test_a_first_payment_that_failed_leads_to_where_it_can_be_paid(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(COFFEE)
    opened.save_card(DECLINED)
    settle(shop)

    answer = opened.shopper.get(f"/orders/{opened.order_id}")
    url = shop.legs(opened.order_id)[-1].url
    assert f'href="{url}"' in answer.text
    assert "Your card is saved, but the first payment for Monthly coffee" in words(answer)
    assert "Try again" not in words(answer)
    assert "hx-get" not in answer.text
    assert sent(shop) == ["The payment for Monthly coffee did not go through"]
    assert url in letter(shop, "past_due")
    assert "begins once this is paid" in letter(shop, "past_due")

    shop.sandbox.pay(shop.legs(opened.order_id)[-1].stripe_id, GOOD)
    settle(shop)
    assert "Thank you, Maya. You’re all set." in order_page(opened)


def test_a_bank_that_asks_reads_like_one(page: OwnPage) -> None:
    opened = page.opened(COFFEE)
    opened.save_card(ASKS)
    settle(page.shop)

    said = order_page(opened)
    assert "One more step: your first payment" in said
    assert "declined" not in said


def test_a_first_payment_can_be_left_for_the_basket(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(COFFEE)
    opened.save_card(DECLINED)
    settle(shop)

    answer = opened.shopper.post("/checkout/release", {"order_id": opened.order_id})
    settle(shop)

    assert answer.status_code == 303
    assert opened.shopper.cart() == [(COFFEE, 1)]
    assert shop.attempt(opened.order_id).state == "closed"
    assert "Nothing was charged" in order_page(opened)
    assert shop.proves()


def test_a_mixed_order_is_paid_and_names_what_is_past_due(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)

    answer = opened.shopper.get(f"/orders/{opened.order_id}")
    page = words(answer)
    assert "We received your payment of €22.90." in page
    assert "One step is left." in page
    (plan,) = plans_of(shop, opened.order_id)
    assert f'href="{plan.pay_url}"' in answer.text
    assert "Not paid −€12.00" in page
    assert "Pay now" in words(opened.shopper.get("/orders"))


def test_a_card_that_is_yet_to_be_saved_is_one_step_left(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.pay()
    settle(shop)

    answer = opened.shopper.get(f"/orders/{opened.order_id}")
    until = shop.legs(opened.order_id)[0].deadline
    assert f"One step left: save a card for Monthly coffee until {until:%H:%M}." in words(answer)
    assert f'href="/checkout/pay/{opened.order_id}"' in answer.text
    assert opened.shopper.get(f"/checkout/pay/{opened.order_id}").status_code == 200

    shop.clock.forward(minutes=61)
    sync(shop)
    page = order_page(opened)
    assert "Not started" in page
    assert "Monthly coffee has not started, and nothing was charged for it." in page
    assert "save a card" not in page
    assert sent(shop, "not_started") == ["Monthly coffee has not started"]
    assert shop.proves()


def test_a_line_that_begins_at_this_moment_is_asked_about_again(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card()
    opened.pay()
    shop.deliver()
    inbox.drain()  # the subscription is owed, and nobody has asked for it yet

    answer = opened.shopper.get(f"/orders/{opened.order_id}")
    assert "Monthly coffee begins in a moment." in words(answer)
    assert "hx-get" in answer.text
    settle(shop)
    poll = opened.shopper.get(f"/orders/{opened.order_id}/status?look=1")
    assert "hx-get" not in poll.text
    assert 'id="order-plans" hx-swap-oob' in poll.text
    assert "Active, renews on" in words(poll)


def test_a_line_whose_first_payment_was_never_made_is_told_once(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, any_page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)
    shop.clock.forward(hours=24)
    shop.sandbox.tick()
    settle(shop)

    assert sent(shop, "subscription_ended") == ["Monthly coffee has not begun"]
    assert "its first payment was never made" in letter(shop, "subscription_ended")
    assert "and nothing was charged for it" in order_page(opened)


def test_ending_what_never_began_is_told_once(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(shop)

    assert cancel(opened, "now").status_code == 303
    settle(shop)

    assert lines(shop, opened.order_id)[COFFEE] == "ended"
    assert sent(shop, "subscription_ended") == ["Monthly coffee has not begun"]
    assert shop.product(COFFEE).held == 0
    assert shop.proves()


# -- renewals


@pytest.mark.accept("X6")
def test_each_paid_invoice_makes_one_renewal_and_one_receipt_of_it(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, COFFEE)

    months(shop, 3)
    sync(shop)

    assert [(paid.amount, paid.currency, paid.part) for paid in renewals(shop)] == [
        (1200, "eur", COFFEE)
    ] * 3
    assert sent(shop, "renewed") == ["Your receipt for Monthly coffee"] * 3
    (plan,) = plans_of(shop, opened.order_id)
    assert plan.period_end is not None
    until = f"{plan.period_end.day} {plan.period_end:%B %Y}"
    assert f"€12.00 for Monthly coffee, paid with Visa ···· 4242. It is paid until {until}" in (
        letter(shop, "renewed")
    )
    page = order_page(opened)
    for paid in renewals(shop):
        assert day(paid.created_at) in page
    assert "Visa ···· 4242" in page
    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.total, order.status) == (1200, "payment_confirmed")
    assert shop.proves()


@pytest.mark.accept("X6")
def test_a_renewal_that_fails_is_told_once_with_the_pay_link(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, COFFEE)
    shop.sandbox.chaos.decline_renewals = 1
    months(shop)

    (plan,) = plans_of(shop, opened.order_id)
    assert plan.status == "past_due"
    assert sent(shop, "past_due") == ["The payment for Monthly coffee did not go through"]
    assert plan.pay_url is not None
    assert plan.pay_url in letter(shop, "past_due")
    assert "could not collect €12.00 for Monthly coffee" in letter(shop, "past_due")
    answer = opened.shopper.get(f"/orders/{opened.order_id}")
    assert f'href="{plan.pay_url}"' in answer.text
    assert "The payment of €12.00 failed. Nothing was charged." in words(answer)
    assert lines(shop, opened.order_id)[COFFEE] == "active"  # its goods were sold and paid for
    assert renewals(shop) == []
    settle(shop)
    sync(shop)
    assert len(sent(shop, "past_due")) == 1
    assert shop.proves()


@pytest.mark.accept("X6")
def test_twelve_months_with_two_failures_that_heal(shop: Shop) -> None:
    """One is paid by Stripe's own next try, the other by the shopper with the link."""
    opened = bought(OwnPage(shop), MUG, COFFEE)
    for month in range(1, 13):
        if month in (4, 8):
            shop.sandbox.chaos.decline_renewals = 1
        _next_renewal(shop, opened)
        (plan,) = plans_of(shop, opened.order_id)
        if month in (4, 8):
            assert plan.status == "past_due", month
        if month == 4:
            _next_try(shop)
        if month == 8:
            shop.sandbox.pay(plan.latest_invoice, GOOD)
            settle(shop)
        (plan,) = plans_of(shop, opened.order_id)
        assert (plan.status, plan.pay_url) == ("active", None), month
        assert len(renewals(shop)) == month

    assert {payment.amount for payment in renewals(shop)} == {1200}
    assert sum(payment.amount for payment in shop.payments()) == 2290 + 13 * 1200
    assert len({payment.payment_intent for payment in shop.payments()}) == 14
    assert len({payment.invoice for payment in renewals(shop)}) == 12
    # The first payment has a receipt of its own only if the order's did not tell of it.
    told = shop.rows(OutboxMessage, OutboxMessage.kind == "renewed", OutboxMessage.state == "done")
    assert {payment.payment_intent for payment in renewals(shop)} <= {row.key for row in told}
    assert len(sent(shop, "renewed")) in (12, 13)
    assert len(sent(shop, "past_due")) == 2
    assert len(shop.receipts()) == 1
    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.total, order.refunded, order.payment_status) == (3490, 0, "paid")
    assert shop.product(COFFEE).sold == 1
    assert shop.proves()


def _next_renewal(shop: Shop, opened: Opened) -> None:
    """To the end of the period, and the hour that Stripe leaves its invoice open for changes."""
    (plan,) = plans_of(shop, opened.order_id)
    assert plan.period_end is not None
    shop.clock.moment = plan.period_end
    shop.clock.forward(hours=2)
    shop.sandbox.tick()
    settle(shop)


def _next_try(shop: Shop) -> None:
    """Stripe tries again some days after the first try."""
    for _ in range(6):
        shop.clock.forward(days=1)
        shop.sandbox.tick()
        settle(shop)


@pytest.mark.accept("X6")
def test_renewals_without_webhooks_are_found_in_the_event_list(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, COFFEE)
    sync(shop)  # the event list has been read up to here
    months(shop, 1, deliver=False)
    sync(shop)

    assert len(renewals(shop)) == 1
    assert plans_of(shop, opened.order_id)[0].status == "active"
    assert shop.proves()


def test_a_trial_costs_for_the_first_time_when_it_is_over(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, PRINTS)

    months(shop)

    assert [payment.amount for payment in renewals(shop)] == [900]
    assert plans_of(shop, opened.order_id)[0].status == "active"
    assert sent(shop, "renewed") == ["Your receipt for Print club"]
    assert shop.proves()


# -- the API


def test_the_api_tells_lines_and_subscriptions(any_page: OwnPage) -> None:
    shop, opened = any_page.shop, bought(any_page, MUG, COFFEE)

    told = opened.shopper.json("GET", f"/api/orders/{opened.order_id}").get_json()

    (plan,) = plans_of(shop, opened.order_id)
    items = {item["sku"]: item for item in told["items"]}
    assert set(items[MUG]) == {"sku", "title", "unitAmount", "quantity"}
    assert items[COFFEE]["plan"] == {"interval": "month", "count": 1, "trialDays": 0}
    assert items[COFFEE]["state"] == "active"
    assert told["amountReceived"] == 3490
    assert told["paymentIntentId"] == opened.intent
    assert plan.period_end is not None
    assert told["subscriptions"] == [
        {
            "id": plan.id,
            "sku": COFFEE,
            "status": "active",
            "unitAmount": 1200,
            "quantity": 1,
            "currency": "eur",
            "interval": "month",
            "intervalCount": 1,
            "currentPeriodEnd": plan.period_end.isoformat(),
        }
    ]


def test_the_api_tells_where_to_pay(page: OwnPage) -> None:
    opened = page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(page.shop)

    told = opened.shopper.json("GET", f"/api/orders/{opened.order_id}").get_json()

    (plan,) = plans_of(page.shop, opened.order_id)
    assert told["amountReceived"] == 2290
    assert [item.get("state") for item in told["items"]] == [None, "past_due"]
    assert told["subscriptions"][0]["payUrl"] == plan.pay_url


def test_an_order_of_things_bought_once_has_no_subscriptions(page: OwnPage) -> None:
    opened = bought(page, MUG)

    assert (
        "subscriptions"
        not in opened.shopper.json("GET", f"/api/orders/{opened.order_id}").get_json()
    )


# -- mails


def receipt(shop: Shop) -> tuple[str, str]:
    (message,) = shop.receipts()
    mail = receipts.compose(message)
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


def test_the_receipt_says_what_was_paid_and_what_follows(page: OwnPage) -> None:
    bought(page, MUG, COFFEE)

    (plan,) = plans_of(page.shop, page.shop.the_order().id)
    for said in receipt(page.shop):
        assert "€34.90" in said
        assert "every month" in said
        assert f"Active, renews on {day(plan.period_end)}." in said
        assert "You can end it at any time" in said


def test_the_receipt_of_a_trial_counts_nothing(page: OwnPage) -> None:
    bought(page, PRINTS)

    for said in receipt(page.shop):
        assert "Nothing was charged" in said
        assert "14 days free, then €9.00 every month" in said
        assert "Trial until" in said
        assert "received your payment" not in said


def test_the_receipt_leaves_out_what_is_not_paid(page: OwnPage) -> None:
    opened = page.opened(MUG, COFFEE)
    opened.save_card(DECLINED)
    opened.pay()
    settle(page.shop)

    for said in receipt(page.shop):
        assert "€22.90" in said
        assert "-€12.00" in said or "−€12.00" in said
        assert "€34.90" not in said


def test_the_receipt_of_things_bought_once_is_as_ever(page: OwnPage) -> None:
    bought(page, MUG)

    for said in receipt(page.shop):
        assert "€22.90" in said
        assert "What follows" not in said
        assert "every" not in said


def test_a_line_that_begins_after_the_receipt_has_a_receipt_of_its_own(page: OwnPage) -> None:
    shop, opened = page.shop, page.opened(MUG, COFFEE)
    opened.pay()
    settle(shop)
    assert "€22.90" in letter(shop, "receipt")

    opened.save_card()
    settle(shop)

    assert lines(shop, opened.order_id)[COFFEE] == "active"
    assert sent(shop, "renewed") == ["Your receipt for Monthly coffee"]


# -- people


def test_a_person_is_given_their_subscriptions(page: OwnPage) -> None:
    opened = bought(page, COFFEE)

    (told,) = [row for row in people.export("maya@example.com") if row["kind"] == "subscription"]

    assert (told["order"], told["title"], told["status"]) == (
        opened.order_id,
        "Monthly coffee",
        "active",
    )


def test_a_running_subscription_keeps_its_person_and_is_named(page: OwnPage) -> None:
    shop, opened = page.shop, bought(page, COFFEE)
    (plan,) = plans_of(shop, opened.order_id)
    runner = shop.app.test_cli_runner()

    early = runner.invoke(args=["person", "erase", "maya@example.com"])
    assert early.exit_code == 1
    assert f"cancel first, it still charges: {plan.stripe_id} (Monthly coffee)" in early.output
    order = shop.order(opened.order_id)
    assert order is not None
    assert order.email == "maya@example.com"

    cancel(opened, "now")
    settle(shop)
    done = runner.invoke(args=["person", "erase", "maya@example.com"])

    assert done.exit_code == 0, done.output
    order = shop.order(opened.order_id)
    assert order is not None
    assert (order.email, order.total) == (None, 1200)
    (plan,) = plans_of(shop, opened.order_id)
    assert (plan.title, plan.stripe_customer, plan.pay_url) == ("Monthly coffee", None, None)
    assert shop.proves()
