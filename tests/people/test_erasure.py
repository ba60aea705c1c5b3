"""Erased means gone: the whole database is searched for the person, and not a cent is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text, update
from sqlalchemy.event import listens_for

import logs
from extensions import atomic, db, reading
from models import (
    AuditEntry,
    CheckoutAttempt,
    OutboxMessage,
    Payment,
    Refund,
    ShopException,
)
from services import erasure, notes, order_views, people, reconcile, remedies
from services.exceptions import open_exception
from services.order_list import Wanted
from tests.counter.scenes import ADA, ask, at_stripe, in_the_dashboard
from tests.counter.test_shipping import pack, ship
from tests.pages.conftest import signed_in
from tests.shop import LAMP, MUG, Checkout, Shop, TestShops
from tests.spine.stripe_says import event, post

NAME, EMAIL, PHONE = "Zelda Quastenflosser", "zelda.quasten@example.com", "+49 170 5550199"
STREET, FLAT = "Kanarienweg 77", "Hinterhaus Voliere"
CANARIES = ("zelda", "quasten", "5550199", "kanarienweg", "voliere")
BOUGHT = {"name": NAME, "email": EMAIL, "phone": PHONE, "line1": STREET, "line2": FLAT}
BILLED = {"billing_details": {"name": NAME, "email": EMAIL, "address": {"line1": STREET}}}


def dump(shop: Shop) -> str:
    """All rows of all tables; of SQLite its file as well, with its log."""
    with reading() as session:
        found = [
            str(tuple(row))
            for table in db.metadata.sorted_tables
            for row in session.execute(text(f'SELECT * FROM "{table.name}"'))
        ]
    url = shop.app.extensions["settings"].database_url
    if url.startswith("sqlite"):
        file = Path(urlsplit(url).path)
        for part in (file, *file.parent.glob(f"{file.name}-*")):
            found.append(part.read_bytes().decode("latin-1"))
    return "\n".join(found).lower()


def canaries_in(shop: Shop) -> set[str]:
    whole = dump(shop)
    return {word for word in CANARIES if word in whole}


def money(shop: Shop) -> list[Any]:
    rows = [(p.payment_intent, p.amount, p.currency, p.role) for p in shop.payments()]
    rows += [(r.stripe_id, r.amount, r.state) for r in shop.rows(Refund)]
    return rows


def a_life_in_the_shop(shop: Shop) -> Checkout:
    """Bought, packed, sent, refunded in part, complained, signed in, and left things behind."""
    browser = shop.shopper()
    bought = browser.buy(MUG, 3, **BOUGHT)
    bought.pay()
    shop.deliver_and_work()
    pack(shop, bought)
    ship(shop, bought, 1, tracking=f"for {NAME}")
    ask(bought, 250, reason=f"{NAME} rang from {PHONE}")
    ask(bought, 250, reason="Zelda rang again")
    with atomic():
        open_exception("refund_failed", "re_x", f"{EMAIL} asks again", order_id=bought.order_id)
        open_exception("unmatched_payment", "pi_x", f"Was it {NAME}?")
    for row in shop.rows(ShopException):
        remedies.see_to(row.id, ADA, f"Wrote to {EMAIL.upper()}, {STREET}. Zelda is fine.")
    with atomic() as session:
        refused = f"SMTPRecipientsRefused: {{'{EMAIL}': (550, b'no such user')}}"
        dead = {"state": "dead", "error": refused, "payload": {}}
        session.add(
            OutboxMessage(kind="receipt_again", key="x:1", order_id=bought.order_id, **dead)
        )
        session.add(OutboxMessage(kind="order_links", key="y:1", state="dead",
                                  payload={"email": EMAIL}, error=refused))  # fmt: skip
        session.add(AuditEntry(actor=ADA, action="searched", detail=EMAIL))
        open_exception("dead_effect", "receipt_again:x:1", refused, order_id=bought.order_id)
        open_exception("dead_effect", "order_links:y:1", refused)
    order_views.keep("The complaint", Wanted(q=EMAIL), ADA)
    notes.write(bought.order_id, f"{NAME} is angry, and right.", ADA)
    browser.post("/orders/sign-in-links", {"email": EMAIL})
    browser.post("/orders/find", {"email": EMAIL})
    browser.post(f"/orders/{bought.order_id}/links")
    shop.deliver_and_work()
    intent = bought.session["payment_intent"]
    for number, type_ in enumerate(("charge.updated", "customer.created")):
        charge = {"id": f"ch_{number}", "object": "charge", "payment_intent": intent, **BILLED}
        assert post(shop, event(type_, charge, id_=f"evt_early_{number}")) == 200
    shop.work()
    browser.buy(LAMP, **BOUGHT)  # never paid
    shop.clock.forward(minutes=61)
    reconcile.sync()
    shop.deliver_and_work()
    return bought


@pytest.mark.accept("X22")
def test_nothing_of_the_person_is_left_anywhere_and_every_cent_is(shop: Shop) -> None:
    bought = a_life_in_the_shop(shop)
    admin = signed_in(shop)
    assert canaries_in(shop) == set(CANARIES), "the search finds what is there"
    before = money(shop)

    done = erasure.erase(EMAIL.upper())

    assert (done.orders, done.still_open, done.running) == (2, 0, ())
    assert done.file_is_clean
    assert canaries_in(shop) == set()
    assert money(shop) == before
    order = shop.order(bought.order_id)
    assert order and (order.total, order.refunded) == (5890, 500)
    assert shop.proves()
    page = admin.get(f"/admin/orders/{bought.order_id}")
    assert page.status_code == 200 and "zelda" not in page.text.lower()
    assert list(people.export(EMAIL)) == []
    assert erasure.erase(EMAIL).orders == 0


@pytest.mark.accept("X22")
def test_what_stripe_tells_of_the_person_afterwards_settles_and_is_emptied(shop: Shop) -> None:
    bought = a_life_in_the_shop(shop)
    erasure.erase(EMAIL)
    intent = bought.session["payment_intent"]

    in_the_dashboard(shop, bought, 700)
    shop.deliver_and_work()
    told = {"id": "ch_2", "object": "charge", "payment_intent": intent, **BILLED}
    session = {**bought.session, "customer_details": {"name": NAME, "email": EMAIL}}
    address = {"name": NAME, "address": {"line1": STREET, "country": "DE"}}
    session["collected_information"] = {"shipping_details": address}
    for number, (type_, about) in enumerate(
        (("charge.updated", told), ("checkout.session.completed", session))
    ):
        assert post(shop, event(type_, about, id_=f"evt_late_{number}")) == 200
    shop.work()
    ask(bought, None)
    shop.deliver_and_work()
    shop.work()

    order = shop.order(bought.order_id)
    assert order and order.payment_status == "refunded"
    assert sum(amount for amount, _ in at_stripe(shop)) == order.refunded == 5890
    assert order.address is None
    assert canaries_in_rows(shop) == set()
    mails = shop.rows(OutboxMessage, OutboxMessage.kind == "refunded")
    assert {(mail.state, (mail.result or {}).get("not_sent")) for mail in mails[2:]} == {
        ("done", "there is no order with an address")
    }
    assert shop.proves()


def test_the_twin_without_the_mark_of_erasure_lets_the_person_in_again(shop: Shop) -> None:
    bought = a_life_in_the_shop(shop)
    erasure.erase(EMAIL)
    with atomic() as session:
        session.execute(update(CheckoutAttempt).values(erased_at=None))
    told = {"id": "ch_2", "object": "charge", **BILLED}
    told["payment_intent"] = bought.session["payment_intent"]

    post(shop, event("charge.updated", told, id_="evt_late"))
    shop.work()

    assert canaries_in_rows(shop) != set()


def canaries_in_rows(shop: Shop) -> set[str]:
    """What came in was in the file for a moment; the next erasing sees to that."""
    with reading() as session:
        whole = "\n".join(
            str(tuple(row))
            for table in db.metadata.sorted_tables
            for row in session.execute(text(f'SELECT * FROM "{table.name}"'))
        ).lower()
    return {word for word in CANARIES if word in whole}


@pytest.mark.accept("X22")
def test_a_dead_refund_can_still_be_carried_out_for_somebody_who_was_erased(
    sqlite_shop: Shop,
) -> None:
    shop = sqlite_shop
    bought = a_life_in_the_shop(shop)
    row = ask(bought, 300, reason=f"for {NAME}")
    with atomic() as session:
        session.execute(
            update(OutboxMessage).where(OutboxMessage.key == row.id).values(state="dead")
        )
    erasure.erase(EMAIL)

    with atomic() as session:
        session.execute(
            update(OutboxMessage).where(OutboxMessage.key == row.id).values(state="new")
        )
    shop.work()
    shop.deliver_and_work()

    order = shop.order(bought.order_id)
    assert order and order.refunded == 800
    assert canaries_in_rows(shop) == set()
    assert shop.proves()


def test_what_sqlite_would_leave_in_its_file_is_not_left(sqlite_shops: TestShops) -> None:
    """Some builds overwrite what is deleted, and some leave it in free pages: as this one does."""
    with sqlite_shops.opened(anew=True) as shop:

        @listens_for(db.engine, "connect")
        def _leaves_remains(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA secure_delete=OFF")

        db.session.remove()
        db.engine.dispose()
        a_life_in_the_shop(shop)

        assert erasure.erase(EMAIL).file_is_clean

        assert canaries_in(shop) == set()


def test_a_namesake_keeps_what_is_theirs(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    first = shop.shopper().buy(email="one@example.com", name="Ada Ray", line1="First street 1")
    second = shop.shopper().buy(email="two@example.com", name="Ada Ray", line1="Second street 2")
    for bought in (first, second):
        bought.pay()
    shop.deliver_and_work()
    ask(second, 100, reason="Ada was unhappy")
    shop.work()

    erasure.erase("one@example.com")

    kept = shop.order(second.order_id)
    assert kept and (kept.name, kept.email) == ("Ada Ray", "two@example.com")
    assert [row.reason for row in shop.rows(Refund)] == ["Ada was unhappy"]
    assert [row["kind"] for row in people.export("one@example.com")] == []
    kinds = {row["kind"] for row in people.export("two@example.com")}
    assert {"order", "payment", "refund", "mail"} <= kinds


def test_a_colleague_who_bought_here_is_erased_as_a_shopper_and_stays_a_colleague(
    sqlite_shop: Shop,
) -> None:
    shop = sqlite_shop
    ada = signed_in(shop)
    bought = shop.shopper().buy(email=ADA, name="Ada Ray")
    bought.pay()
    shop.deliver_and_work()

    erasure.erase(ADA)

    assert ada.get("/admin/orders").status_code == 200
    assert {row.actor for row in shop.rows(AuditEntry)} >= {ADA}
    order = shop.order(bought.order_id)
    assert order and order.email is None


def test_the_log_names_nobody(sqlite_shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(human=False)  # into what is read here
    bought = a_life_in_the_shop(sqlite_shop)
    erasure.erase(EMAIL)
    sqlite_shop.shopper().get(f"/orders/{bought.order_id}?token=x")

    said = "".join(capsys.readouterr()).lower()
    assert "outbox.done" in said
    assert [word for word in CANARIES if word in said] == []


def test_all_that_is_kept_is_given_out(sqlite_shop: Shop) -> None:
    a_life_in_the_shop(sqlite_shop)

    rows = list(people.export(EMAIL))

    kinds = {row["kind"] for row in rows}
    assert kinds == {"order", "payment", "refund", "parcel", "checkout", "mail", "sign_in_link"}
    assert {row["what"] for row in rows if row["kind"] == "mail"} >= {
        "receipt",
        "shipped",
        "sign_in",
    }
    assert sum(row["amount"] for row in rows if row["kind"] == "payment") == 5890
    assert len(sqlite_shop.rows(Payment)) == 1
