"""The figures for Prometheus, in its text format.

Nothing is counted in this process: every scrape reads the database, so that any web process of many
gives the same answer. No line names a person, an order or a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from redis.exceptions import RedisError

from extensions import doorbell
from services import alerts, health, metrics
from services.metrics import Figures, Spread, Waiting

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def text() -> bytes:
    """Everything, as it stands now. Raises what the database raises."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shop())
    return generate_latest(registry)


class _Shop:
    """A collector that asks when it is asked."""

    def describe(self) -> list[Any]:
        return []  # the registry must not ask the database only to learn the names

    def collect(self) -> Iterator[GaugeMetricFamily]:
        figures = metrics.read()
        yield from _shares(figures)
        yield from _counts(figures)
        yield from _times(figures)
        yield from _waiting(figures.inbox, figures.outbox)
        yield from _standing()
        yield from _queue()


def _shares(figures: Figures) -> Iterator[GaugeMetricFamily]:
    """A share that there is nothing to have of has no line, so that no rule fires on silence."""
    told = {
        "quittance_sync_success_ratio": (
            "Orders in step with Stripe, of those that were to be, last 24 h",
            figures.sync_success,
        ),
        "quittance_webhook_success_ratio": (
            "Events dealt with, of those that should have been by now, last 24 h",
            figures.webhook_success,
        ),
        "quittance_manual_intervention_ratio": (
            "Orders with an act of a person or an exception, of all, last 24 h",
            figures.manual_rate,
        ),
    }
    for name, (what, value) in told.items():
        if value is not None:
            yield _gauge(name, what, value)
    alive = GaugeMetricFamily(
        "quittance_uptime_ratio", "Part of the last 24 h without silence", labels=["process"]
    )
    for process, part in figures.uptime.items():
        if part is not None:
            alive.add_metric([process], part)
    yield alive


def _counts(figures: Figures) -> Iterator[GaugeMetricFamily]:
    yield _gauge("quittance_orders", "Orders placed, last 24 h", figures.orders)
    yield _gauge(
        "quittance_orders_undecided",
        "Open checkouts that the reconciler should have dealt with",
        figures.undecided.count,
    )
    events = GaugeMetricFamily(
        "quittance_events", "Events received, last 24 h, by what became of them", labels=["state"]
    )
    events.add_metric(["handled"], figures.events_handled)
    events.add_metric(["dead"], figures.events_dead)
    events.add_metric(["late"], figures.events_late)
    yield events
    yield _gauge(
        "quittance_events_fetched",
        "Events that no webhook brought and the reconciler found at Stripe, last 24 h",
        figures.events_fetched,
    )
    yield _gauge(
        "quittance_exceptions_open", "Exceptions that wait for a person", figures.exceptions_open
    )


def _times(figures: Figures) -> Iterator[GaugeMetricFamily]:
    applied = GaugeMetricFamily(
        "quittance_event_processing_seconds",
        "From an event's arrival to its application, last 24 h",
        labels=["quantile"],
    )
    _add(applied, [], figures.event_time)
    yield applied
    paid = GaugeMetricFamily(
        "quittance_payment_to_order_seconds",
        "From the payment at Stripe to the paid order here, last 24 h; lane: who brought the news",
        labels=["lane", "quantile"],
    )
    _add(paid, ["all"], figures.payment_to_order)
    for lane, spread in figures.by_lane.items():
        _add(paid, [lane], spread)
    yield paid


def _waiting(inbox: Waiting, outbox: Waiting) -> Iterator[GaugeMetricFamily]:
    count = GaugeMetricFamily("quittance_waiting", "Rows that wait to be worked on", labels=["box"])
    oldest = GaugeMetricFamily(
        "quittance_oldest_wait_seconds", "How long the oldest has waited", labels=["box"]
    )
    dead = GaugeMetricFamily("quittance_dead", "Rows that have given up", labels=["box"])
    for name, box in (("inbox", inbox), ("outbox", outbox)):
        count.add_metric([name], box.count)
        oldest.add_metric([name], box.oldest_s)
        dead.add_metric([name], box.dead)
    yield from (count, oldest, dead)


def _standing() -> Iterator[GaugeMetricFamily]:
    firing = GaugeMetricFamily(
        "quittance_alert_firing", "1 while the alert stands", labels=["alert"]
    )
    standing = {alert.code for alert in alerts.standing()}
    for code in alerts.codes():
        firing.add_metric([code], code in standing)
    yield firing
    up = GaugeMetricFamily("quittance_part_up", "1 while the part is alive", labels=["part"])
    for name, part in health.parts().items():
        up.add_metric([name], bool(part["ok"]))
    yield up


def _queue() -> Iterator[GaugeMetricFamily]:
    """Rings that nobody has answered; no line while Redis does not answer itself."""
    try:
        queued = doorbell.queue.count
        failed = doorbell.queue.failed_job_registry.get_job_count(cleanup=False)
    except RedisError:
        return
    yield _gauge("quittance_queue_jobs", "Jobs on the queue", queued)
    yield _gauge("quittance_queue_failed_jobs", "Jobs that failed, of the last 7 days", failed)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=value)


def _add(family: GaugeMetricFamily, labels: list[str], spread: Spread) -> None:
    for quantile, value in (("0.5", spread.p50_s), ("0.95", spread.p95_s)):
        if value is not None:
            family.add_metric([*labels, quantile], value)
