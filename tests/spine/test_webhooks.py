"""Stripe's door: what is let in, what is kept out, and what is never lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from config import SettingsError, demo_environment, demo_settings
from extensions import db, doorbell
from gateway import StripeGateway
from models import StripeEvent
from services import inbox, outbox, settle, stock
from tests.shop import SECRET, Shop, TestShops
from tests.spine.stripe_says import event, paid_intent, paid_session, post, signed

ALIASES = (
    "/stripe/webhook",
    "/webhook",
    "/api/payments/webhook",
    "/api/stripe/webhook",
    "/api/webhooks",
)


def _body(shop: Shop, **more: object) -> bytes:
    return event("payment_intent.succeeded", paid_intent("pi_1", 100, None), **more)


@pytest.mark.parametrize("path", ALIASES)
def test_every_address_of_the_door_stores_the_event(sqlite_shop: Shop, path: str) -> None:
    shop = sqlite_shop
    body = _body(shop)
    headers = signed(body, at=shop.clock.seconds())

    answer = shop.app.test_client().post(path, data=body, headers=headers)

    assert answer.status_code == 200
    assert [row.id for row in shop.events()] == ["evt_test_1"]


@pytest.mark.accept("V5")
@pytest.mark.fault("F12")
def test_the_signature_covers_the_raw_bytes(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    body = _body(shop)
    headers = signed(body, at=shop.clock.seconds())
    re_serialised = json.dumps(json.loads(body), indent=1).encode()

    assert shop.post_webhook(re_serialised, headers) == 400
    assert shop.events() == []
    assert shop.post_webhook(body, headers) == 200


Forgery = Callable[[bytes, dict[str, str], Shop], tuple[bytes, dict[str, str]]]

FORGERIES: dict[str, Forgery] = {
    "no signature": lambda b, h, s: (b, {}),
    "an empty one": lambda b, h, s: (b, {"Stripe-Signature": ""}),
    "another secret": lambda b, h, s: (b, signed(b, at=s.clock.seconds(), secret="whsec_x")),
    "an empty secret": lambda b, h, s: (b, signed(b, at=s.clock.seconds(), secret="")),
    "an altered body": lambda b, h, s: (b.replace(b"100", b"900"), h),
    "no v1": lambda b, h, s: (b, {"Stripe-Signature": h["Stripe-Signature"].split(",")[0]}),
    "no t": lambda b, h, s: (b, {"Stripe-Signature": h["Stripe-Signature"].split(",")[1]}),
    "a non-ASCII v1": lambda b, h, s: (b, {"Stripe-Signature": "t=1,v1=Ã©"}),
    "a wordy t": lambda b, h, s: (b, {"Stripe-Signature": "t=soon,v1=00"}),
    "a non-UTF-8 body": lambda b, h, s: (b"\xff\xfe" + b, h),
    "an empty body": lambda b, h, s: (b"", h),
    "an old one": lambda b, h, s: (b, signed(b, at=s.clock.seconds() - 301)),
    "one from the future": lambda b, h, s: (b, signed(b, at=s.clock.seconds() + 301)),
}


@pytest.mark.accept("V6", "V7", "V33")
@pytest.mark.fault("F12")
@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_webhook_is_refused_and_logged(sqlite_shop: Shop, how: str) -> None:
    shop = sqlite_shop
    body = _body(shop)
    forged, headers = FORGERIES[how](body, signed(body, at=shop.clock.seconds()), shop)

    with capture_logs() as logs:
        status = shop.post_webhook(forged, headers)

    assert status == 400
    assert shop.events() == []
    assert "webhook.refused" in [entry["event"] for entry in logs]


@pytest.mark.parametrize("offset", [-299, 299])
def test_a_clock_that_is_a_little_off_is_forgiven(sqlite_shop: Shop, offset: int) -> None:
    shop = sqlite_shop

    assert post(shop, _body(shop), at=shop.clock.seconds() + offset) == 200


@pytest.mark.parametrize(
    "signed_but_odd",
    [b"[]", b"[1,2]", b"{}", b'"text"', b"null", b"{", b'{"id":5}', b'{"id":"evt_1"}',
     b'{"id":"evt_1","object":"event","type":"x","data":[1]}', b"[" * 20_000],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_refused(
    sqlite_shop: Shop, signed_but_odd: bytes
) -> None:
    assert post(sqlite_shop, signed_but_odd) == 400
    assert sqlite_shop.events() == []


def test_a_body_over_512_kib_is_too_large(sqlite_shop: Shop) -> None:
    body = _body(sqlite_shop, padding="x" * (512 * 1024))

    assert post(sqlite_shop, body) == 413
    assert sqlite_shop.events() == []


@pytest.mark.accept("X11")
@pytest.mark.fault("F15")
def test_both_secrets_are_accepted_while_one_is_rotated(sqlite_shops: TestShops) -> None:
    with sqlite_shops.opened(stripe_webhook_secrets=("whsec_new", "whsec_old")) as shop:
        for number, secret in enumerate(("whsec_new", "whsec_old")):
            assert post(shop, _body(shop, id_=f"evt_{number}"), secret=secret) == 200
        assert post(shop, _body(shop, id_="evt_3"), secret="whsec_other") == 400


@pytest.mark.accept("V4")
def test_an_empty_secret_verifies_nothing(sqlite_shop: Shop, tmp_path: Path) -> None:
    body = _body(sqlite_shop)
    gateway = StripeGateway(secret_key="sk_test_x", webhook_secrets=("",))
    header = signed(body, at=sqlite_shop.clock.seconds(), secret="")["Stripe-Signature"]

    with pytest.raises(Exception, match="does not match"):
        gateway.verify(body, header)
    with pytest.raises(SettingsError, match="STRIPE_WEBHOOK_SECRET"):
        demo_settings(
            demo_environment(
                tmp_path,
                public_origin="http://127.0.0.1",
                stripe_api_base="http://127.0.0.1:1",
                overrides={"SECRET_KEY": "k" * 40},
            )
            | {"STRIPE_WEBHOOK_SECRET": ""}
        )


FOREIGN = {
    "an unknown type": (event("price.created", {"id": "price_1", "object": "price"}), "followed"),
    "another mode": (
        event("payment_intent.succeeded", paid_intent("pi_1", 1, None), livemode=True),
        "live event",
    ),
    "a connected account": (
        event("payment_intent.succeeded", paid_intent("pi_1", 1, None), account="acct_1"),
        "connected account",
    ),
    "a thin event": (
        json.dumps(
            {"id": "evt_test_1", "object": "v2.core.event", "type": "v1.x", "livemode": False}
        ).encode(),
        "thin event",
    ),
    "no metadata": (
        event("payment_intent.succeeded", paid_intent("pi_1", 1, None)),
        "no checkout attempt",
    ),
    "a stranger's metadata": (
        event("checkout.session.expired", paid_session("cs_1", "pi_1", 1, "x", status="expired")),
        "names x",
    ),
}


@pytest.mark.accept("X10", "O24", "A22")
@pytest.mark.fault("F14", "F25")
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_event_is_stored_as_ignored_with_its_reason(shop: Shop, kind: str) -> None:
    body, reason = FOREIGN[kind]

    assert post(shop, body) == 200
    inbox.drain()

    stored = shop.events()[0]
    assert stored.state == "ignored"
    assert reason in stored.error
    assert shop.payments() == []


@pytest.mark.accept("X10")
def test_another_api_version_is_read_all_the_same(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    total = shop.the_order().total
    intent = paid_intent("pi_old", total, checkout.order_id)

    post(shop, event("payment_intent.succeeded", intent, api_version="2020-08-27"))
    shop.work()

    assert shop.the_order().payment_status == "paid"
    assert shop.events()[0].api_version == "2020-08-27"


@pytest.mark.accept("O23")
def test_money_for_a_checkout_we_do_not_know_waits_for_a_person(shop: Shop) -> None:
    lost = "7b4c9c5e-0000-4000-8000-000000000000"

    post(shop, event("payment_intent.succeeded", paid_intent("pi_lost", 4200, lost)))
    shop.work()

    assert [(e.type, e.stripe_id, e.amount) for e in shop.exceptions()] == [
        ("unmatched_payment", "pi_lost", 4200)
    ]
    assert shop.events()[0].state == "done"


@pytest.mark.accept("O25", "V8")
@pytest.mark.fault("F9", "F13")
def test_the_same_event_again_changes_nothing(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    body = _paid_event(shop, checkout.order_id)
    post(shop, body)
    shop.work()
    before = _picture(shop)

    assert post(shop, body) == 200
    shop.work()

    assert _picture(shop) == before
    assert len(shop.receipts()) == 1


def _paid_event(shop: Shop, order_id: str, id_: str = "evt_paid", intent: str = "pi_1") -> bytes:
    total = shop.attempt(order_id).total
    return event("payment_intent.succeeded", paid_intent(intent, total, order_id), id_=id_)


def _picture(shop: Shop) -> list[object]:
    order = shop.the_order()
    return [
        order.version,
        order.updated_at,
        len(shop.history(order.id)),
        [event.applied_at for event in shop.events()],
        [(p.sku, p.on_hand, p.held, p.sold) for p in [shop.product("MUG-FOR-35")]],
    ]


def _flood(shop: Shop, bodies: list[bytes]) -> list[int]:
    """Deliver all at once, each from a thread of its own, then let four workers drain."""
    statuses: list[int] = []
    gate = threading.Barrier(len(bodies))
    at = shop.clock.seconds()

    def deliver(body: bytes) -> None:
        headers = signed(body, at=at)
        gate.wait()
        statuses.append(shop.post_webhook(body, headers))

    _together([lambda body=body: deliver(body) for body in bodies])

    def worker() -> None:
        with shop.app.app_context():
            inbox.drain()

    _together([worker] * 4)
    outbox.drain()
    return statuses


def _together(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.accept("V8", "O17", "V10")
@pytest.mark.fault("F9")
def test_the_same_event_a_hundred_times_at_once_counts_once(postgres_shop: Shop) -> None:
    shop = postgres_shop
    checkout = shop.shopper().buy()

    statuses = _flood(shop, [_paid_event(shop, checkout.order_id)] * 100)

    assert statuses == [200] * 100
    assert len(shop.events()) == 1
    moves = [row.to_status for row in shop.history(checkout.order_id) if row.kind == "transition"]
    assert moves == ["pending_payment", "payment_confirmed"]
    assert len(shop.receipts()) == 1
    assert shop.product("MUG-FOR-35").sold == 1


def test_twin_without_the_key_a_hundred_copies_are_a_hundred_events(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: every delivery gets a key of its own, as if the id did not count."""
    shop = postgres_shop
    checkout = shop.shopper().buy()
    numbers = iter(range(10_000))
    real = inbox._row
    monkeypatch.setattr(
        inbox,
        "_row",
        lambda event, lane: real(replace(event, id=f"{event.id}_{next(numbers)}"), lane),
    )

    _flood(shop, [_paid_event(shop, checkout.order_id)] * 100)

    assert len(shop.events()) == 100
    assert len(shop.history(checkout.order_id)) > 50  # every copy was worked on


@pytest.mark.fault("F28", "F27")
def test_a_database_that_cannot_store_answers_503_so_that_stripe_sends_again(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = sqlite_shop
    away = sa.create_engine("sqlite:////nonexistent/folder/shop.db")
    body = _body(shop)
    with monkeypatch.context() as patch:
        patch.setattr(type(db), "engine", property(lambda self: away))
        assert post(shop, body) == 503
    assert shop.events() == []

    assert post(shop, body) == 200


@pytest.mark.accept("V9", "V12", "A24")
@pytest.mark.fault("F22", "F30")
@pytest.mark.parametrize(
    "victim", ["settle._mark_applied", "stock.sell", "outbox.owe", "history.moved"]
)
def test_a_crash_in_the_middle_writes_nothing_and_is_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    checkout = shop.shopper().buy()
    post(shop, _paid_event(shop, checkout.order_id))

    with monkeypatch.context() as patch:
        patch.setattr(f"services.{victim}", _explode)
        inbox.drain()
    order = shop.the_order()
    assert order.payment_status == "pending"
    assert shop.payments() == shop.receipts() == []
    assert shop.product("MUG-FOR-35").held == 1
    assert [(e.state, e.tries) for e in shop.events()] == [("new", 1)]

    shop.clock.forward(seconds=61)
    shop.work()
    assert shop.the_order().payment_status == "paid"
    assert shop.events()[0].state == "done"
    assert shop.proves(ledger=False)


def _explode(*_: object, **__: object) -> None:
    raise RuntimeError("the process dies here")


@pytest.mark.fault("F31")
def test_a_poison_event_stops_after_eight_tries_and_the_others_flow_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = shop.shopper().buy(), shop.shopper().buy()
    real = settle.settle

    def settle_but_not(attempt_id: str, *args: object, **kwargs: object) -> object:
        if attempt_id == bad.order_id:
            raise RuntimeError("poison")
        return real(attempt_id, *args, **kwargs)  # type: ignore[arg-type]

    post(shop, _paid_event(shop, bad.order_id, "evt_bad", "pi_bad"))
    post(shop, _paid_event(shop, good.order_id, "evt_good", "pi_good"))
    with monkeypatch.context() as patch:
        patch.setattr(settle, "settle", settle_but_not)
        for _ in range(12):
            inbox.drain()
            shop.clock.forward(seconds=61)

    states = {row.id: (row.state, row.tries) for row in shop.events()}
    assert states == {"evt_bad": ("dead", 8), "evt_good": ("done", 0)}
    assert [e.type for e in shop.exceptions()] == ["dead_event"]

    assert inbox.replay("evt_bad", "ada")
    inbox.drain()
    assert shop.order(bad.order_id).payment_status == "paid"  # type: ignore[union-attr]


@pytest.mark.accept("A23")
@pytest.mark.fault("F31")
def test_an_outage_of_stripe_is_not_a_try(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    checkout.pay("4000000000000002")  # a failed try is only a mirror: Stripe must be asked
    shop.sandbox.chaos.outage = "503"
    shop.deliver_type("payment_intent.payment_failed")
    for _ in range(2):  # the SDK's own patience makes each a second long
        inbox.drain()
        shop.clock.forward(seconds=61)
    assert [(e.state, e.tries) for e in shop.events()] == [("new", 0)]

    shop.sandbox.chaos.outage = ""
    inbox.drain()
    assert shop.events()[0].state == "done"
    assert shop.the_order().failure_reason == "generic_decline"


@pytest.mark.fault("F30")
def test_a_killed_workers_events_come_free_when_its_lease_ends(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    post(shop, _paid_event(shop, checkout.order_id))
    assert len(inbox._lease()) == 1  # a worker took it, and was killed

    assert inbox.drain() == 0
    shop.clock.forward(seconds=inbox.LEASE_S + 1)
    assert inbox.drain() == 1
    assert shop.the_order().payment_status == "paid"


def test_two_drains_never_take_the_same_event(postgres_shop: Shop) -> None:
    shop = postgres_shop
    for number in range(200):
        post(shop, _body(shop, id_=f"evt_{number}"))
    taken: list[int] = []

    def worker() -> None:
        with shop.app.app_context():
            taken.append(inbox.drain())

    _together([worker] * 4)

    assert sum(taken) == 200


@pytest.mark.accept("V31")
def test_signed_events_tell_success_and_failure(shop: Shop) -> None:
    paid, declined = shop.shopper().buy(), shop.shopper().buy()
    paid.pay()
    declined.pay("4000000000009995")

    assert {status for _, status in shop.deliver()} == {200}
    shop.work()

    assert shop.order(paid.order_id).payment_status == "paid"  # type: ignore[union-attr]
    failed = shop.order(declined.order_id)
    assert failed is not None
    assert (failed.payment_status, failed.failure_reason) == ("failed", "insufficient_funds")
    assert failed.status == "pending_payment"  # still payable


@pytest.mark.fault("F29")
def test_a_silent_doorbell_costs_nothing_but_time(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = sqlite_shop
    checkout = shop.shopper().buy()
    monkeypatch.setattr(doorbell, "connection", _dead_redis())
    monkeypatch.setattr(doorbell.queue, "connection", _dead_redis())

    assert post(shop, _paid_event(shop, checkout.order_id)) == 200
    shop.work()  # the sweep

    assert shop.the_order().payment_status == "paid"


def _dead_redis() -> redis.Redis:
    return redis.Redis(port=1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0))


@pytest.mark.parametrize("times", [1, 5])
def test_a_stored_event_rings_once_until_it_is_answered(shop: Shop, times: int) -> None:
    doorbell.queue.empty()
    doorbell.answered("drain_inbox")
    for number in range(times):
        post(shop, _body(shop, id_=f"evt_{number}"))

    assert len(doorbell.queue) == 1
    inbox.drain()
    post(shop, _body(shop, id_="evt_next"))
    assert len(doorbell.queue) == 2


def test_an_event_waits_in_the_database_until_it_is_applied(shop: Shop) -> None:
    checkout = shop.shopper().buy()
    post(shop, _paid_event(shop, checkout.order_id))

    stored: StripeEvent = shop.events()[0]

    assert stored.state == "new"
    assert stored.next_at - stored.received_at < timedelta(seconds=1)
    assert SECRET not in stored.payload


@pytest.mark.fault("F26")
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_transaction_that_lost_a_race_is_tried_again_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    checkout = shop.shopper().buy()
    post(shop, _paid_event(shop, checkout.order_id))
    real, losses = stock.sell, [sqlstate, sqlstate]

    def sell(lines: list[stock.Line]) -> None:
        if losses:
            orig = RuntimeError("deadlock detected")
            orig.sqlstate = losses.pop()  # type: ignore[attr-defined]
            raise sa.exc.OperationalError("UPDATE products", {}, orig)
        real(lines)

    monkeypatch.setattr(stock, "sell", sell)
    inbox.drain()

    assert [(e.state, e.tries) for e in shop.events()] == [("done", 0)]
    assert shop.product("MUG-FOR-35").sold == 1
    assert len(shop.payments()) == 1
