"""What needs a person: how each kind is told, what a press does, and what ends it by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain.errors import ShopError
from extensions import reading
from models import ShopException
from services import check, exceptions, outbox, reconcile, refunds, remedies, settle
from services.remedies import NoLongerFits, NotANote
from tests.counter import troubles
from tests.counter.door import Colleague, audit
from tests.counter.scenes import ADA, ask, at_once, at_stripe, in_the_dashboard
from tests.counter.test_disputes import WINS, a_disputed_order, answer
from tests.counter.troubles import the_only_one
from tests.pages.conftest import signed_in
from tests.pages.test_doors import everything
from tests.shop import LAMP, MUG, ORIGIN, Shop, Shopper, TestShops

LIST = "/admin/exceptions"
ROOT = Path(__file__).resolve().parents[2]


def press(person: Shopper, row: ShopException, what: str, **form: Any) -> Any:
    return person.post(f"{LIST}/{row.id}/{what}", form)


def stands(shop: Shop, type_: str) -> tuple[str, str | None]:
    row = the_only_one(shop, type_)
    return row.state, row.how


# -- how it is told

TOLD: dict[str, tuple[Callable[[Shop], Any], str, tuple[str, ...]]] = {
    "amount_mismatch": (troubles.wrong_amount, "which is not what was due", ("Refund €21.90",)),
    "duplicate_payment": (troubles.paid_twice, "and €22.90 of it is too much", ("Refund €22.90",)),
    "late_payment": (
        troubles.late_money,
        "when its goods were gone",
        ("Accept it after all", "Refund €70.90"),
    ),
    "unmatched_payment": (
        troubles.unmatched,
        "€40.90 arrived at Stripe for a checkout",
        ("Look again at Stripe", "Refund €40.90"),
    ),
    "refund_failed": (
        troubles.failed_refund,
        "Maya Lindqvist did not get €5.00",
        ("Refund €5.00",),
    ),
    "dead_effect": (troubles.dead_effect, "The receipt for NL-", ("Try again",)),
    "missing_at_stripe": (
        troubles.unknown_at_stripe,
        "Stripe does not know where Maya Lindqvist was to pay",
        ("Look again at Stripe",),
    ),
    "dispute": (a_disputed_order, "bank wants €22.90 of NL-", ("Look again at Stripe",)),
}


@pytest.mark.accept("D32", "V29")
@pytest.mark.parametrize("type_", TOLD)
def test_each_kind_is_a_sentence_with_its_money_and_its_best_actions(
    sqlite_shop: Shop, type_: str
) -> None:
    make, sentence, buttons = TOLD[type_]
    make(sqlite_shop)
    admin = signed_in(sqlite_shop)

    page = admin.get(LIST)

    text = re.sub(r"<[^>]+>", "", page.text)
    assert page.status_code == 200
    assert sentence in text
    for button in buttons:
        assert button in text
    assert "since" in text and "Mark as seen to" in text
    row = the_only_one(sqlite_shop, type_)
    assert f'action="{LIST}/{row.id}/notes"' in page.text
    for_people = {"owner_mismatch", "subscription_refused", "bill_differs"}
    assert set(exceptions._CURES) | set(exceptions.DEAD) | for_people == set(remedies.OFFERS)


def test_a_shop_at_the_real_stripe_is_led_to_its_dashboard(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened() as shop:
        a_disputed_order(shop)
        admin = signed_in(shop)
        assert "dashboard.stripe.com" not in admin.get(LIST).text  # the sandbox has none
        about = shop.app.extensions["settings"]
        shop.app.extensions["settings"] = replace(about, stripe_api_base=None)

        page = admin.get(LIST).text

        assert re.search(r"https://dashboard.stripe.com/test/disputes/d\w+", page)
        assert "Answer it at Stripe" in page


def test_an_empty_list_says_what_would_stand_there(sqlite_shop: Shop) -> None:
    admin = signed_in(sqlite_shop)

    for view, words in (("open", "Nothing needs you"), ("seen", "Nobody has seen to anything"),
                        ("healed", "Nothing has healed"), ("x", "Nothing needs you")):  # fmt: skip
        page = admin.get(f"{LIST}?show={view}")
        assert page.status_code == 200 and words in page.text


def test_the_list_goes_on_page_by_page_and_loses_nobody(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blueprints.admin_exceptions.PAGE", 2)
    admin = signed_in(sqlite_shop)
    for _ in range(5):
        bought = sqlite_shop.shopper().buy()
        bought.pay("wrong_amount")
    sqlite_shop.deliver_and_work()
    seen: list[str] = []
    address: str | None = LIST
    while address:
        page = admin.get(address).text
        seen += re.findall(r'<section class="card[^>]*id="exception-(\d+)"', page)
        found = re.search(r'href="([^"]+)">More', page)
        address = found and found[1].replace("&amp;", "&")

    assert seen == [str(row.id) for row in sqlite_shop.exceptions()]
    assert "At stake: <b>€109.50" in admin.get(LIST).text


# -- refund it


@pytest.mark.accept("X9", "D32")
def test_late_money_is_refunded_once_however_often_it_is_pressed(shop: Shop, ada: Shopper) -> None:
    troubles.late_money(shop)
    row = the_only_one(shop, "late_payment")

    first, second = press(ada, row, "refunds"), press(ada, row, "refunds")

    assert (first.status_code, second.status_code) == (303, 409)
    assert "on its way already" in second.text
    outbox.drain()
    assert at_stripe(shop) == [(7090, "succeeded")]
    assert stands(shop, "late_payment") == ("resolved", "healed")
    assert press(ada, row, "refunds").status_code == 409
    healed = ada.get(f"{LIST}?show=healed").text
    assert "All of this payment was refunded." in healed and 'title="re_' in healed
    assert ("ada@example.com", "refunded", row.order_id) in audit(shop, "refunded")
    assert shop.proves()


def test_two_who_press_refund_at_once_refund_once(shop: Shop) -> None:
    troubles.late_money(shop)
    row = the_only_one(shop, "late_payment")

    results = at_once(shop, *[lambda: remedies.refund(row.id, ADA)] * 4)

    assert sorted(isinstance(one, NoLongerFits) for one in results) == [False, True, True, True]
    outbox.drain()
    assert at_stripe(shop) == [(7090, "succeeded")]


def test_twin_without_the_look_at_what_is_on_its_way_two_are_asked_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: a refund of the shop's own is owed, and nobody looks."""
    troubles.paid_twice(shop)
    row = the_only_one(shop, "duplicate_payment")
    with pytest.raises(NoLongerFits, match="on its way"):
        remedies.refund(row.id, ADA)
    monkeypatch.setattr(remedies, "_must_not_be_on_its_way", lambda _: None)

    remedies.refund(row.id, ADA)

    outbox.drain()
    assert at_stripe(shop) == [(2290, "succeeded")]  # Stripe itself refuses the second one
    assert [one.type for one in shop.exceptions()] == ["duplicate_payment", "refund_failed"]


def test_a_payment_too_much_ends_when_its_refund_has_succeeded(shop: Shop) -> None:
    troubles.paid_twice(shop)
    assert stands(shop, "duplicate_payment") == ("open", None)

    shop.work()

    assert stands(shop, "duplicate_payment") == ("resolved", "healed")
    assert shop.proves()


@pytest.mark.parametrize("where", ["here", "in the dashboard"])
def test_a_failed_refund_ends_when_the_same_sum_goes_back(shop: Shop, where: str) -> None:
    order = troubles.failed_refund(shop, 500)
    row = the_only_one(shop, "refund_failed")
    shop.clock.forward(seconds=1)
    (payment,) = refunds.payments_of(order.order_id)
    # the card of this payment lets every refund fail in the end; while it stands it counts
    if where == "here":
        assert remedies.refund(row.id, ADA) == (500, "eur")
        with pytest.raises(NoLongerFits, match="on its way"):
            remedies.refund(row.id, ADA)
        outbox.drain()
    else:
        in_the_dashboard(shop, order, 500)
        shop.deliver_and_work()

    assert stands(shop, "refund_failed") == ("resolved", "healed")
    with reading():
        assert refunds.left_of(payment) == 1790


def test_a_refund_of_another_sum_heals_no_failed_one(shop: Shop) -> None:
    order = troubles.failed_refund(shop, 500)
    shop.clock.forward(seconds=1)

    ask(order, 400)
    outbox.drain()

    assert stands(shop, "refund_failed") == ("open", None)


def test_one_refund_heals_one_of_two_that_failed(shop: Shop) -> None:
    order = troubles.failed_refund(shop, 500)
    ask(order, 500, key="another one of the same")
    # the second one is asked for after the first had failed, heals it, and then fails as well
    outbox.drain()
    troubles.time_passes(shop)
    first, second = shop.exceptions()
    assert (first.how, second.state) == ("healed", "open")
    shop.clock.forward(seconds=1)

    ask(order, 500, key="and one more of them")
    outbox.drain()

    assert [row.how for row in shop.exceptions()] == ["healed", "healed"]
    assert len({row.healed_by for row in shop.exceptions()}) == 2


def test_money_that_is_no_orders_goes_back_once_and_is_written_down(
    shop: Shop, ada: Shopper
) -> None:
    troubles.unmatched(shop)
    row = the_only_one(shop, "unmatched_payment")

    assert press(ada, row, "refunds").status_code == 303
    assert press(ada, row, "refunds").status_code == 409
    outbox.drain()
    outbox.drain()

    assert at_stripe(shop) == [(4090, "succeeded")]
    assert stands(shop, "unmatched_payment") == ("resolved", "healed")
    assert shop.proves()


def test_what_was_not_due_goes_back_and_stays_while_its_goods_are_set_aside(shop: Shop) -> None:
    bought = troubles.wrong_amount(shop)
    row = the_only_one(shop, "amount_mismatch")

    assert remedies.refund(row.id, ADA) == (2190, "eur")
    outbox.drain()

    assert at_stripe(shop) == [(2190, "succeeded")]
    assert shop.attempt(bought.order_id).hold == "held"
    assert stands(shop, "amount_mismatch") == ("open", None)
    with pytest.raises(NoLongerFits, match="Nothing of this payment is left"):
        remedies.refund(row.id, ADA)
    assert shop.proves()


# -- accept it after all


@pytest.mark.accept("X9")
def test_late_money_is_accepted_when_its_goods_are_there_again(shop: Shop, ada: Shopper) -> None:
    bought, other = troubles.late_money(shop)
    row = the_only_one(shop, "late_payment")
    refused = press(ada, row, "acceptance")
    assert refused.status_code == 409 and "2 are needed and 0 are free" in refused.text
    troubles.leave(shop, other)

    assert press(ada, row, "acceptance").status_code == 303

    order = shop.order(bought.order_id)
    assert order is not None
    assert (order.status, order.payment_status) == ("payment_confirmed", "paid")
    assert shop.product(LAMP).sold == 2
    assert stands(shop, "late_payment") == ("resolved", "healed")
    assert press(ada, row, "acceptance").status_code == 409
    outbox.drain()
    assert len(shop.receipts()) == 1
    acts = [(event.kind, event.actor) for event in shop.history(bought.order_id)]
    assert ("payment", "ada@example.com") in acts
    assert shop.proves()


def test_accepting_and_refunding_at_once_leaves_one_of_them(shop: Shop) -> None:
    _, other = troubles.late_money(shop)
    troubles.leave(shop, other)
    row = the_only_one(shop, "late_payment")

    accepted, refunded = at_once(
        shop, lambda: remedies.accept(row.id, ADA), lambda: remedies.refund(row.id, ADA)
    )

    outbox.drain()
    assert isinstance(accepted, ShopError) != isinstance(refunded, ShopError)
    assert len(at_stripe(shop)) == (0 if accepted is None else 1)
    assert shop.proves()


def test_money_that_partly_went_back_is_not_accepted(shop: Shop) -> None:
    bought, other = troubles.late_money(shop)
    troubles.leave(shop, other)
    in_the_dashboard(shop, bought, 100)
    shop.deliver_and_work()

    with pytest.raises(NoLongerFits, match="A part of this payment was refunded"):
        remedies.accept(the_only_one(shop, "late_payment").id, ADA)

    assert shop.product(LAMP).sold == 0
    assert shop.proves()


# -- look again


@pytest.mark.accept("D32")
def test_looking_again_finds_an_order_once_it_can_be_made(shop: Shop, ada: Shopper) -> None:
    bought, title = troubles.unmatched(shop)
    row = the_only_one(shop, "unmatched_payment")
    assert press(ada, row, "looks").status_code == 303
    assert "nothing new" in ada.get(LIST).text
    troubles.rename(MUG, title)

    assert press(ada, row, "looks").status_code == 303

    assert "Its order was found." in ada.get(LIST).text
    healed = the_only_one(shop, "unmatched_payment")
    assert (healed.how, healed.order_id) == ("healed", bought.order_id)
    order = shop.order(bought.order_id)
    assert order is not None
    assert order.payment_status == "paid"
    assert shop.proves()


@pytest.mark.parametrize("end", ["known again", "paid"])
def test_what_stripe_did_not_know_ends_when_it_does(shop: Shop, ada: Shopper, end: str) -> None:
    bought = shop.shopper().buy(LAMP)
    sessions = shop.sandbox.store.objects["checkout.session"]
    kept = sessions.pop(bought.session_id)
    shop.clock.forward(seconds=300)
    reconcile.sync()
    row = the_only_one(shop, "missing_at_stripe")
    press(ada, row, "looks")
    assert "still does not know it" in ada.get(LIST).text
    sessions[bought.session_id] = kept
    if end == "paid":
        bought.pay()
        shop.deliver_and_work()
    else:
        press(ada, row, "looks")
        assert "Stripe knows its payment page again." in ada.get(LIST).text

    assert stands(shop, "missing_at_stripe") == ("resolved", "healed")


def test_what_has_healed_opens_again_when_it_comes_back(shop: Shop) -> None:
    bought = shop.shopper().buy(LAMP)
    sessions = shop.sandbox.store.objects["checkout.session"]
    page = sessions[bought.session_id]
    for is_there, state in ((False, "open"), (True, "resolved"), (False, "open")):
        sessions.pop(bought.session_id, None)
        if is_there:
            sessions[bought.session_id] = page
        shop.clock.forward(seconds=300)
        reconcile.sync()
        assert stands(shop, "missing_at_stripe")[0] == state


def test_a_dispute_ends_with_what_the_bank_decided(shop: Shop) -> None:
    a_disputed_order(shop)
    answer(shop, WINS)
    shop.deliver_and_work()

    row = the_only_one(shop, "dispute")
    assert (row.state, row.how, row.resolution) == (
        "resolved",
        "healed",
        "The bank has decided: won.",
    )


# -- try again


def test_a_dead_event_is_tried_again_and_comes_back_if_it_dies_again(
    shop: Shop, ada: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = troubles.dead_event(shop, monkeypatch)
    row = the_only_one(shop, "dead_event")
    assert (row.order_id, row.amount, row.currency) == (bought.order_id, 2290, "eur")
    assert press(ada, row, "replays").status_code == 303
    assert press(ada, row, "replays").status_code == 409
    assert stands(shop, "dead_event") == ("resolved", "tried")

    def poison(*_: Any, **__: Any) -> None:
        raise RuntimeError("poison")

    with monkeypatch.context() as patch:
        patch.setattr(settle, "settle", poison)
        for _ in range(9):
            shop.work()
            shop.clock.forward(seconds=61)
    assert stands(shop, "dead_event") == ("open", None)
    assert press(ada, row, "replays").status_code == 303

    shop.work()

    order = shop.order(bought.order_id)
    assert order is not None
    assert order.payment_status == "paid"
    assert stands(shop, "dead_event") == ("resolved", "tried")
    assert "Tried again" in ada.get(f"{LIST}?show=seen").text


def test_a_dead_effect_is_carried_out_when_it_is_tried_again(shop: Shop, ada: Shopper) -> None:
    troubles.dead_effect(shop)
    row = the_only_one(shop, "dead_effect")

    assert press(ada, row, "replays").status_code == 303
    shop.work()

    assert [one.state for one in shop.receipts()] == ["done"]
    assert stands(shop, "dead_effect") == ("resolved", "tried")


def test_what_died_without_anybody_being_told_breaks_the_books(shop: Shop) -> None:
    troubles.dead_effect(shop)
    assert shop.proves()
    exceptions.close_exception(
        "dead_effect", the_only_one(shop, "dead_effect").stripe_id, "healed", "by mistake"
    )

    assert [one.invariant for one in check.run(against_stripe=False).violations] == ["dead letters"]


# -- seen to


@pytest.mark.accept("D32")
def test_seen_to_needs_a_note_and_can_be_undone(shop: Shop, ada: Shopper) -> None:
    bought = troubles.wrong_amount(shop)
    row = the_only_one(shop, "amount_mismatch")
    for note in ("", "  \n ", "x" * 501):
        refused = press(ada, row, "notes", note=note)
        assert refused.status_code == 422 and "Say what was done" in refused.text
    note = "sent it back by bank transfer <b>today</b>"

    assert press(ada, row, "notes", note=note).status_code == 303

    page = ada.get(LIST).text
    assert "Nothing needs you" in page and f'action="{LIST}/{row.id}/reopenings"' in page
    seen = ada.get(f"{LIST}?show=seen").text
    assert "sent it back by bank transfer &lt;b&gt;today" in seen and ADA in seen
    assert press(ada, row, "notes", note=note).status_code == 409
    assert "resolved by ada@example.com" in press(ada, row, "refunds").text
    assert shop.proves()  # what a person has explained is explained
    told = [event.detail for event in shop.history(bought.order_id) if event.kind == "note"]
    assert any("sent it back by bank transfer" in detail for detail in told)

    assert press(ada, row, "reopenings").status_code == 303
    assert press(ada, row, "reopenings").status_code == 409
    assert stands(shop, "amount_mismatch") == ("open", None)
    assert [deed for _, deed, _ in audit(shop, "saw to", "reopened")] == ["saw to", "reopened"]


def test_what_somebody_has_seen_to_stays_so_when_it_is_told_again(shop: Shop) -> None:
    bought = troubles.unknown_at_stripe(shop)
    remedies.see_to(the_only_one(shop, "missing_at_stripe").id, ADA, "another account's key")

    shop.clock.forward(seconds=300)
    reconcile.sync()

    assert stands(shop, "missing_at_stripe") == ("resolved", "seen_to")
    assert bought.order_id


def test_undoing_what_has_healed_meanwhile_does_not_open_it(shop: Shop) -> None:
    troubles.late_money(shop)
    row = the_only_one(shop, "late_payment")
    remedies.refund(row.id, ADA)
    remedies.see_to(row.id, ADA, "refunded it")
    outbox.drain()

    remedies.reopen(row.id, ADA)

    assert stands(shop, "late_payment") == ("resolved", "healed")


def test_a_note_says_something() -> None:
    with pytest.raises(NotANote):
        remedies.see_to(1, ADA, " ")


# -- who, and how


@pytest.mark.parametrize("what", ["refunds", "acceptance", "looks", "replays", "notes",
                                  "reopenings"])  # fmt: skip
def test_a_press_on_nothing_or_nonsense_changes_nothing(sqlite_shop: Shop, what: str) -> None:
    admin = signed_in(sqlite_shop)
    admin.token()
    before = everything(sqlite_shop)

    for id_ in ("999", "0", "-1", "x", "1e3", "99999999999999999999", "%00"):
        answer = admin.post(f"{LIST}/{id_}/{what}", {"note": "a note"})
        assert answer.status_code in (400, 404), (id_, answer.status_code)
    assert admin.get(f"{LIST}?after=99999999999999999999&show=healed").status_code == 200
    assert admin.get(f"{LIST}?after=x").status_code == 200
    assert everything(sqlite_shop) == before


def test_a_remedy_of_another_kind_is_refused_with_the_reason(sqlite_shop: Shop) -> None:
    admin = signed_in(sqlite_shop)
    troubles.wrong_amount(sqlite_shop)
    row = the_only_one(sqlite_shop, "amount_mismatch")

    for what in ("acceptance", "replays"):
        answer = press(admin, row, what)
        assert answer.status_code == 409 and "That does not help with" in answer.text


def test_a_press_needs_the_pages_token(sqlite_shop: Shop) -> None:
    troubles.wrong_amount(sqlite_shop)
    row = the_only_one(sqlite_shop, "amount_mismatch")
    admin = signed_in(sqlite_shop)

    answer = admin.browser.post(f"{LIST}/{row.id}/notes", data={"note": "a note"}, base_url=ORIGIN)

    assert answer.status_code == 400
    assert the_only_one(sqlite_shop, "amount_mismatch").state == "open"


@pytest.mark.parametrize(("role", "buttons"), [("viewer", 0), ("packer", 0), ("refunds", 2),
                                               ("admin", 3)])  # fmt: skip
def test_each_role_sees_the_buttons_that_it_may_press(
    sqlite_shop: Shop, role: str, buttons: int
) -> None:
    troubles.wrong_amount(sqlite_shop)
    person = Colleague(sqlite_shop, f"{role}@example.com")
    person.comes_by_link(role)

    page = person.get(LIST).text

    assert len(re.findall(rf'action="{LIST}/\d+/\w+"', page)) == buttons
    assert "Open NL-" in page  # everybody may look
