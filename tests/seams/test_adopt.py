"""The page for adopters: its code is run as it stands here."""

from __future__ import annotations

import importlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services import announcements, foreign_goods, outbox
from tests.counter.scenes import a_paid_order, ask
from tests.seams.conftest import SECRET
from tests.seams.sink import Sink
from tests.shop import MUG, Shop, TestShops

PAGE = (Path(__file__).resolve().parents[2] / "docs/adopt.md").read_text()
BLOCKS = {
    found[1]: found[0]
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S)
    if (found := re.match(r"# (\S+)\n.*", block, re.S))
}
FEED = {
    "books": [
        {
            "isbn": "978-1",
            "title": "Moon atlas",
            "author": "Ines Ortiz",
            "printed": 3,
            "prices": [{"currency": "eur", "cents": 3900}],
        }
    ]
}


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files, where they can be imported from; nothing of them is left behind."""
    for name, code in BLOCKS.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PICKING_LISTS", str(tmp_path))
    monkeypatch.setenv("SHOP_SECRETS", SECRET)
    monkeypatch.setenv("RECEIVED", str(tmp_path / "received.db"))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("shop", "receiver")]:
        del sys.modules[name]
    for signal in announcements._SIGNALS.values():
        for handler in list(signal.receivers_for(None)):
            signal.disconnect(handler)


def test_each_example_is_short() -> None:
    assert sorted(BLOCKS) == [
        "receiver/app.py",
        "receiver/verify.py",
        "shop/fulfilment.py",
        "shop/goods.py",
    ]
    assert all(len(code.splitlines()) < 50 for code in BLOCKS.values())


@pytest.mark.accept("X21")
def test_the_catalogue_of_the_page_sells_a_book(
    sqlite_shops: TestShops, adopted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = adopted / "feed.json"
    feed.write_text(json.dumps(FEED))
    monkeypatch.setenv("BOOKS_FEED", feed.as_uri())
    with sqlite_shops.opened(catalogue="shop.goods:Books") as shop:
        foreign_goods.sync()
        assert "Moon atlas" in shop.shopper().get("/").text

        order = a_paid_order(shop, "BOOK-978-1")

        assert shop.order(order.order_id).subtotal == 3900  # type: ignore[union-attr]
        book = shop.product("BOOK-978-1")
        assert (book.on_hand, book.sold) == (2, 1)
        assert shop.proves()


@pytest.mark.accept("X21")
def test_the_fulfilment_of_the_page_prints_a_picking_list_and_withdraws_it(
    sqlite_shops: TestShops, adopted: Path
) -> None:
    with sqlite_shops.opened(listeners=("shop.fulfilment",)) as shop:
        order = a_paid_order(shop, MUG, 2)

        printed = json.loads((adopted / f"{order.order_id}.json").read_text())
        assert printed["pick"] == [{"sku": MUG, "quantity": 2}]
        assert printed["to"][:2] == ["Maya Lindqvist", "Sonnenallee 12"]
        assert printed["version"] == shop.order(order.order_id).version  # type: ignore[union-attr]

        ask(order)
        shop.deliver_and_work()
        assert not (adopted / f"{order.order_id}.json").exists()


@pytest.mark.accept("X21")
def test_the_receiver_of_the_page_takes_an_event_once_and_no_other(
    lite: Shop, sink: Sink, adopted: Path
) -> None:
    receiver = importlib.import_module("receiver.app").app.test_client()
    verify: Any = importlib.import_module("receiver.verify")
    a_paid_order(lite)
    lite.work()
    (got,) = sink.got
    # The shop's clock is the tests', which may be ahead by what a test moved it.
    assert verify.is_from_shop(got.body, got.signature, [SECRET], now=lite.clock.seconds)

    def delivered(body: bytes) -> int:
        headers = {"Quittance-Signature": got.signature}
        return receiver.post(
            "/orders", data=body, headers=headers, content_type="application/json"
        ).status_code

    assert [delivered(got.body), delivered(got.body), delivered(got.body + b" ")] == [204, 204, 400]
    with sqlite3.connect(os.environ["RECEIVED"]) as books:
        assert books.execute("SELECT type FROM events").fetchall() == [("order.confirmed",)]
    assert outbox.is_empty()
