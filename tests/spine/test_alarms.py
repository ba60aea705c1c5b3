"""Alerts by mail: one when it begins to stand, one when it has cleared, and no third."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs import runner, schedule
from models import OutboxMessage
from services import alarms, leases, outbox, reconcile
from tests.counter.scenes import at_once
from tests.shop import Shop, TestShops

ONCALL = "oncall@example.com"


@pytest.fixture
def watched(shops: TestShops) -> Iterator[Shop]:
    """A shop whose alerts somebody is told of, on either database."""
    with shops.opened(alert_mail=ONCALL) as opened:
        yield opened


def mails(shop: Shop) -> list[tuple[str, str, str]]:
    """(kind, code, subject) of what went out, oldest first."""
    rows = shop.rows(OutboxMessage, OutboxMessage.kind.in_((alarms.FIRED, alarms.CLEARED)))
    return [
        (row.kind, row.key.partition(":")[0], (row.result or {}).get("subject", "")) for row in rows
    ]


def fires(shop: Shop) -> None:
    """The worker was there, and has been silent for a minute."""
    leases.beat("worker")
    shop.clock.forward(seconds=60)


@pytest.mark.accept("D30", "D31", "D32")
def test_each_alert_is_told_once_and_once_that_it_is_over(watched: Shop) -> None:
    watched.shopper().buy()
    watched.sandbox.chaos.outage = "503"
    for _ in range(3):
        reconcile.sync()
        watched.clock.forward(seconds=151)
    for _ in range(4):
        alarms.watch()
        watched.clock.forward(seconds=30)

    assert sorted(mails(watched)) == [
        ("alert", "orders_undecided", "Alert: Orders need a sync by hand"),
        ("alert", "sync_failing", "Alert: Syncing with Stripe fails"),
    ]
    watched.sandbox.chaos.clear()
    reconcile.sync(due_only=False)
    for _ in range(4):
        alarms.watch()

    assert sorted(mails(watched))[2:] == [
        ("alert_cleared", "orders_undecided", "Cleared: Orders need a sync by hand"),
        ("alert_cleared", "sync_failing", "Cleared: Syncing with Stripe fails"),
    ]


@pytest.mark.accept("D31")
def test_the_mail_says_what_stands_where_to_act_and_for_how_long_it_stood(watched: Shop) -> None:
    watched.shopper().buy().pay()
    watched.deliver()
    watched.clock.forward(minutes=11)
    alarms.watch()
    watched.clock.forward(minutes=5)
    watched.work()
    alarms.watch()

    delayed = OutboxMessage.key.startswith("webhooks_delayed")
    first, second = watched.rows(OutboxMessage, delayed)
    assert first.result and second.result
    assert first.result["to"] == second.result["to"] == ONCALL
    assert "the oldest for 11 min" in first.result["source"]
    assert "/admin/webhooks" in first.result["source"]
    assert "This is over: Events from Stripe wait too long" in second.result["source"]


@pytest.mark.accept("D32")
def test_one_that_stands_is_not_told_again_when_another_begins(watched: Shop) -> None:
    fires(watched)
    alarms.watch()
    leases.beat("clock")
    watched.clock.forward(seconds=60)

    alarms.watch()

    assert [code for _, code, _ in mails(watched)] == ["worker_silent", "clock_silent"]


def test_the_same_alert_may_come_again_and_is_told_again(watched: Shop) -> None:
    for _ in range(2):
        fires(watched)
        alarms.watch()
        leases.beat("worker")
        alarms.watch()

    kinds = [kind for kind, _, _ in mails(watched)]
    assert kinds == ["alert", "alert_cleared"] * 2


def test_many_who_watch_at_once_write_one_mail(watched: Shop) -> None:
    fires(watched)

    at_once(watched, *[alarms.watch] * 6)

    assert [code for _, code, _ in mails(watched)] == ["worker_silent"]


def test_twin_without_the_row_each_would_write_its_own(
    watched: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fires(watched)
    monkeypatch.setattr(alarms, "_told", lambda: {})

    for _ in range(3):
        alarms.watch()
        watched.clock.forward(seconds=1)

    assert len(mails(watched)) == 3


def test_a_silent_worker_is_mailed_by_the_clock_itself(
    watched: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are queued and nobody takes them: the mail must not wait for who it is about."""
    fires(watched)

    schedule.tick(schedule.periodic(watched.app), "this one")

    ((kind, code, subject),) = mails(watched)
    assert (kind, code, subject) == ("alert", "worker_silent", "Alert: The worker is silent")


def test_a_silent_clock_is_mailed_by_a_worker(watched: Shop) -> None:
    leases.beat("clock")
    watched.clock.forward(seconds=60)

    runner.EmbeddedWorker(watched.app, name="one").heartbeat()

    assert [code for _, code, _ in mails(watched)] == ["clock_silent"]


def test_nobody_is_told_where_no_address_is_set(shop: Shop) -> None:
    fires(shop)

    alarms.watch()
    outbox.drain()

    assert mails(shop) == []
