"""A dispute at the counter: what to do and until when, what must wait, and what to answer with."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update

from domain.errors import ShopError
from extensions import atomic, db
from models import CheckoutAttempt, Dispute, Order, OrderItem, OutboxMessage, Shipment
from sandbox import aftermath
from services import (
    alerts,
    attempts,
    dispute_pages,
    disputes,
    erasure,
    inbox,
    order_list,
    orders,
    refunds,
    shipping,
    stock,
)
from services.alerts import Alert
from services.order_list import Wanted
from tests.counter.scenes import ADA, a_paid_order, ask
from tests.counter.test_disputes import DISPUTED, LOSES, WINS, a_disputed_order, answer, status
from tests.counter.test_shipping import pack, ship
from tests.pages.conftest import signed_in
from tests.plans.buying import COFFEE, OwnPage
from tests.shop import MUG, ORIGIN, Checkout, Shop, Shopper

# docs.stripe.com/api/disputes/object
REASONS = """bank_cannot_process check_returned credit_not_processed customer_initiated
debit_not_authorized duplicate fraudulent general incorrect_account_details insufficient_funds
noncompliant product_not_received product_unacceptable subscription_canceled unrecognized""".split()
STATUSES = """appeal_needs_response appeal_under_review lost needs_response prevented under_review
warning_closed warning_needs_response warning_under_review won""".split()


def words(answer: Any) -> str:
    """What a page says, without its markup."""
    text = re.sub(r"<(script|style|svg)\b.*?</\1>", "", answer.text, flags=re.S)
    text = re.sub(r"</?(a|b|i|span|time)\b[^>]*>", "", text)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def page(person: Shopper, order_id: str) -> str:
    return words(person.get(f"/admin/orders/{order_id}"))


def a_disputed(shop: Shop, *, packed: bool = False) -> Checkout:
    """A paid order, packed perhaps, whose payment is disputed then."""
    bought = shop.shopper().buy()
    bought.pay(DISPUTED)
    shop.deliver(lambda one: "dispute" not in one.event_type)
    shop.work()
    if packed:
        pack(shop, bought)
    shop.deliver_and_work()
    shop.work()
    assert status(shop, bought.order_id) == "disputed"
    return bought


def becomes(shop: Shop, new: str, **changes: Any) -> None:
    """At Stripe: the only dispute has another status, and its event is on its way."""
    store = shop.sandbox.store
    (dispute,) = store.objects["dispute"].values()
    before = {"status": dispute["status"]}
    store.put(dispute | {"status": new} | changes)
    asks_only = new.startswith("warning_")
    charge = store.objects["charge"][dispute["charge"]]
    store.put(charge | {"disputed": not asks_only})  # of an inquiry nothing is taken
    shop.sandbox.emit("charge.dispute.updated", store.objects["dispute"][dispute["id"]], before)


def the_bank_comes(shop: Shop, charge_id: str | None = None) -> None:
    """For money that was paid in peace; the events are on their way."""
    charges = shop.sandbox.store.objects["charge"]
    aftermath.open_dispute(shop.sandbox, charges[charge_id or next(iter(charges))])


def settled(shop: Shop) -> None:
    shop.deliver_and_work()
    shop.work()


def version(shop: Shop) -> dict[str, int]:
    return {"version": shop.the_order().version}


# -- the order's page


@pytest.mark.accept("X5")
def test_the_order_says_what_the_bank_says_until_when_and_what_to_do(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    (row,) = disputes.of_order(order_id)
    assert row.due_by is not None

    shown = page(signed_in(shop), order_id)

    assert "Dispute Answer needed" in shown
    assert "The bank says that the cardholder did not make this payment." in shown
    assert f"Amount €22.90 Answer by {row.due_by.day} {row.due_by:%b, %H:%M} UTC" in shown
    assert "9 days left" in shown
    assert "What to do: Print the evidence and answer in Stripe’s dashboard." in shown
    assert "What helps: That the buyer is the cardholder" in shown
    html = signed_in(shop).get(f"/admin/orders/{order_id}").text
    assert f'href="https://dashboard.stripe.com/test/payments/{row.payment_intent}"' in html


@pytest.mark.accept("X5")
@pytest.mark.parametrize(
    ("new", "chip", "told"),
    [
        ("under_review", "The bank decides", "Wait. The answer is with the bank"),
        ("won", "Won", "The money is back, and the order can be packed"),
        ("lost", "Lost", "The money stays with the shopper"),
        ("warning_needs_response", "Answer needed", "or refund the payment, which ends"),
        ("warning_closed", "Closed, nothing taken", "The bank asked, and took nothing."),
    ],
)
def test_each_status_is_said_in_words_with_what_comes_next(
    shop: Shop, new: str, chip: str, told: str
) -> None:
    order_id = a_disputed_order(shop)
    becomes(shop, new)
    settled(shop)

    shown = page(signed_in(shop), order_id)

    assert chip in shown and told in shown
    assert ("Answer by" in shown) == new.endswith("needs_response")
    assert ("Question of the bank" in shown) == new.startswith("warning_")


@pytest.mark.parametrize(
    ("gone", "left", "look"),
    [
        ({"days": 5, "hours": 23}, "3 days left", "wait"),
        ({"days": 6, "hours": 1}, "2 days left", "bad"),
        ({"days": 8, "hours": 22}, "2 hours left", "bad"),
        ({"days": 8, "hours": 23, "minutes": 30}, "less than an hour left", "bad"),
        ({"days": 9, "hours": 1}, "the date has passed", "bad"),
    ],
)
def test_the_time_left_is_counted_and_turns_red_at_three_days(
    shop: Shop, gone: dict[str, int], left: str, look: str
) -> None:
    order_id = a_disputed_order(shop)
    shop.clock.forward(**gone)

    html = signed_in(shop).get(f"/admin/orders/{order_id}").text

    assert re.search(rf'<span class="chip {look}"><svg[^>]*>.*?</svg>{left}</span>', html)


@pytest.mark.accept("X5")
def test_the_timeline_tells_the_dispute_in_words(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    answer(shop, LOSES)
    settled(shop)
    (row,) = disputes.of_order(order_id)

    shown = page(signed_in(shop), order_id)

    told = f"€22.90: the cardholder did not make this payment · {row.stripe_id}"
    assert shown.index("Dispute lost") < shown.index("The bank disputes the payment charge.")
    assert shown.count(told) == 2


def test_shop_and_stripe_are_compared_over_it_and_a_sync_takes_it_over(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    ada = signed_in(shop)
    assert "Shop and Stripe agree 5 of 5" in page(ada, order_id)
    answer(shop, WINS)

    assert "Shop and Stripe disagree 4 of 5" in page(ada, order_id)
    synced = words(ada.post(f"/admin/orders/{order_id}/sync"))

    assert "Asked Stripe: brought up to date" in synced
    assert "Dispute won won same" in synced and "agree 5 of 5" in synced


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_stripes_has_words_of_its_own(reason: str) -> None:
    assert "_" not in dispute_pages.reason(reason).words
    assert reason == "general" or dispute_pages.reason(reason) != dispute_pages.reason("general")


@pytest.mark.parametrize("one", STATUSES)
def test_every_status_of_stripes_has_words(sqlite_shop: Shop, one: str) -> None:
    order_id = a_disputed_order(sqlite_shop)
    becomes(sqlite_shop, one)
    settled(sqlite_shop)

    (view,) = dispute_pages.of_order(order_id)

    assert view.status == one and "_" not in dispute_pages.told(one)
    assert "what the bank wants to know" not in view.next, "the words for what nobody has heard of"


def test_what_stripe_makes_up_next_year_is_shown_all_the_same(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    becomes(shop, "on_the_moon", reason="solar_wind")
    settled(shop)

    shown = page(signed_in(shop), order_id)

    assert "On the moon" in shown and "something is wrong with this payment" in shown
    assert "The dispute is on the moon" in shown
    assert status(shop, order_id) == "disputed"


# -- the list


@pytest.mark.accept("X5")
def test_the_list_has_a_view_of_what_is_disputed_and_keeps_it_from_the_packers(shop: Shop) -> None:
    other = a_paid_order(shop)
    order_id = a_disputed_order(shop)
    ada = signed_in(shop)

    def seen(view: str) -> list[str]:
        return re.findall(r'id="o-([^"]+)"', ada.get(f"/admin/orders?view={view}").text)

    assert (seen("disputes"), seen("to-ship")) == ([order_id], [other.order_id])
    assert "Disputes 1" in words(ada.get("/admin/orders"))
    answer(shop, WINS)
    settled(shop)
    assert (seen("disputes"), set(seen("to-ship"))) == ([], {order_id, other.order_id})


def test_an_order_is_found_by_the_id_of_its_dispute(shop: Shop) -> None:
    a_paid_order(shop)
    order_id = a_disputed_order(shop)
    (row,) = disputes.of_order(order_id)

    assert [order.id for order in order_list.page(Wanted.read({"q": row.stripe_id}))] == [order_id]


# -- shipping stops


@pytest.mark.accept("X5")
@pytest.mark.parametrize("words_", ["", LOSES], ids=["open", "lost"])
@pytest.mark.parametrize("step", ["pack", "ship"])
def test_nothing_disputed_is_packed_or_sent(shop: Shop, step: str, words_: str) -> None:
    order = a_disputed(shop, packed=step == "ship")
    if words_:
        answer(shop, words_)
        settled(shop)
    before = shop.the_order()
    why = "has taken this payment back" if words_ else "disputes this payment"

    with pytest.raises(shipping.Held, match=f"Nothing was done. The shopper’s bank {why}"):
        {"pack": pack, "ship": ship}[step](shop, order)

    after = shop.the_order()
    assert (after.status, after.version) == (before.status, before.version)
    assert shop.count(Shipment) == 0


@pytest.mark.accept("X5")
@pytest.mark.parametrize("packed", [False, True])
def test_the_page_has_a_sentence_where_its_button_was(shop: Shop, packed: bool) -> None:
    order = a_disputed(shop, packed=packed)
    ada = signed_in(shop)
    path = f"/admin/orders/{order.order_id}"
    (item,) = shop.rows(OrderItem)

    html = ada.get(path).text
    step = "shipments" if packed else "packing"
    refused = ada.post(f"{path}/{step}", {**version(shop), f"units-{item.id}": "1"})

    assert "Nothing is packed or sent until the dispute is won." in html
    assert f"{path}/packing" not in html and f"{path}/shipments" not in html
    assert refused.status_code == 409 and "The payment is disputed" in refused.text
    assert shop.count(Shipment) == 0


@pytest.mark.accept("X5")
def test_it_goes_on_once_the_dispute_is_won(shop: Shop) -> None:
    order = a_disputed(shop, packed=True)
    answer(shop, WINS)
    settled(shop)

    ship(shop, order)

    assert shop.the_order().status == "shipped"
    assert shop.proves()


def test_what_was_sent_before_can_still_be_noted_as_delivered(shop: Shop) -> None:
    order = a_paid_order(shop)
    pack(shop, order)
    ship(shop, order)
    the_bank_comes(shop)
    settled(shop)
    assert status(shop, order.order_id) == "disputed"

    shipping.deliver(order.order_id, actor=ADA, **version(shop))

    assert shop.the_order().status == "delivered"


@pytest.mark.accept("X5")
@pytest.mark.parametrize("guarded", [True, False])
def test_a_dispute_that_comes_while_ship_is_pressed(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The news is written and not committed when the parcel is about to go. Whoever ships waits for
    the attempt's lock, and then knows; without it the parcel leaves."""
    shop = postgres_shop
    bought = shop.shopper().buy()
    bought.pay(DISPUTED)
    shop.deliver(lambda one: "dispute" not in one.event_type)
    shop.work()
    pack(shop, bought)
    shop.deliver_type("charge.dispute.created")
    news = next(row for row in shop.events() if row.type == "charge.dispute.created")
    (item,) = shop.rows(OrderItem)
    as_shown = version(shop)

    written, decided = threading.Event(), threading.Event()
    carry_out = stock.carry_out
    said: list[ShopError | None] = []

    def hold_the_transaction(moves: Any) -> None:
        carry_out(moves)
        written.set()
        decided.wait(timeout=2)

    monkeypatch.setattr(stock, "carry_out", hold_the_transaction)
    if not guarded:
        unlocked = select(CheckoutAttempt).where(CheckoutAttempt.id == bought.order_id)
        unguarded = SimpleNamespace(
            lock=lambda _: db.session.scalar(unlocked), order_of=attempts.order_of
        )
        monkeypatch.setattr(shipping, "attempts", unguarded)

    def press_ship() -> None:
        written.wait(timeout=5)
        try:
            shipping.ship(
                bought.order_id, {item.id: 1}, carrier="DHL", tracking="", actor=ADA, **as_shown
            )
            said.append(None)
        except ShopError as error:
            said.append(error)
        decided.set()

    gone = threading.Thread(target=inside(shop, press_ship))
    gone.start()
    inbox.apply(news.id, news.payload, "webhook", 0)
    gone.join()

    assert status(shop, bought.order_id) == "disputed"
    assert shop.count(Shipment) == (0 if guarded else 1)
    assert isinstance(said[0], shipping.Held) is guarded


def inside(shop: Shop, work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with shop.app.app_context():
            work()

    return run


# -- the alert


def the_alert() -> Alert | None:
    return next((one for one in alerts.standing() if one.code == "dispute_due"), None)


@pytest.mark.accept("X5")
def test_an_alert_stands_while_a_dispute_is_unanswered(shop: Shop) -> None:
    a_paid_order(shop)
    assert the_alert() is None
    a_disputed_order(shop)
    (row,) = shop.rows(Dispute)

    fired = the_alert()

    assert fired is not None
    due = f"{row.due_by.day} {row.due_by:%B %Y}"
    assert f"One dispute of €22.90: answer by {due} (9 days left)" in fired.detail
    assert fired.since == row.opened_at
    assert "A disputed payment wants an answer" in signed_in(shop).get(fired.link).text
    metrics = shop.app.test_client().get("/metrics", base_url=ORIGIN).text
    assert 'quittance_alert_firing{alert="dispute_due"} 1.0' in metrics
    becomes(shop, "under_review")
    settled(shop)
    assert the_alert() is None


def test_the_alert_counts_them_and_names_the_earliest_date(shop: Shop) -> None:
    a_disputed_order(shop)
    first = shop.rows(Dispute)[0].due_by
    shop.clock.forward(days=2)
    a_disputed_order(shop)
    dollars = shop.shopper()
    dollars.post("/currency", {"currency": "usd"})
    dollars.buy().pay(DISPUTED)
    shop.deliver_and_work()
    shop.work()

    fired = the_alert()

    assert fired is not None
    sums = r"3 disputes of €45\.80 and \$\d+\.\d\d: "
    assert re.match(
        sums + rf"answer the first by {first.day} {first:%B %Y} \(7 days left\)", fired.detail
    )


# -- the shopper


@pytest.mark.accept("X5")
def test_the_shopper_reads_one_sentence_and_gets_no_mail(shop: Shop) -> None:
    order = a_paid_order(shop)
    mails = shop.count(OutboxMessage)
    the_bank_comes(shop)
    settled(shop)

    shown = words(order.shopper.get(f"/orders/{order.order_id}"))
    listed = words(order.shopper.get("/orders"))

    assert "We received your payment of €22.90. Your bank is looking at this payment." in shown
    assert "next working day" not in shown, "nothing is promised that will not be done"
    for page_ in (shown, listed):
        assert "isput" not in page_ and "chargeback" not in page_.lower()
    assert "Confirmed" in listed
    assert "looking at this payment" not in words(shop.shopper().get(f"/orders/{order.order_id}"))
    for sentence in (LOSES, ""):
        if sentence:
            answer(shop, sentence)
        settled(shop)
        assert "looking" not in words(order.shopper.get(f"/orders/{order.order_id}"))
    assert shop.count(OutboxMessage) == mails


# -- refunds


@pytest.mark.accept("X5")
@pytest.mark.parametrize(
    ("end", "why"),
    [("", "disputes this payment and has taken"), (LOSES, "has taken this payment back")],
    ids=["open", "lost"],
)
def test_what_the_bank_has_taken_is_not_offered_as_a_refund(shop: Shop, end: str, why: str) -> None:
    order_id = a_disputed_order(shop)
    if end:
        answer(shop, end)
        settled(shop)
    ada = signed_in(shop)
    path = f"/admin/orders/{order_id}/refund"

    form = ada.get(path)
    pressed = ada.post(path, {"amount": "1.00", "reason": "goodwill", "key": "k" * 10})

    assert form.status_code == 200 and f"The shopper’s bank {why}" in form.text
    assert 'id="refund-form"' not in form.text
    assert pressed.status_code == 409 and why in pressed.text
    assert refunds.of_order(order_id) == []
    assert shop.sandbox.ledger()["refunds"] == []


def test_a_form_that_was_sent_before_the_dispute_is_still_one_refund(shop: Shop) -> None:
    order = a_paid_order(shop)
    first = ask(order, 500, key="k" * 10)
    shop.work()
    the_bank_comes(shop)
    settled(shop)

    assert ask(order, 500, key="k" * 10).id == first.id
    with pytest.raises(refunds.ChargedBack):
        ask(order, 500)


@pytest.mark.accept("X5")
@pytest.mark.parametrize("new", ["warning_needs_response", "warning_under_review"])
def test_of_a_question_the_money_can_go_back(shop: Shop, new: str) -> None:
    order_id = a_disputed_order(shop)
    becomes(shop, new)
    settled(shop)
    ada = signed_in(shop)
    path = f"/admin/orders/{order_id}/refund"

    assert "€22.90 can still be refunded" in words(ada.get(path))
    form = {"amount": "22.90", "reason": "goodwill", "key": "k" * 10}
    assert ada.post(path, form).status_code == 303
    settled(shop)

    (row,) = refunds.of_order(order_id)
    assert (row.amount, row.state) == (2290, "succeeded")


def test_of_several_payments_only_the_disputed_one_stays(shop: Shop) -> None:
    """The bank takes back what was bought once; the first month was another payment."""
    opened = OwnPage(shop).opened(MUG, COFFEE)
    opened.buy()
    once = next(row for row in shop.payments() if row.payment_intent == opened.intent)
    the_bank_comes(shop, once.charge_id)
    settled(shop)

    (payment,) = refunds.payments_of(opened.order_id)

    assert payment.part == COFFEE
    with pytest.raises(refunds.MoreThanIsLeft):
        refunds.ask(opened.order_id, 1201, {}, reason="x", actor=ADA, key="k" * 10)


# -- the evidence


def evidence(person: Shopper, order_id: str, **more: str) -> Any:
    return person.get(f"/admin/orders/{order_id}/evidence", query_string=more)


@pytest.mark.accept("X5")
def test_the_evidence_has_everything_that_is_stored(shop: Shop) -> None:
    bought = shop.shopper().buy(phone="+49 30 12345")
    bought.pay()
    shop.deliver(lambda one: one.event_type == "nothing")
    bought.shopper.come_back(bought)
    settled(shop)
    pack(shop, bought)
    ship(shop, bought)
    shipping.deliver(bought.order_id, actor=ADA, **version(shop))
    ask(bought, 500)
    bought.shopper.post(f"/orders/{bought.order_id}/receipts")
    settled(shop)
    the_bank_comes(shop)
    settled(shop)
    (payment,), (dispute,) = shop.payments(), shop.rows(Dispute)
    (refund,) = refunds.of_order(bought.order_id)
    mails = shop.rows(OutboxMessage, OutboxMessage.kind.in_(("receipt", "shipped", "refunded")))

    shown = words(evidence(signed_in(shop), bought.order_id))

    for fact in (
        orders.number(shop.the_order()), "Enamel mug", "€18.00", "Shipping €4.90", "Total €22.90",
        "Maya Lindqvist", "maya@example.com", "+49 30 12345", "Sonnenallee 12, 12047 Berlin, DE",
        "with DHL: 1 × Enamel mug", "00340 7", "noted by the shop", payment.payment_intent,
        payment.charge_id, payment.method, dispute.stripe_id, "fraudulent: the cardholder did not",
        "€5.00, succeeded: came broken", refund.stripe_id, "Northlight Supply",
        "help@northlight.example", "Checked out and went to pay", "Came back from paying",
    ):  # fmt: skip
        assert fact in shown, fact
    assert len(mails) == 3
    for mail in mails:
        assert f"Message-ID {mail.result['message_id']}" in shown
        assert f"{mail.done_at:%H:%M:%S} UTC" in shown
    assert ADA not in shown, "the bank need not know who works here"


@pytest.mark.accept("X5")
def test_what_is_missing_is_called_missing_and_nothing_is_made_up(shop: Shop) -> None:
    order_id = a_disputed_order(shop)

    shown = words(evidence(signed_in(shop), order_id))

    assert "Telephone not stored" in shown
    assert "Parcels none was sent" in shown and "Delivered not stored" in shown
    assert "Refunds None." in shown
    assert "Terms of the subscription" not in shown
    assert "Came back from paying" not in shown, "the webhook told of it, and nobody came"
    assert "Missing, because the shop does not store it The network address (IP)" in shown


def test_the_evidence_of_a_forgotten_person_names_nobody(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    erasure.erase("maya@example.com")

    shown = words(evidence(signed_in(shop), order_id))

    assert "Name not stored E-mail not stored" in shown and "Address not stored" in shown
    assert "maya" not in shown.lower()


def test_the_evidence_of_a_subscription_has_its_terms_and_every_payment(shop: Shop) -> None:
    opened = OwnPage(shop).opened(COFFEE)
    opened.buy()

    shown = words(evidence(signed_in(shop), opened.order_id))

    assert "Terms of the subscription “Monthly coffee”" in shown
    assert "Price €12.00 every month Status active" in shown
    assert "1 × Monthly coffee" in shown and "Invoice in_" in shown


@pytest.mark.accept("X5")
def test_the_text_says_what_the_page_says(shop: Shop) -> None:
    order_id = a_disputed_order(shop)
    ada = signed_in(shop)

    text = evidence(ada, order_id, format="text")

    number = orders.number(shop.the_order())
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert f"evidence-{number}.txt" in text.headers["Content-Disposition"]
    shown = words(evidence(ada, order_id))
    told = text.text.partition("MISSING")[0]
    facts = [line.partition(": ") for line in told.splitlines() if ": " in line]
    assert len(facts) > 30
    for label, _, value in facts:
        assert f"{label} {value}" in shown, label


def test_a_line_break_in_a_name_makes_no_second_fact(shop: Shop) -> None:
    a_disputed_order(shop)
    with atomic() as session:
        session.execute(update(Order).values(name="Maya\nDelivered: yesterday"))

    text = evidence(signed_in(shop), shop.the_order().id, format="text").text

    assert "Name: Maya Delivered: yesterday" in text.splitlines()


def test_there_is_evidence_without_a_dispute_and_none_without_an_order(shop: Shop) -> None:
    order = a_paid_order(shop)
    ada = signed_in(shop)

    assert "The dispute" not in words(evidence(ada, order.order_id))
    assert evidence(ada, "nope").status_code == 404
