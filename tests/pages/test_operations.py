"""What operators and load balancers see, and how pages fail when something is down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from extensions import db, doorbell, limiter
from models import StripeEvent
from services import health, leases
from tests.shop import MUG, ORIGIN, Shop, TestShops


@contextmanager
def database_down() -> Iterator[None]:
    """No connection to the database can be opened."""

    def refused(*_: Any) -> None:
        raise OperationalError("connect", {}, Exception("connection refused: secret-host"))

    db.session.remove()
    db.engine.dispose()
    event.listen(db.engine, "do_connect", refused)
    try:
        yield
    finally:
        event.remove(db.engine, "do_connect", refused)


def test_healthz_needs_nothing_but_the_process(shop: Shop) -> None:
    with database_down():
        answer = shop.app.test_client().get("/healthz", base_url=ORIGIN)

    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_readyz_is_ready_when_every_part_is(shop: Shop) -> None:
    leases.beat("worker")
    leases.beat("clock")
    answer = shop.app.test_client().get("/readyz", base_url=ORIGIN)

    assert answer.status_code == 200, answer.text
    assert {name: part["ok"] for name, part in answer.get_json()["parts"].items()} == {
        "database": True,
        "migrations": True,
        "redis": True,
        "worker": True,
        "clock": True,
    }


def test_readyz_names_the_dead_part(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    leases.beat("worker")
    leases.beat("clock")
    shop.clock.forward(seconds=health.SILENT_AFTER.total_seconds() + 1)
    leases.beat("clock")

    assert dead_parts(shop) == {"worker"}

    monkeypatch.setattr(health, "SILENT_AFTER", health.SILENT_AFTER * 10)
    assert dead_parts(shop) == set()
    monkeypatch.setattr(doorbell.connection, "ping", redis_down)
    assert dead_parts(shop) == {"redis"}
    with database_down():
        assert dead_parts(shop) == {"database", "migrations", "redis", "worker", "clock"}


def redis_down() -> None:
    raise redis.ConnectionError("connection refused")


def dead_parts(shop: Shop) -> set[str]:
    answer = shop.app.test_client().get("/readyz", base_url=ORIGIN)
    parts = answer.get_json()["parts"]
    dead = {name for name, part in parts.items() if not part["ok"]}
    assert answer.status_code == (503 if dead else 200)
    assert all(part["detail"] for part in parts.values())
    return dead


@pytest.mark.fault("F28")
def test_without_a_database_pages_say_so_and_webhooks_come_again(shop: Shop) -> None:
    shopper = shop.shopper()
    checkout = shopper.buy(MUG)
    checkout.pay()
    with database_down():
        page = shopper.get("/cart")
        assert page.status_code == 503
        assert "Back in a moment" in page.text and "Retry-After" in page.headers
        for leak in ("Traceback", "refused", "secret-host", "sqlalchemy"):
            assert leak not in page.text
        called = shopper.get(f"/api/orders/{checkout.order_id}")
        assert called.status_code == 503
        assert called.content_type == "application/problem+json"
        assert {status for _, status in shop.deliver()} == {503}

    assert shop.count(StripeEvent) == 0
    shop.clock.forward(hours=1)
    shop.deliver_and_work()
    assert shop.the_order().payment_status == "paid"


def test_an_error_of_ours_tells_nothing_of_its_inside(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret of the house")

    shopper = sqlite_shop.shopper()
    shopper.token()
    monkeypatch.setattr("services.orders.dossier", broken)
    page, called = shopper.get("/orders/some-id"), shopper.get("/api/orders/some-id")

    assert page.status_code == called.status_code == 500
    assert "Something broke on our side" in page.text
    assert called.content_type == "application/problem+json"
    for answer in (page, called):
        for leak in ("Traceback", "RuntimeError", "secret of the house", "dossier", ".py"):
            assert leak not in answer.text


def test_an_unknown_page_and_a_wrong_verb_have_pages_of_their_own(sqlite_shop: Shop) -> None:
    shopper = sqlite_shop.shopper()

    lost = shopper.get("/no/such/page")
    assert lost.status_code == 404 and "We can't find that page" in lost.text.replace("&#39;", "'")
    wrong = shopper.get("/cart/items")
    assert wrong.status_code == 405 and "Not that way" in wrong.text


def test_too_many_requests_are_slowed_down(
    sqlite_shops: TestShops, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_shops.opened() as shop:
        monkeypatch.setattr(limiter, "enabled", True)
        shopper = shop.shopper()
        form = {"csrf_token": shopper.token(), "email": "a@example.com"}
        pages = [shopper.browser.post("/orders/find", data=form, base_url=ORIGIN) for _ in range(6)]
        assert [page.status_code for page in pages] == [200] * 5 + [429]
        assert "A little slower, please" in pages[-1].text
        assert "Retry-After" in pages[-1].headers

        headers = {"X-CSRFToken": form["csrf_token"]}
        path = "/api/payments/create-checkout-session"
        calls = [
            shopper.browser.post(path, json={}, headers=headers, base_url=ORIGIN) for _ in range(31)
        ]
        assert {call.status_code for call in calls[:30]} == {422}
        assert calls[-1].status_code == 429
        assert calls[-1].content_type == "application/problem+json"
