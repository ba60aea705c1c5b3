"""What is due now, and what follows."""

from __future__ import annotations

from typing import Any

from domain import plans
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
