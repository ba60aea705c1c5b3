"""The key figures: each formula by known inputs, and the same read from a shop that was used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from extensions import atomic, db
from models import Setting
from services import leases, metrics, reconcile
from services.causes import Cause
from services.leases import Pulse
from tests.shop import Shop

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ago(**step: float) -> datetime:
    return NOON - timedelta(**step)


# -- formulas


@pytest.mark.accept("D26", "D46")
@pytest.mark.parametrize(
    ("synced", "failing", "told"),
    [(0, 0, None), (200, 0, 1.0), (199, 1, 0.995), (19, 1, 0.95), (0, 3, 0.0)],
)
def test_sync_success_is_the_part_of_orders_in_step(
    synced: int, failing: int, told: float | None
) -> None:
    assert metrics.sync_success(synced, failing) == told


@pytest.mark.accept("D45")
@pytest.mark.parametrize(
    ("handled", "dead", "late", "told"),
    [(0, 0, 0, None), (10, 0, 0, 1.0), (999, 1, 0, 0.999), (999, 0, 1, 0.999), (6, 1, 1, 0.75)],
)
def test_webhook_success_counts_dead_and_late_events_as_failures(
    handled: int, dead: int, late: int, told: float | None
) -> None:
    assert metrics.webhook_success(handled, dead, late) == told


@pytest.mark.accept("D28")
def test_the_manual_rate_is_a_share_of_all_orders() -> None:
    assert metrics.share(3, 200) == 0.015
    assert metrics.share(0, 0) is None


@pytest.mark.accept("D27")
@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [
        ([], None, None),
        ([4.0], 4.0, 4.0),
        ([3.0, 1.0, 2.0, 4.0], 2.0, 4.0),
        ([float(n) for n in range(1, 101)], 50.0, 95.0),
        ([1.0] * 96 + [900.0] * 4, 1.0, 1.0),
        ([1.0] * 94 + [900.0] * 6, 1.0, 900.0),
    ],
)
def test_a_percentile_is_a_value_that_was_there(
    values: list[float], p50: float | None, p95: float | None
) -> None:
    assert metrics.percentile(values, 50) == p50
    assert metrics.percentile(values, 95) == p95


DAY = {"since": ago(hours=48), "last": ago(seconds=5)}


@pytest.mark.accept("D47")
@pytest.mark.parametrize(
    ("pulse", "told"),
    [
        (Pulse(**DAY), 1.0),
        (Pulse(**DAY, silences=((ago(hours=14), ago(hours=2)),)), 0.5),
        (Pulse(**DAY, silences=((ago(hours=30), ago(hours=18)),)), 0.75),
        (Pulse(**DAY, silences=((ago(hours=40), ago(hours=25)),)), 1.0),
        (Pulse(**DAY, silences=((ago(hours=9), ago(hours=6)), (ago(hours=3), ago(hours=0)))), 0.75),
        (Pulse(since=ago(hours=48), last=ago(hours=6)), 0.75),
        (Pulse(since=ago(hours=4), last=ago(hours=1)), 0.75),
        (Pulse(since=ago(hours=48), last=ago(seconds=50)), 1.0),
        (Pulse(since=NOON, last=NOON), None),
    ],
    ids=["never silent", "half", "reaches into the window", "before it", "two", "silent now",
         "younger than the window", "between two beats", "just born"],
)  # fmt: skip
def test_uptime_is_the_part_of_the_day_without_silence(pulse: Pulse, told: float | None) -> None:
    assert metrics.uptime(pulse, NOON) == told


@pytest.mark.accept("D29")
def test_payment_to_order_counts_from_stripes_own_time() -> None:
    paid = int(NOON.timestamp())
    payload = f'{{"created": {paid}, "data": {{"object": {{"created": 1}}}}}}'

    assert metrics.payment_time(NOON + timedelta(seconds=2.5), payload) == 2.5
    assert metrics.payment_time(NOON - timedelta(seconds=1), payload) == 0.0


# -- the same from a shop


def buy_and_settle(shop: Shop, *, after_s: float = 0) -> str:
    checkout = shop.shopper().buy()
    checkout.pay()
    shop.clock.forward(seconds=after_s)
    shop.deliver_and_work()
    return checkout.order_id


@pytest.mark.accept("D26", "D27", "D28", "D29")
def test_the_figures_tell_of_the_last_day(shop: Shop) -> None:
    buy_and_settle(shop)
    shop.clock.forward(hours=25)
    buy_and_settle(shop)
    buy_and_settle(shop, after_s=8)
    by_hand = shop.shopper().buy()
    by_hand.pay()
    reconcile.sync_order(by_hand.order_id, Cause("admin", actor="ada@example.com"))
    shop.deliver_and_work()

    told = metrics.read(by_hour=True)

    assert (told.orders, told.synced, told.undecided.count, told.sync_success) == (3, 3, 0, 1.0)
    assert (told.touched, told.manual_rate) == (1, 1 / 3)
    assert (told.payment_to_order.count, told.payment_to_order.p95_s) == (3, 8.0)
    assert {lane: spread.count for lane, spread in told.by_lane.items()} == {
        "admin": 1,
        "webhook": 2,
    }
    assert told.by_lane["webhook"].p95_s == 8.0
    assert told.webhook_success == 1.0
    assert told.event_time.count == told.events_handled > 0
    assert (told.inbox.count, told.outbox.count, told.exceptions_open) == (0, 0, 0)
    assert [hour.orders for hour in told.hours] == [0] * 23 + [3]
    assert (told.hours[-1].manual, told.hours[-1].paid_p95_s) == (1, 8.0)


@pytest.mark.accept("D27")
def test_an_events_time_counts_from_its_arrival_to_its_application(shop: Shop) -> None:
    shop.shopper().buy().pay()
    shop.deliver()
    waiting = metrics.read()
    shop.clock.forward(seconds=90)
    assert metrics.inbox_waiting().oldest_s == 90

    shop.work()

    told = metrics.read()
    assert waiting.event_time.count == 0 < waiting.inbox.count
    assert (told.event_time.p50_s, told.event_time.p95_s) == (90.0, 90.0)
    assert told.inbox == metrics.Waiting(0, 0.0, 0)


def test_an_empty_shop_has_no_figures_and_no_error(shop: Shop) -> None:
    told = metrics.read(by_hour=True)

    assert (told.sync_success, told.webhook_success, told.manual_rate) == (None, None, None)
    assert told.uptime == {"worker": None, "clock": None}
    assert len(told.hours) == 24


# -- heartbeats


@pytest.mark.accept("D47")
def test_only_silences_are_kept_of_the_beats(shop: Shop) -> None:
    for _ in range(20):
        leases.beat("worker")
        shop.clock.forward(seconds=10)
    shop.clock.forward(minutes=6)
    leases.beat("worker")
    leases.beat("worker")

    pulse = leases.pulse("worker")
    assert pulse and [end - start for start, end in pulse.silences] == [timedelta(seconds=370)]
    assert metrics.read().uptime["worker"] == pytest.approx(1 - 370 / 560)
    names = {row.name for row in shop.rows(Setting, Setting.name.contains("worker"))}
    assert names == {"heartbeat:worker", "silences:worker"}


@pytest.mark.accept("D47")
def test_silences_of_the_day_before_are_forgotten(shop: Shop) -> None:
    for _ in range(40):
        leases.beat("clock")
        shop.clock.forward(hours=2)

    pulse = leases.pulse("clock")
    assert pulse and len(pulse.silences) == 12


def test_uptime_is_told_of_a_process_that_reported_before_silences_were_kept(shop: Shop) -> None:
    leases.write("heartbeat:worker", shop.clock.now().isoformat())
    shop.clock.forward(seconds=30)
    assert metrics.read().uptime["worker"] == 1.0

    leases.beat("worker")

    assert leases.pulse("worker") == Pulse(shop.clock.now() - timedelta(seconds=30),
                                           shop.clock.now())  # fmt: skip


# -- what it costs


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Every SELECT that is sent, with its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


# By time, or holding only what is not finished: none of them is walked further on a later day.
BOUNDED = {
    "orders_newest_first", "inbox_newest_first", "ix_stripe_events_attempt_id", "acts_of_people",
    "ix_stripe_events_object_id",  # a payment has a handful of events
    "exceptions_by_age", "ix_audit_log_at", "open_attempts_by_deadline",
    "one_open_attempt_per_cart", "inbox_waiting", "outbox_waiting", "dead_events", "dead_effects",
    "open_exceptions",
}  # fmt: skip


def test_no_figure_is_read_by_walking_what_is_finished(postgres_shop: Shop) -> None:
    """With sequential scans made dear, PostgreSQL finds a bounded index for every one of them."""
    buy_and_settle(postgres_shop)
    with statements() as sent:
        metrics.read(by_hour=True)
        metrics.synced_count(100)
    figures = [(sql, values) for sql, values in sent if "FROM settings" not in sql]

    with atomic() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        asked = session.connection().exec_driver_sql
        plans = [
            "\n".join(row[0] for row in asked(f"EXPLAIN {sql}", values)) for sql, values in figures
        ]

    assert len(plans) >= 10
    used = {name for plan in plans for name in re.findall(r"(?:using|Index Scan on) (\w+)", plan)}
    assert [plan for plan in plans if "Seq Scan" in plan] == []
    assert used <= BOUNDED
