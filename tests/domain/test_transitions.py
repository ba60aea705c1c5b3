"""The table of transitions, read as sentences."""

from __future__ import annotations

import itertools

import pytest

from domain.facts import LegState
from domain.plans import ONCE
from domain.transitions import (
    PAID_STATUSES,
    TABLE,
    Effect,
    Ignore,
    LegView,
    LineState,
    Move,
    Outcome,
    PaymentStatus,
    Status,
    decide,
    is_confirmed,
    judge,
    line_state,
    payment_status,
)


@pytest.mark.accept("O20")
def test_shipping_goes_one_step_at_a_time() -> None:
    chain = [
        (Status.PAYMENT_CONFIRMED, Outcome.PACKED, Status.AWAITING_SHIPMENT),
        (Status.AWAITING_SHIPMENT, Outcome.SHIPPED, Status.SHIPPED),
        (Status.SHIPPED, Outcome.DELIVERED, Status.DELIVERED),
    ]
    allowed = {(before, step) for before, step, _ in chain}

    for before, step, after in chain:
        assert decide(before, step) == Move(after)
    for before, step in itertools.product(
        Status, (Outcome.PACKED, Outcome.SHIPPED, Outcome.DELIVERED)
    ):
        if (before, step) not in allowed:
            assert isinstance(decide(before, step), Ignore)


def test_nothing_leads_from_paid_back_to_unpaid() -> None:
    unpaid = {Status.PENDING_PAYMENT, Status.EXPIRED}

    assert not [key for key, move in TABLE.items() if key[0] in PAID_STATUSES and move.to in unpaid]


def test_a_late_failure_does_not_unpay_an_order() -> None:
    decision = decide(Status.PAYMENT_CONFIRMED, Outcome.FAILED)

    assert decision == Ignore("failed changes nothing for an order that is payment_confirmed")


def test_every_ending_gives_stock_and_lines_back() -> None:
    for outcome in (Outcome.EXPIRED, Outcome.CANCELLED, Outcome.FAILED):
        decision = decide(Status.PENDING_PAYMENT, outcome)
        assert isinstance(decision, Move)
        assert {Effect.RELEASE_STOCK, Effect.RETURN_LINES} <= set(decision.effects)


def test_stock_moves_last_in_every_move() -> None:
    """The hot row is locked shortest when nothing comes after it."""
    stock = {Effect.SELL_STOCK, Effect.RELEASE_STOCK}
    for move in TABLE.values():
        owed = [effect for effect in move.effects if effect in stock]
        assert not owed or move.effects[-1] in stock


def test_an_attempt_is_decided_only_when_every_leg_is_final() -> None:
    open_too = [LegView(LegState.EXPIRED), LegView(LegState.OPEN)]

    assert judge(confirmed=False, legs=open_too) is None


def test_money_decides_whatever_the_legs_say() -> None:
    for state in LegState:
        assert judge(confirmed=True, legs=[LegView(state)]) is Outcome.PAID


@pytest.mark.accept("X1")
def test_a_free_order_is_paid_when_its_page_is_complete() -> None:
    assert is_confirmed({ONCE: 0}, {ONCE})
    assert not is_confirmed({ONCE: 0}, set())


def test_what_is_bought_once_confirms_an_order_and_else_the_first_subscription() -> None:
    mixed, plans_only = {ONCE: 2290, "COFFEE": 1200}, {"COFFEE": 1200, "PRINTS": 0}

    assert is_confirmed(mixed, {ONCE})
    assert not is_confirmed(mixed, {"COFFEE"})
    assert is_confirmed(plans_only, {"PRINTS"})
    assert not is_confirmed(plans_only, {ONCE})


@pytest.mark.parametrize(
    ("setup", "invoice", "expected"),
    [
        (LegState.OPEN, None, LineState.PENDING),
        (LegState.COMPLETE, None, LineState.PENDING),
        (LegState.CANCELED, None, LineState.NOT_STARTED),
        (LegState.EXPIRED, None, LineState.NOT_STARTED),
        (None, None, LineState.NOT_STARTED),
        (LegState.COMPLETE, LegState.CREATING, LineState.PENDING),
        (LegState.COMPLETE, LegState.PROCESSING, LineState.PENDING),
        (LegState.COMPLETE, LegState.OPEN, LineState.PAST_DUE),
        (LegState.COMPLETE, LegState.EXPIRED, LineState.ENDED),
        (LegState.COMPLETE, LegState.REFUSED, LineState.ENDED),
        (LegState.COMPLETE, LegState.COMPLETE, LineState.PENDING),  # paid, but not what was due
    ],
)
def test_where_a_line_that_recurs_stands(
    setup: LegState | None, invoice: LegState | None, expected: LineState
) -> None:
    assert line_state(covered=False, setup=setup, invoice=invoice) is expected
    assert line_state(covered=True, setup=setup, invoice=invoice) is LineState.ACTIVE


def test_a_saved_card_alone_ends_nothing_unless_somebody_leaves() -> None:
    saved = [LegView(LegState.COMPLETE, saves_card=True)]

    assert judge(confirmed=False, legs=saved) is None
    assert judge(confirmed=False, legs=saved, cancelling=True) is Outcome.CANCELLED


def test_a_complete_page_whose_money_was_not_accepted_decides_nothing() -> None:
    """Wrong amount: the exception is open, the stock stays held until a person decides."""
    assert judge(confirmed=False, legs=[LegView(LegState.COMPLETE)]) is None


def test_somebody_who_ends_a_checkout_cancels_it() -> None:
    expired = [LegView(LegState.EXPIRED)]

    assert judge(confirmed=False, legs=expired) is Outcome.EXPIRED
    assert judge(confirmed=False, legs=expired, cancelling=True) is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("legs", "expected"),
    [
        ([LegView(LegState.CREATING)], PaymentStatus.PENDING),
        ([LegView(LegState.OPEN)], PaymentStatus.PENDING),
        ([LegView(LegState.OPEN, "insufficient_funds")], PaymentStatus.FAILED),
        ([LegView(LegState.PROCESSING)], PaymentStatus.PROCESSING),
        ([LegView(LegState.FAILED)], PaymentStatus.FAILED),
        ([LegView(LegState.EXPIRED)], PaymentStatus.CANCELLED),
        ([LegView(LegState.COMPLETE)], PaymentStatus.PENDING),
        ([LegView(LegState.FAILED), LegView(LegState.OPEN)], PaymentStatus.PENDING),
    ],
)
def test_payment_status_follows_the_legs(legs: list[LegView], expected: PaymentStatus) -> None:
    assert payment_status(legs=legs, paid=False) is expected


@pytest.mark.parametrize(
    ("refunded", "disputed", "expected"),
    [
        (0, False, PaymentStatus.PAID),
        (40, False, PaymentStatus.PARTIALLY_REFUNDED),
        (100, False, PaymentStatus.REFUNDED),
        (40, True, PaymentStatus.DISPUTED),
    ],
)
def test_payment_status_follows_the_money_once_paid(
    refunded: int, disputed: bool, expected: PaymentStatus
) -> None:
    status = payment_status(
        legs=[], paid=True, paid_amount=100, refunded=refunded, disputed=disputed
    )

    assert status is expected
