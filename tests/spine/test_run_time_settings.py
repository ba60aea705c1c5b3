"""What an admin chooses at run time: which checkout it reaches, and how it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import pytest
from sqlalchemy import Select, inspect

from domain.errors import NotFound
from domain.strategies import STRATEGIES, Moment
from extensions import atomic, db
from models import AuditEntry, CheckoutAttempt, Setting
from services import alerts, attempts, leases, settings
from services.causes import LANDING
from services.settings import NotAChoice, Overtaken
from tests.shop import Shop, TestShops

ADA, BO = "ada@example.com", "bo@example.com"


def chooses(**wishes: Any) -> settings.Choices:
    return settings.change(ADA, "to see what it does", **wishes)


@pytest.mark.accept("D33", "O22")
def test_the_same_database_goes_to_pay_first_and_back(shop: Shop) -> None:
    tables = the_schema()
    for strategy in ("order_first", "pay_first", "order_first"):
        chooses(order_strategy=strategy)
        checkout = shop.shopper().buy()
        is_there_unpaid = shop.order(checkout.order_id) is not None
        checkout.pay()
        shop.deliver_and_work()

        order = shop.order(checkout.order_id)
        assert order and (order.strategy, order.payment_status) == (strategy, "paid")
        assert is_there_unpaid == (STRATEGIES[strategy].order_born is Moment.START)
    assert the_schema() == tables
    assert shop.proves()


def the_schema() -> dict[str, list[str]]:
    looked_at = inspect(db.engine)
    return {
        table: sorted(str(column) for column in looked_at.get_columns(table))
        for table in looked_at.get_table_names()
    }


@pytest.mark.fault("F37")
@pytest.mark.parametrize(("began", "then"), [*permutations(STRATEGIES, 2)])
def test_a_running_checkout_keeps_the_strategy_it_began_with(
    shop: Shop, began: str, then: str
) -> None:
    chooses(order_strategy=began)
    checkout = shop.shopper().buy()

    chooses(order_strategy=then)

    assert back_from_paying(checkout.order_id) == (STRATEGIES[began].order_born <= Moment.RETURN)
    checkout.pay()
    shop.deliver_and_work()
    order = shop.the_order()
    assert (order.strategy, order.payment_status) == (began, "paid")
    assert shop.attempt(order.id).strategy_name == began
    assert shop.proves()


def test_twin_asking_the_setting_instead_a_pay_first_shopper_has_an_unpaid_order(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard off: the attempt takes its strategy from what is set now."""
    chooses(order_strategy="pay_first")
    checkout = sqlite_shop.shopper().buy()
    of_now = property(lambda _: STRATEGIES[settings.current().order_strategy])
    monkeypatch.setattr(CheckoutAttempt, "strategy", of_now)

    chooses(order_strategy="order_first")

    assert back_from_paying(checkout.order_id)


def back_from_paying(attempt_id: str) -> bool:
    """The shopper's browser comes back before anybody has asked Stripe; is there an order now?"""
    with atomic():
        attempt = attempts.lock(attempt_id)
        assert attempt
        return attempts.ensure_order(attempt, Moment.RETURN, LANDING) is not None


@pytest.mark.accept("D36", "O31")
def test_a_rollout_reaches_its_share_and_the_same_people_every_time(shop: Shop) -> None:
    people = [f"shopper{n}@example.com" for n in range(400)]

    def reached(percent: int) -> set[str]:
        chooses(rollout_strategy="dual_track", rollout_percent=percent)
        return {who for who in people if settings.strategy_for(who)[0].name == "dual_track"}

    nobody, some, everybody = reached(0), reached(10), reached(100)
    assert (nobody, everybody) == (set(), set(people))
    assert 20 <= len(some) <= 60
    assert some < reached(50) < everybody
    assert reached(10) == some


@pytest.mark.accept("D36", "O31")
def test_a_checkout_gets_what_its_shopper_was_rolled_out_to(shop: Shop) -> None:
    chooses(rollout_strategy="pay_first", rollout_percent=50)

    for n in range(6):
        address = f"Shopper{n}@Example.com"
        attempt = shop.attempt(shop.shopper().buy(email=address).order_id)
        strategy, why = settings.strategy_for(address.lower())
        assert attempt.strategy_name == strategy.name
        assert ("inside" in why) == (strategy.name == "pay_first")
    assert {a.strategy_name for a in shop.rows(CheckoutAttempt)} == {"order_first", "pay_first"}


WRONG = [
    {"order_strategy": "gold_first"},
    {"order_strategy": None},
    {"order_strategy": ["pay_first"]},
    {"rollout_strategy": "gold_first", "rollout_percent": 10},
    {"rollout_strategy": {}, "rollout_percent": 10},
    *({"rollout_percent": wrong} for wrong in (101, -1, 2.5, "٣", "25", "", None, True)),
    {"background_sync": "off"},
    {"landing_lookup": 1},
    {"live_updates": "telegraph"},
    {"no_such_setting": True},
]


@pytest.mark.parametrize("wish", WRONG, ids=str)
def test_what_is_not_a_choice_is_named_and_nothing_changes(
    sqlite_shop: Shop, wish: dict[str, Any]
) -> None:
    before = settings.current()

    with pytest.raises(NotAChoice) as refused:
        chooses(**{"live_updates": "sse", **wish})

    assert set() < set(refused.value.problems) <= set(wish)
    assert len(refused.value.message) > 20
    assert settings.current() == before
    assert sqlite_shop.count(Setting) == sqlite_shop.count(AuditEntry) == 0


@pytest.mark.parametrize("reason", ["", " \n ", "x" * 201])
def test_without_a_reason_of_readable_length_nothing_changes(
    sqlite_shop: Shop, reason: str
) -> None:
    with pytest.raises(NotAChoice) as refused:
        settings.change(ADA, reason, order_strategy="gold_first")

    assert set(refused.value.problems) == {"order_strategy", "reason"}
    assert sqlite_shop.count(Setting) == 0


def test_a_change_says_who_what_and_why_and_the_same_again_says_nothing(shop: Shop) -> None:
    settings.change(ADA, "more orders", order_strategy="pay_first", background_sync=False)
    settings.change(BO, "me too", order_strategy="pay_first")

    (made,) = settings.changes()
    assert (made.actor, made.reason, made.at) == (ADA, "more orders", shop.clock.now())
    assert made.steps == {
        "order_strategy": ("order_first", "pay_first"),
        "background_sync": (True, False),
    }


def test_undo_sets_back_what_that_change_had_touched_and_nothing_else(shop: Shop) -> None:
    first = settings.current()
    chooses(order_strategy="pay_first", rollout_strategy="dual_track", rollout_percent=25)
    touched = settings.changes()[0]
    chooses(live_updates="sse")

    settings.undo(BO, touched.id)
    settings.undo(BO, touched.id)

    assert settings.current() == replace(first, live_updates="sse")
    assert [change.actor for change in settings.changes()] == [BO, ADA, ADA]
    assert settings.changes()[0].reason == "Undo: to see what it does"
    assert [change.can_be_undone(settings.current()) for change in settings.changes()] == [
        True, True, False,
    ]  # fmt: skip
    with pytest.raises(NotFound):
        settings.undo(BO, touched.id + 1000)


def test_whoever_saves_over_an_unseen_change_is_told_and_changes_nothing(shop: Shop) -> None:
    seen = settings.last_change()
    settings.change(ADA, "more orders", seen=seen, order_strategy="pay_first")

    with pytest.raises(Overtaken, match=r"ada@example.com changed .*more orders"):
        settings.change(BO, "faster", seen=seen, order_strategy="order_first", live_updates="sse")

    assert settings.current().order_strategy == "pay_first"
    assert settings.current().live_updates == "poll"
    settings.change(BO, "faster", seen=settings.last_change(), live_updates="sse")
    assert settings.current().order_strategy == "pay_first"


def test_of_two_who_save_the_very_first_change_at_once_one_is_told(postgres_shop: Shop) -> None:
    told = at_once(
        postgres_shop,
        lambda: settings.change(ADA, "more orders", seen=0, order_strategy="pay_first"),
        lambda: settings.change(BO, "faster", seen=0, live_updates="sse"),
    )

    assert [type(error) for error in told] == [Overtaken]
    assert len(settings.changes()) == 1


def test_two_changes_of_different_things_at_once_both_stand(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooses(rollout_percent=1)
    change_two_things_at_once(postgres_shop, monkeypatch, patience_s=0.5)

    now = settings.current()
    assert (now.order_strategy, now.live_updates) == ("pay_first", "sse")


def test_twin_without_the_lock_the_slower_one_takes_the_other_back(
    postgres_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooses(rollout_percent=1)
    monkeypatch.setattr(Select, "with_for_update", lambda query: query)
    change_two_things_at_once(postgres_shop, monkeypatch, patience_s=30)

    now = settings.current()
    assert (now.order_strategy, now.live_updates) != ("pay_first", "sse")


def change_two_things_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """Each waits for the other after reading: in vain, if the other is kept from reading."""
    gate, wished = threading.Barrier(2), settings._wished

    def meeting(*what: Any) -> settings.Choices:
        with suppress(threading.BrokenBarrierError):
            gate.wait(patience_s)
        return wished(*what)

    monkeypatch.setattr(settings, "_wished", meeting)
    told = at_once(
        shop,
        lambda: settings.change(ADA, "more orders", order_strategy="pay_first"),
        lambda: settings.change(BO, "faster", live_updates="sse"),
    )
    assert told == []


def at_once(shop: Shop, *deeds: Callable[[], object]) -> list[Exception]:
    """Do all of them in threads of their own; what was raised."""
    raised: list[Exception] = []

    def run(deed: Callable[[], object]) -> None:
        with shop.app.app_context():
            try:
                deed()
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=run, args=[deed]) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_the_environment_gives_the_first_values(sqlite_shops: TestShops) -> None:
    first = {
        "order_strategy": "pay_first",
        "strategy_rollout": ("dual_track", 25),
        "live_updates": "sse",
    }
    with sqlite_shops.opened(**first):
        now = settings.current()

        assert (now.order_strategy, now.rollout, now.live_updates) == (*first.values(),)
        assert now.background_sync and now.landing_lookup


GONE = {
    "order_strategy": "gold_first",
    "rollout_strategy": "gold_first",
    "rollout_percent": 140,
    "background_sync": "no",
    "landing_lookup": None,
    "live_updates": ["sse"],
    "since_removed": 1,
}


@pytest.mark.parametrize("name", GONE)
def test_a_stored_choice_that_no_longer_exists_gives_way_and_the_others_stay(
    sqlite_shops: TestShops, name: str
) -> None:
    with sqlite_shops.opened(strategy_rollout=("dual_track", 25)) as shop:
        first = settings.current()
        stored = {
            "order_strategy": "pay_first",
            "rollout_strategy": "order_first",
            "rollout_percent": 90,
            "background_sync": False,
            "landing_lookup": False,
            "live_updates": "sse",
        }
        leases.write(settings.ROW, {**stored, name: GONE[name]})

        now = settings.current()
        gone = {"rollout_strategy", "rollout_percent"} if "rollout" in name else {name}
        for other, value in stored.items():
            assert getattr(now, other) == (getattr(first, other) if other in gone else value)
        shop.shopper().buy()


@pytest.mark.parametrize("garbage", [[], "pay_first", 7, None])
def test_a_stored_row_that_is_none_at_all_leaves_the_environments(
    sqlite_shop: Shop, garbage: object
) -> None:
    first = settings.current()
    leases.write(settings.ROW, garbage)

    assert settings.current() == first
    assert chooses(order_strategy="pay_first").order_strategy == "pay_first"


@pytest.mark.accept("D34")
def test_an_alert_stands_exactly_while_background_sync_is_off(shop: Shop) -> None:
    assert alerts.standing() == []
    settings.change(ADA, "the clock looks slow", background_sync=False)

    (alert,) = alerts.standing()
    assert alert.code == "background_sync_off"
    assert "ada@example.com" in alert.detail and "the clock looks slow" in alert.detail

    settings.change(BO, "it was not the clock", background_sync=True)
    assert alerts.standing() == []


def test_landing_lookup_off_is_a_note_and_no_alert(sqlite_shop: Shop) -> None:
    chooses(landing_lookup=False)

    assert alerts.standing() == []
    assert [note.code for note in alerts.notes()] == ["landing_lookup_off"]


ADDRESSES = {
    "Maya@Example.com": "Maya@example.com",
    " maya@bücher.example ": "maya@xn--bcher-kva.example",
}


@pytest.mark.accept("O31")
@pytest.mark.parametrize(("typed", "percent"), [*product(ADDRESSES, (0, 100))])
def test_the_command_says_which_strategy_a_shopper_gets_and_why(
    sqlite_shop: Shop, typed: str, percent: int
) -> None:
    chooses(rollout_strategy="dual_track", rollout_percent=percent)
    run = sqlite_shop.app.test_cli_runner().invoke

    told = run(args=["strategy", typed])
    spoken = json.loads(run(args=["strategy", typed, "--json"]).output)

    name = "dual_track" if percent else "order_first"
    assert told.exit_code == 0
    assert told.output.startswith(f"{ADDRESSES[typed]} gets {name}, because place ")
    assert (spoken["email"], spoken["strategy"]) == (ADDRESSES[typed], name)
    assert spoken["why"] in told.output
    attempt = sqlite_shop.attempt(sqlite_shop.shopper().buy(email=typed).order_id)
    assert attempt.strategy_name == name
    assert settings.strategy_for(attempt.snapshot["contact"]["email"])[1] == spoken["why"]


@pytest.mark.parametrize("typed", ["", "maya", "maya@", "maya@example.com, bo@example.com", "٣"])
def test_the_command_refuses_what_is_no_address(sqlite_shop: Shop, typed: str) -> None:
    told = sqlite_shop.app.test_cli_runner().invoke(args=["strategy", typed])

    assert told.exit_code == 2
    assert "is no e-mail address" in told.output
