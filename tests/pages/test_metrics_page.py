"""What Prometheus is told, and that the documents speak of the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from extensions import doorbell
from services import alerts, leases
from tests.pages.test_operations import database_down, redis_down
from tests.shop import ORIGIN, Shop

DOCS = Path(__file__).resolve().parents[2] / "docs"
Told = dict[str, dict[tuple[str, ...], float]]


def scraped(shop: Shop) -> Told:
    """Each metric with its lines by their labels' values."""
    answer = shop.app.test_client().get("/metrics", base_url=ORIGIN)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    told: Told = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation and family.type == "gauge"
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            told.setdefault(sample.name, {})[labels] = sample.value
    return told


@pytest.fixture
def used(shop: Shop) -> Shop:
    """A shop with a paid order and one that waits, whose worker and clock are alive."""
    for who in ("worker", "clock"):
        leases.beat(who)
        shop.clock.forward(seconds=2)
        leases.beat(who)
    shop.shopper().buy().pay()
    shop.clock.forward(seconds=3)
    shop.deliver_and_work()
    shop.shopper().buy().pay()
    shop.clock.forward(seconds=20)
    shop.deliver()
    return shop


@pytest.mark.accept("D26", "D27", "D28", "D29")
def test_prometheus_is_told_the_figures(used: Shop) -> None:
    told = scraped(used)

    assert told["quittance_sync_success_ratio"][()] == 1
    assert told["quittance_manual_intervention_ratio"][()] == 0
    assert told["quittance_payment_to_order_seconds"] == {
        ("all", "0.5"): 3, ("all", "0.95"): 3, ("webhook", "0.5"): 3, ("webhook", "0.95"): 3,
    }  # fmt: skip
    assert told["quittance_orders"][()] == 2
    assert told["quittance_waiting"][("inbox",)] > 0
    assert told["quittance_uptime_ratio"] == {("worker",): 1, ("clock",): 1}
    assert set(told["quittance_part_up"].values()) == {1}
    assert set(told["quittance_alert_firing"]) == {(code,) for code in alerts.codes()}
    assert told["quittance_alert_firing"][("worker_silent",)] == 0
    used.clock.forward(seconds=60)
    later = scraped(used)
    assert later["quittance_alert_firing"][("worker_silent",)] == 1
    assert later["quittance_part_up"][("worker",)] == 0
    assert later["quittance_oldest_wait_seconds"][("inbox",)] == 60


def test_the_figures_name_nobody(used: Shop) -> None:
    page = used.app.test_client().get("/metrics", base_url=ORIGIN).text

    for order in used.rows(type(used.order(used.payments()[0].attempt_id))):
        for secret in (order.id, order.email, order.name, str(order.number), order.payment_intent):
            assert str(secret) not in page
    assert "sk_test" not in page and "whsec" not in page


def test_an_empty_shop_tells_no_share_of_nothing(shop: Shop) -> None:
    told = scraped(shop)

    assert told["quittance_orders"][()] == 0
    assert not [name for name in told if name.endswith("_ratio")]


def test_without_redis_the_rest_is_told(used: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> None:
        redis_down()

    monkeypatch.setattr(doorbell.connection, "execute_command", down)

    told = scraped(used)
    assert "quittance_queue_jobs" not in told
    assert told["quittance_part_up"][("redis",)] == 0
    assert told["quittance_orders"][()] == 2


def test_without_a_database_there_are_no_figures(shop: Shop) -> None:
    with database_down():
        answer = shop.app.test_client().get("/metrics", base_url=ORIGIN)

    assert answer.status_code == 503


# -- the documents


def named(document: str) -> set[str]:
    return set(re.findall(r"quittance_[a-z_]+", (DOCS / document).read_text()))


def test_every_metric_that_a_rule_names_exists(used: Shop) -> None:
    rules = named("prometheus-alerts.yml")

    assert len(rules) >= 8
    assert rules <= set(scraped(used))


def test_the_example_board_draws_nothing_but_what_exists(used: Shop) -> None:
    board = json.loads((DOCS / "grafana-board.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]

    assert set(re.findall(r"quittance_[a-z_]+", " ".join(asked))) == named("grafana-board.json")
    # All but the counts that are told in another way already.
    told_otherwise = {"quittance_events", "quittance_events_fetched"}
    assert named("grafana-board.json") == set(scraped(used)) - told_otherwise
    titles = " ".join(panel["title"] for panel in board["panels"][:4])
    for figure in ("in step", "Webhook processing", "Payment to order", "Manual"):
        assert figure in titles, "the four key figures come first"


@pytest.mark.parametrize("document", ["prometheus-alerts.yml", "grafana-board.json"])
def test_every_label_that_a_document_asks_for_exists(used: Shop, document: str) -> None:
    page = used.app.test_client().get("/metrics", base_url=ORIGIN).text
    text = (DOCS / document).read_text().replace('\\"', '"')

    for labels, metric in re.findall(r"by \((\w+)\) \((quittance_\w+)\)", text):
        assert re.search(rf"^{metric}{{[^}}]*{labels}=", page, re.M), metric
    for metric, labels in re.findall(r"(quittance_\w+){([^}]*)}", text):
        each = [re.escape(label) for label in labels.split(", ")]
        whole = "".join(f"(?=[^}}]*{label})" for label in each)
        assert re.search(rf"^{metric}{{{whole}", page, re.M), (metric, labels)


def test_the_manual_names_every_metric_and_every_alert(used: Shop) -> None:
    manual = (DOCS / "operations.md").read_text()

    assert named("operations.md") == set(scraped(used))
    for code in alerts.codes():
        assert f"`{code}`" in manual
