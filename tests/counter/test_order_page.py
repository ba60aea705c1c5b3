"""One order's page: notes, the timeline by three authors, who settled it, receipts again."""

from __future__ import annotations

import re
from typing import Any

import pytest

from models import AuditEntry, OrderEvent, OutboxMessage
from services import metrics, outbox, reconcile
from tests.counter.door import Colleague
from tests.counter.scenes import ADA, a_paid_order
from tests.pages.conftest import signed_in
from tests.shop import Checkout, Shop, Shopper


def path(order: Checkout, rest: str = "") -> str:
    return f"/admin/orders/{order.order_id}{rest}"


def note_ids(shop: Shop, order: Checkout) -> list[int]:
    return [row.id for row in shop.history(order.order_id) if row.kind == "note"]


# -- notes


def test_a_note_stands_on_the_order_and_in_the_log_and_no_shopper_sees_it(
    shop: Shop, ada: Shopper
) -> None:
    order = a_paid_order(shop)

    answer = ada.post(path(order, "/notes"), {"note": " Called.\r\nWants forest <green>. "})

    assert answer.status_code == 303
    page = ada.get(answer.location).text
    assert "Called.\nWants forest &lt;green&gt;." in page and f"{ADA} wrote" in page
    assert "Called." not in order.shopper.get(f"/orders/{order.order_id}").text
    deeds = [(row.actor, row.action) for row in shop.rows(AuditEntry)]
    assert (ADA, "wrote a note") in deeds
    assert metrics.read().touched == 0, "writing down is no intervention"


@pytest.mark.parametrize("text", ["", " \n ", "x" * 2001])
def test_a_note_of_nothing_or_too_much_is_refused_and_stays_in_the_field(
    sqlite_shop: Shop, admin: Shopper, text: str
) -> None:
    order = a_paid_order(sqlite_shop)

    answer = admin.post(path(order, "/notes"), {"note": text})

    assert answer.status_code == 422 and "The note was not kept" in answer.text
    assert text.strip() in answer.text and note_ids(sqlite_shop, order) == []


def test_ones_own_note_may_be_changed_for_ten_minutes(sqlite_shop: Shop, admin: Shopper) -> None:
    order = a_paid_order(sqlite_shop)
    admin.post(path(order, "/notes"), {"note": "Called."})
    (note,) = note_ids(sqlite_shop, order)
    change = path(order, f"/notes/{note}")

    sqlite_shop.clock.forward(minutes=10)
    assert admin.post(change, {"note": "Wrote."}).status_code == 303
    sqlite_shop.clock.forward(seconds=1)
    late = admin.post(change, {"note": "Nothing."})

    assert late.status_code == 409 and "After ten minutes" in late.text
    (row,) = sqlite_shop.rows(OrderEvent, OrderEvent.id == note)
    assert row.detail == "Wrote."
    (deed,) = sqlite_shop.rows(AuditEntry, AuditEntry.action == "changed a note")
    assert deed.detail == "was: Called."


def test_nobody_changes_a_colleagues_note_or_what_is_none(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    order, other = a_paid_order(sqlite_shop), a_paid_order(sqlite_shop)
    admin.post(path(order, "/notes"), {"note": "Called."})
    (note,) = note_ids(sqlite_shop, order)
    transition = sqlite_shop.history(order.order_id)[0].id
    bo = Colleague(sqlite_shop, "bo@example.com")
    bo.comes_by_link("packer")

    for person, where in (
        (bo, path(order, f"/notes/{note}")),
        (admin, path(order, f"/notes/{transition}")),
        (admin, path(other, f"/notes/{note}")),
        (admin, path(order, "/notes/2147483647")),
    ):
        assert person.post(where, {"note": "Mine now."}).status_code == 404, where
    assert "Change</summary>" not in bo.get(path(order)).text
    (row,) = sqlite_shop.rows(OrderEvent, OrderEvent.id == note)
    assert row.detail == "Called."


# -- the timeline


@pytest.mark.accept("V29", "X15")
def test_the_timeline_is_told_by_three_authors_with_waits_and_works(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    order = sqlite_shop.shopper().buy()
    order.pay()
    sqlite_shop.deliver()
    sqlite_shop.clock.forward(seconds=4)
    sqlite_shop.work()
    admin.post(path(order, "/notes"), {"note": "Called."})

    page = admin.get(path(order)).text

    assert re.search(r"signature good · waited 4\.0 s · worked \d+ ms", page)
    assert "Receipt sent to maya@example.com" in page
    counts = dict(re.findall(r'>(All|Stripe|Shop|People) <span class="num">(\d+)<', page))
    assert counts["People"] == "1" and int(counts["All"]) == sum(
        int(counts[name]) for name in ("Stripe", "Shop", "People")
    )
    people = admin.get(path(order, "?by=person")).text
    assert "Called." in people and "signature good" not in people
    assert "signature good" in admin.get(path(order, "?by=stripe")).text
    assert admin.get(path(order, "?by=nobody'")).status_code == 200


LANES: list[tuple[str, Any]] = [
    ("webhook", lambda shop, order: shop.deliver_and_work()),
    ("landing", lambda shop, order: order.shopper.come_back(order)),
    ("sync", lambda shop, order: _clock(shop)),
    ("admin", lambda shop, order: signed_in(shop).post(path(order, "/sync"))),
]


def _clock(shop: Shop) -> None:
    reconcile.sync(due_only=False)


@pytest.mark.accept("X15")
@pytest.mark.parametrize(("lane", "comes"), LANES, ids=[lane for lane, _ in LANES])
def test_the_page_says_which_lane_settled_it_and_how_long_after_the_money(
    sqlite_shop: Shop, admin: Shopper, lane: str, comes: Any
) -> None:
    order = sqlite_shop.shopper().buy()
    order.pay()
    sqlite_shop.clock.forward(seconds=9)
    comes(sqlite_shop, order)
    first = admin.get(path(order)).text
    assert f"settled by <b>{lane}</b>" in first
    sqlite_shop.deliver_and_work()

    assert f"settled by <b>{lane}</b>, 9 s after the money" in admin.get(path(order)).text


# -- agreement


def test_a_disagreement_names_the_field_and_offers_what_mends_it(
    sqlite_shop: Shop, admin: Shopper
) -> None:
    order = sqlite_shop.shopper().buy()
    order.pay()  # and nobody tells us

    page = admin.get(path(order)).text

    assert "Shop and Stripe disagree" in page and "Take over what Stripe says" in page
    assert re.search(r'<tr class="bad"><th scope="row">State</th>', page)
    mended = admin.post(path(order, "/sync")).text
    assert "Shop and Stripe agree" in mended and "Take over" not in mended


# -- receipts


def test_a_receipt_goes_to_another_address_and_the_order_keeps_its_own(
    shop: Shop, ada: Shopper
) -> None:
    order = a_paid_order(shop)

    answer = ada.post(path(order, "/receipts"), {"email": "Office@Example.com"})
    outbox.drain()

    page = ada.get(answer.location).text
    assert "The receipt is on its way to Office@example.com." in page
    (again,) = shop.rows(OutboxMessage, OutboxMessage.kind == "receipt_again")
    assert again.result and again.result["to"] == "Office@example.com"
    now = shop.order(order.order_id)
    assert now and now.email == "maya@example.com"
    second = ada.post(path(order, "/receipts"), {"email": "maya@example.com"})
    assert "within this minute" in ada.get(second.location).text


@pytest.mark.parametrize("typed", ["", "maya", "a@b, c@d", "a@example.com\nBcc: x@example.com"])
def test_a_receipt_to_no_address_is_refused(sqlite_shop: Shop, admin: Shopper, typed: str) -> None:
    order = a_paid_order(sqlite_shop)

    answer = admin.post(path(order, "/receipts"), {"email": typed})

    assert answer.status_code == 422 and "Enter an e-mail address" in answer.text
    assert sqlite_shop.rows(OutboxMessage, OutboxMessage.kind == "receipt_again") == []


def test_a_sandbox_has_no_dashboard_to_lead_to(sqlite_shop: Shop, admin: Shopper) -> None:
    order = a_paid_order(sqlite_shop)

    assert "Open in Stripe" not in admin.get(path(order)).text
