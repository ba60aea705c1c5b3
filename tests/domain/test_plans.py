"""What is due now, what follows, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain import plans
from domain.errors import PlansDoNotMix
from domain.plans import ONCE


def _line(sku: str, amount: int, quantity: int = 1, **plan: int) -> dict[str, Any]:
    line: dict[str, Any] = {"sku": sku, "unit_amount": amount, "quantity": quantity}
    if plan:
        line["plan"] = {"interval": "month", "count": 1, "trial_days": 0} | plan
    return line


MUG, COFFEE = _line("MUG", 1800, 2), _line("COFFEE", 1200, 3, count=1)
PRINTS = _line("PRINTS", 900, trial_days=14)


def test_what_is_bought_once_is_one_part_with_its_delivery() -> None:
    assert plans.due_now([MUG, COFFEE, PRINTS], 490) == {ONCE: 4090, "COFFEE": 3600, "PRINTS": 0}


def test_subscriptions_alone_have_no_part_that_is_bought_once() -> None:
    assert plans.due_now([COFFEE], 0) == {"COFFEE": 3600}


def test_a_trial_costs_nothing_yet() -> None:
    assert (plans.first_amount(PRINTS), plans.price(PRINTS)) == (0, 900)


def test_rhythms_differ_by_interval_count_and_trial() -> None:
    assert len(plans.rhythms([MUG, COFFEE, _line("TEA", 500, count=1)])) == 1
    assert len(plans.rhythms([COFFEE, PRINTS])) == 2


def test_a_rhythm_reads_as_people_say_it() -> None:
    assert plans.every({"interval": "month", "count": 1}) == "every month"
    assert plans.every({"interval": "week", "count": 2}) == "every 2 weeks"


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(hour=9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("interval", "count", "trial_days", "since", "next_charge"),
    [
        ("day", 3, 0, "2026-12-30", "2027-01-02"),
        ("week", 2, 0, "2026-11-27", "2026-12-11"),
        ("month", 1, 0, "2026-11-27", "2026-12-27"),
        ("month", 1, 0, "2026-12-15", "2027-01-15"),
        ("month", 1, 0, "2027-01-31", "2027-02-28"),
        ("month", 18, 0, "2026-08-31", "2028-02-29"),
        ("year", 1, 0, "2028-02-29", "2029-02-28"),
        ("year", 1, 14, "2026-11-27", "2026-12-11"),
    ],
)
def test_the_next_charge_falls_on_the_day_that_stripe_would_choose(
    interval: str, count: int, trial_days: int, since: str, next_charge: str
) -> None:
    plan = plans.plan(interval, count, trial_days)

    assert plan and plans.charged_next(plan, day(since)) == day(next_charge)


@pytest.mark.parametrize(("trial_days", "said"), [(0, ""), (1, "1 day free"), (14, "14 days free")])
def test_a_trial_is_said_in_days(trial_days: int, said: str) -> None:
    plan = plans.plan("month", 1, trial_days)

    assert plan and plans.free_time(plan) == said


def test_plans_that_do_not_mix_are_named() -> None:
    refused = PlansDoNotMix(["Tea", "Coffee", "Prints"])

    assert (refused.code, refused.http_status) == ("plans_do_not_mix", 409)
    assert refused.message.startswith("Tea, Coffee and Prints are not charged on the same days")
