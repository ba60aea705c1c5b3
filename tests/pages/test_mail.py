"""The receipt, sent once; and the links of one's orders, told only to their address."""

from __future__ import annotations

import email
import re
from email import policy
from email.message import EmailMessage

import pytest
from sqlalchemy import update

from extensions import atomic
from models import Order, OutboxMessage
from services import outbox
from tests.shop import LAMP, MUG, ORIGIN, Checkout, Shop


@pytest.fixture
def bought(sqlite_shop: Shop) -> Checkout:
    shopper = sqlite_shop.shopper()
    shopper.put_in_cart(LAMP)
    checkout = shopper.buy(MUG, 2, delivery="express")
    checkout.pay()
    sqlite_shop.deliver_and_work()
    return checkout


def mails(shop: Shop, kind: str) -> list[EmailMessage]:
    rows = shop.rows(OutboxMessage, OutboxMessage.kind == kind)
    sources = [row.result["source"] for row in rows if "source" in (row.result or {})]
    return [email.message_from_string(source, policy=policy.default) for source in sources]


def text_of(mail: EmailMessage, form: str) -> str:
    body = mail.get_body((form,))
    assert body
    return str(body.get_content())


@pytest.mark.accept("O17")
def test_the_receipt_says_what_was_paid_for_and_its_link_opens_the_order(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    (receipt,) = mails(sqlite_shop, "receipt")
    order = sqlite_shop.the_order()

    assert receipt["To"] == "maya@example.com"
    assert receipt["Subject"] == f"Your receipt for order NL-{order.number}"
    for form in ("plain", "html"):
        text = text_of(receipt, form)
        for shown in ("Enamel mug", "€36.00", "Desk lamp", "€33.00", "Express", "€12.90", "€81.90"):
            assert shown in text, (form, shown)
    link = re.search(rf"{ORIGIN}(/orders/\S+)", text_of(receipt, "plain"))
    assert link and link[1] in text_of(receipt, "html")
    assert "Thank you, Maya" in sqlite_shop.shopper().get(link[1]).text


@pytest.mark.accept("O17")
def test_news_told_again_sends_no_second_receipt(sqlite_shop: Shop, bought: Checkout) -> None:
    bought.shopper.come_back(bought)
    sqlite_shop.sandbox.chaos.duplicate = 3
    sqlite_shop.sandbox.flush(sqlite_shop.post_webhook)
    sqlite_shop.deliver_and_work()
    sqlite_shop.work()

    assert len(sqlite_shop.receipts()) == 1


@pytest.mark.fault("F32")
def test_a_receipt_sent_twice_by_a_crash_keeps_its_message_id(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    (first,) = mails(sqlite_shop, "receipt")
    with atomic() as session:  # the worker died before it could note that the mail was gone
        session.execute(update(OutboxMessage).values(state="new", result=None))
    sqlite_shop.clock.forward(minutes=5)
    outbox.drain()

    (second,) = mails(sqlite_shop, "receipt")
    assert second["Message-ID"] == first["Message-ID"]
    assert second.as_string().partition("boundary")[0] == first.as_string().partition("boundary")[0]
    assert first["Message-ID"] == f"<receipt.{bought.order_id}@shop.test>"


def test_the_receipt_comes_again_on_request_once_a_minute(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    path = f"/orders/{bought.order_id}/receipts"
    for _ in range(3):
        answer = bought.shopper.post(path)
        assert (answer.status_code, answer.location) == (303, f"/orders/{bought.order_id}")
    sqlite_shop.work()
    assert len(mails(sqlite_shop, "receipt_again")) == 1

    sqlite_shop.clock.forward(minutes=1)
    bought.shopper.post(path)
    sqlite_shop.work()
    again = mails(sqlite_shop, "receipt_again")
    assert len(again) == 2
    assert len({mail["Message-ID"] for mail in [*again, *mails(sqlite_shop, "receipt")]}) == 3
    assert "€81.90" in text_of(again[0], "plain")


def test_an_unpaid_order_has_no_receipt_to_send(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    assert checkout.shopper.post(f"/orders/{checkout.order_id}/receipts").status_code == 303

    assert sqlite_shop.count(OutboxMessage) == 0


def test_find_my_order_answers_alike_for_every_address(sqlite_shop: Shop, bought: Checkout) -> None:
    visitor = sqlite_shop.shopper()
    answers = []
    for address in ("maya@example.com", "nobody@example.com", "no address", "", "x" * 5000):
        answer = visitor.post("/orders/find", {"email": address})
        assert answer.status_code == 200
        answers.append(re.sub(r'(csrf[^>]*(?:value|content)=)"[^"]+"', "", answer.text))

    assert len(set(answers)) == 1
    assert "If we know this address" in answers[0]
    sqlite_shop.work()
    assert len(mails(sqlite_shop, "order_links")) == 1


def test_the_links_go_to_the_orders_address_and_open_each_of_them(
    sqlite_shop: Shop, bought: Checkout
) -> None:
    sqlite_shop.clock.forward(minutes=1)
    second = sqlite_shop.shopper().buy(email="MAYA@example.com")
    stranger = sqlite_shop.shopper().buy(email="ben@example.com")
    visitor = sqlite_shop.shopper()
    visitor.post("/orders/find", {"email": " Maya@Example.com "})
    visitor.post("/orders/find", {"email": "maya@example.com"})  # pressed twice
    sqlite_shop.work()

    (mail,) = mails(sqlite_shop, "order_links")
    assert str(mail["To"]).lower() == "maya@example.com"
    found = re.findall(rf"{ORIGIN}(/orders/([^?\s]+)\?\S+)", text_of(mail, "plain"))
    assert [order_id for _, order_id in found] == [second.order_id, bought.order_id]
    for link, _ in found:
        assert visitor.get(link).status_code == 200
    assert stranger.order_id not in mail.as_string()


def test_an_address_is_no_pattern(sqlite_shop: Shop, bought: Checkout) -> None:
    visitor = sqlite_shop.shopper()
    for address in ("%@example.com", "m_ya@example.com", "maya@example.com' OR '1'='1"):
        visitor.post("/orders/find", {"email": address})
    sqlite_shop.work()

    assert mails(sqlite_shop, "order_links") == []


def test_the_mailbox_of_the_test_shop_shows_the_letter(sqlite_shop: Shop, bought: Checkout) -> None:
    (row,) = sqlite_shop.receipts()
    visitor = sqlite_shop.shopper()

    assert "Your receipt for order" in visitor.get("/dev/mailbox").text
    letter = visitor.get(f"/dev/mailbox/{row.id}").text
    assert "€81.90" in letter and f'href="{ORIGIN}/orders/{bought.order_id}?token=' in letter
    assert visitor.get("/dev/mailbox/999999").status_code == 404
    assert sqlite_shop.count(Order) == 1
