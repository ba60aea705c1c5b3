"""A person's data is given out whole, and forgotten on request; the money rows stay."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from extensions import db, reading
from models import AuditEntry
from services import erasure, links, people, reconcile
from tests.pages.conftest import signed_in
from tests.shop import MUG, Shop


def _everything(shop: Shop) -> str:
    """All rows of all tables, as one text."""
    with reading() as session:
        return "\n".join(
            str(tuple(row))
            for table in db.metadata.sorted_tables
            for row in session.execute(text(f'SELECT * FROM "{table.name}"'))
        )


@pytest.mark.accept("X22")
def test_everything_about_a_person_is_given_out(shop: Shop) -> None:
    shopper = shop.shopper()
    paid = shopper.buy(MUG, 2, email="Maya@example.com")
    paid.pay()
    shop.deliver_and_work()
    waiting = shopper.buy()
    shop.shopper().buy(email="somebody@example.com")

    rows = list(people.export("maya@EXAMPLE.com"))

    orders = {row["id"]: row for row in rows if row["kind"] == "order"}
    assert set(orders) == {paid.order_id, waiting.order_id}
    assert orders[paid.order_id]["address"]["line1"] == "Sonnenallee 12"
    assert orders[paid.order_id]["items"] == [{"sku": MUG, "title": "Enamel mug", "quantity": 2}]
    assert [row["what"] for row in rows if row["kind"] == "mail"] == ["receipt"]
    assert [row["id"] for row in rows if row["kind"] == "checkout" if row["state"] == "open"] == [
        waiting.order_id
    ]
    assert "somebody" not in json.dumps(rows)


@pytest.mark.accept("X22")
def test_a_person_is_forgotten_and_every_cent_stays(shop: Shop) -> None:
    shopper, other = shop.shopper(), shop.shopper()
    paid = shopper.buy(MUG, 2)
    paid.pay()
    theirs = other.buy(email="somebody@example.com", name="Some Body", line1="Elsewhere 1")
    theirs.pay()
    shop.deliver_and_work()
    shopper.buy()  # never paid
    shop.clock.forward(minutes=61)
    reconcile.sync()
    before = len(shop.payments())

    done = erasure.erase("MAYA@example.com")

    assert (done.orders, done.still_open) == (2, 0)
    left = _everything(shop).lower()
    assert not {word for word in ("maya", "lindqvist", "sonnenallee") if word in left}
    order = shop.order(paid.order_id)
    assert order is not None
    assert (order.name, order.email, order.phone, order.address) == (None, None, None, None)
    assert (order.total, order.payment_status) == (4090, "paid")
    assert len(shop.payments()) == before
    kept = shop.order(theirs.order_id)
    assert kept is not None
    assert kept.email == "somebody@example.com"
    assert erasure.erase("maya@example.com").orders == 0
    assert shop.proves()


@pytest.mark.accept("X22", "X13")
def test_links_in_old_mails_open_nothing_after_that(shop: Shop) -> None:
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    path = links.path(shop.the_order())
    assert shop.shopper().get(path).status_code == 200

    erasure.erase("maya@example.com")

    assert shop.shopper().get(path).status_code == 404


@pytest.mark.accept("X22")
def test_whoever_may_still_have_to_be_written_to_is_kept_until_then(shop: Shop) -> None:
    bought = shop.shopper().buy()
    assert erasure.erase("maya@example.com").still_open == 1
    assert shop.attempt(bought.order_id).email == "maya@example.com"

    bought.pay()
    shop.deliver_and_work()

    assert erasure.erase("maya@example.com").still_open == 0
    assert "maya@example.com" not in _everything(shop)


@pytest.mark.accept("X22")
def test_the_commands_say_what_they_did(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    bought = shop.shopper().buy()
    runner = shop.app.test_cli_runner()
    told = runner.invoke(args=["person", "export", "maya@example.com"])
    assert {json.loads(line)["kind"] for line in told.output.splitlines()} == {"order", "checkout"}

    early = runner.invoke(args=["person", "erase", "maya@example.com"])
    assert early.exit_code == 1
    bought.pay()
    shop.deliver_and_work()
    done = runner.invoke(args=["person", "erase", "maya@example.com"])
    assert done.exit_code == 0
    assert "1 orders" in done.output


@pytest.mark.accept("X22")
def test_the_counter_gives_out_and_erases_once_the_address_is_typed(sqlite_shop: Shop) -> None:
    shop, admin = sqlite_shop, signed_in(sqlite_shop)
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver_and_work()
    page = f"/admin/orders/{bought.order_id}"

    told = admin.get(f"{page}/person")
    assert told.headers["Content-Disposition"] == "attachment; filename=person.jsonl"
    kinds = {json.loads(line)["kind"] for line in told.text.splitlines()}
    assert {"order", "payment", "mail"} <= kinds
    wrong = admin.post(f"{page}/erasures", {"email": "ben@example.com"})
    assert wrong.status_code == 409 and "maya@example.com" in admin.get(page).text

    assert admin.post(f"{page}/erasures", {"email": " MAYA@example.com"}).status_code == 303

    assert "1 orders and" in admin.get(page).text
    assert "maya@example.com" not in _everything(shop)
    assert admin.get(f"{page}/person").status_code == 404
    (entry,) = shop.rows(AuditEntry, AuditEntry.action == "erased a person")
    assert entry.actor == "ada@example.com"
