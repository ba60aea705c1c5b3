"""Planted bugs: a storm that does not find them is too weak.

Each is a patch over one world, for as long as one seed runs. ``flask storm`` knows nothing of
them. Every one is modelled so that no other guard hides it, and says which guard that would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from domain import facts as known
from domain import plans
from domain.clock import now
from domain.facts import LegState
from domain.strategies import STRATEGIES, Moment
from domain.transitions import Effect
from extensions import atomic, db, reading
from gateway import current_gateway, doors, facts
from models import CheckoutAttempt, StripeLeg
from services import attempts, desk, inbox, legs, outbox, settings, settle, stock
from storm.world import MIXED, World


@contextmanager
def no_lock_in_settle(world: World) -> Iterator[None]:
    """Two settles of one attempt decide on what both read before either wrote.

    On PostgreSQL this is ``lock`` without ``FOR UPDATE``: each statement reads what is committed
    at that moment, and the writes queue up behind one another with decisions already made. On
    SQLite a write transaction shuts everybody else out, lock or no lock; so here the reading ends
    its transaction, somebody else may commit, and only then the writing begins, with rows and
    decisions from before. What hides it otherwise: nothing; the unique index on payments stops a
    second payment row, but neither stock that is released twice nor lines that come back twice.
    """

    is_overtaken = desk.Desk.is_overtaken

    def read_then_let_go(of: Any, *versions: Any) -> bool:
        answer = is_overtaken(of, *versions)
        session = db.session()
        session.commit()
        session.connection(execution_options={"begin": "BEGIN IMMEDIATE"})
        return answer

    with _patched(desk.Desk, is_overtaken=read_then_let_go):
        yield


@contextmanager
def dedupe_in_memory(world: World) -> Iterator[None]:
    """A set in the process remembers which events came, and the process dies.

    Alone this is harmless: a payment is known by its intent, an order moves once, and its receipt
    has a key of its own. Whoever trusts the door to let each event in once, though, needs none of
    these, so the second half of the pair is ``receipt_per_event``; with the inbox's key in place
    that one is harmless too.
    """
    seen: set[str] = set()
    copies = itertools.count(2)
    receive = inbox.receive

    def remembered(event: Any, lane: str = "webhook") -> bool:
        if event.id in seen:
            return False
        seen.add(event.id)
        if receive(event, lane):
            return True
        copy = f"{event.id}_{next(copies)}"  # a table without the key takes it once more
        payload = event.payload.replace(event.id, copy, 1)
        return receive(replace(event, id=copy, payload=payload), lane)

    world.restarts.append(seen.clear)
    with _patched(inbox, receive=remembered), receipt_per_event(world):
        yield


@contextmanager
def receipt_per_event(world: World) -> Iterator[None]:
    """The receipt is owed for the event that money was charged, or that nothing was to be paid,
    and not for the order that was. Where something recurs, the money comes through an invoice that
    has several events of its own, and all is as it was."""

    def owe_for_plans(of: desk.Desk) -> None:
        if of.recurring:
            of.send_receipt()

    effects = {**desk.EFFECTS, Effect.SEND_RECEIPT: owe_for_plans}
    mark = settle._mark_applied

    def marked(news: Any, attempt_id: str) -> None:
        mark(news, attempt_id)
        db.session.flush()
        order = attempts.order_of(attempt_id)
        if order is None or order.paid_at is None or any(item.plan for item in order.items):
            return
        kind = known.PaymentSucceeded if order.total else known.LegEnded
        told = {fact.payment_intent for fact in news.facts if isinstance(fact, kind)}
        type_ = "charge.succeeded" if order.total else "checkout.session.completed"
        if news.type == type_ and order.payment_intent in told:
            outbox.owe("receipt", f"{attempt_id}:{news.event_id}", order_id=attempt_id)

    with _patched(desk, EFFECTS=effects), _patched(settle, _mark_applied=marked):
        yield


@contextmanager
def release_before_asking(world: World) -> Iterator[None]:
    """What has run out is given back at once, and Stripe is told afterwards (against rule R5)."""
    real = settle._look

    def look(attempt_id: str, seen: settle.Look, *, end: bool, overdue: bool, **how: Any) -> None:
        if not end:
            real(attempt_id, seen, end=False, overdue=overdue, **how)
            return
        live = _live(attempt_id, seen)
        given_up = [leg for leg in live if leg.deadline <= now() or not overdue]
        seen.facts += [known.LegEnded(leg.stripe_id or "", LegState.EXPIRED) for leg in given_up]

    settled = settle.settle

    def settle_then_tell(attempt_id: str, cause: Any, **wishes: Any) -> Any:
        done = settled(attempt_id, cause, **wishes)
        if wishes.get("end"):
            with reading():
                legs = attempts.legs_of(attempt_id)
            for leg in legs:
                if leg.stripe_id and leg.state == LegState.EXPIRED:
                    current_gateway().close_leg(leg.kind, leg.stripe_id, why="abandoned")
        return done

    with _patched(settle, _look=look, settle=settle_then_tell):
        yield


@contextmanager
def left_payable_on_retry(world: World) -> Iterator[None]:
    """A retry opens the new page and forgets the old one, which stays open at Stripe (against R4).

    What hides it: nothing on our side; the old leg's row says that it has expired, so that no
    index and no look at live legs speaks. Only Stripe knows.
    """
    real = settle._look

    def look(
        attempt_id: str, seen: settle.Look, *, replacing: int | None = None, **how: Any
    ) -> None:
        if replacing is None:
            real(attempt_id, seen, **how)
            return
        replaced = [leg for leg in _live(attempt_id, seen) if leg.id <= replacing]
        seen.facts += [known.LegEnded(leg.stripe_id or "", LegState.EXPIRED) for leg in replaced]

    with _patched(settle, _look=look):
        yield


@contextmanager
def born_too_early(world: World) -> Iterator[None]:
    """A pay_first order is there before its money. What hides it: nothing; it is paid in the end,
    or expires with its attempt, and both look right."""
    late = STRATEGIES["pay_first"]
    STRATEGIES["pay_first"] = replace(late, order_born=Moment.START)
    try:
        yield
    finally:
        STRATEGIES["pay_first"] = late


@contextmanager
def strategy_from_settings(world: World) -> Iterator[None]:
    """A running checkout follows the setting instead of what it began with (F37). It needs an
    admin who changes the setting meanwhile."""
    asked = property(lambda attempt: STRATEGIES[settings.current().order_strategy])
    with _patched(CheckoutAttempt, strategy=asked):
        yield


@contextmanager
def receipt_after_the_commit(world: World) -> Iterator[None]:
    """The receipt is owed in a transaction of its own, right after the one that pays the order.
    What hides it: only that nobody dies in between."""
    paid: dict[Any, str] = {}  # by whoever is on stage
    apply = settle._apply

    def then_owe(*args: Any, **how: Any) -> Any:
        done = apply(*args, **how)
        order_id = paid.pop(world.stage.on_stage, None)
        if order_id:
            world.stage.crossroads("before a receipt is owed")
            with atomic():
                outbox.owe("receipt", order_id, order_id=order_id)
        return done

    def note(of: desk.Desk) -> None:
        paid[world.stage.on_stage] = of.attempt.id

    with (
        _patched(desk, EFFECTS={**desk.EFFECTS, Effect.SEND_RECEIPT: note}),
        _patched(settle, _apply=then_owe),
    ):
        yield


# -- what recurs


@contextmanager
def subscribed_before_the_rest_is_paid(world: World) -> Iterator[None]:
    """A saved card begins its subscription at once. What hides it: mostly the rest is paid a moment
    later, and then all of it looks right."""
    owe = desk.Desk._owe_subscriptions

    def owe_at_once(of: desk.Desk) -> None:
        due, of.due = of.due, {part: due for part, due in of.due.items() if part != plans.ONCE}
        try:
            owe(of)
        finally:
            of.due = due

    with _patched(desk.Desk, _owe_subscriptions=owe_at_once):
        yield


@contextmanager
def subscribed_without_the_key(world: World) -> Iterator[None]:
    """Each call for a subscription has a key of its own. What hides it: nothing, once an answer is
    lost; the leg's row stands for one of the two, and nobody looks for the other."""
    keys = itertools.count()
    invoice = doors._LEGS[legs.PAYS_FIRST]

    def opened(gateway: Any, wish: Any, key: str, **how: Any) -> Any:
        return invoice.open(gateway, wish, f"{key}:{next(keys)}", **how)

    with _patched(doors, _LEGS={**doors._LEGS, legs.PAYS_FIRST: invoice._replace(open=opened)}):
        yield


@contextmanager
def first_invoice_taken_for_a_renewal(world: World) -> Iterator[None]:
    """Whatever an invoice takes renews. What hides it: of a session only that its own event may
    tell of the same payment first."""
    read = facts.of_invoice

    def renewing(*invoice: Any) -> tuple[known.Fact, ...]:
        return tuple(
            replace(fact, renews=True) if isinstance(fact, known.PaymentSucceeded) else fact
            for fact in read(*invoice)
        )

    with _patched(facts, of_invoice=renewing):
        yield


@contextmanager
def second_subscription_goes_on(world: World) -> Iterator[None]:
    """What was paid twice is refunded, and renews. What hides it: the books are right, until it
    renews for the first time."""
    with _patched(desk.Desk, _owe_end=lambda of, subscription_id: None):
        yield


@contextmanager
def sold_with_the_order(world: World) -> Iterator[None]:
    """A confirmed order sells all of its lines, also those whose first payment is still open. What
    hides it: mostly that payment is made."""

    def sell_all(of: desk.Desk) -> None:
        of.attempt.hold = "sold"
        of.stock_moves += [(stock.sell, line) for line in of.attempt.lines]

    real = desk.Desk._settle_lines

    def settle_lines(of: desk.Desk) -> None:
        before = list(of.stock_moves)
        real(of)
        of.stock_moves = before

    effects = {**desk.EFFECTS, Effect.SELL_STOCK: sell_all}
    with (
        _patched(desk, EFFECTS=effects),
        _patched(desk.Desk, _settle_lines=settle_lines),
    ):
        yield


@contextmanager
def card_given_up_with_the_money_paid(world: World) -> Iterator[None]:
    """Whoever gives up a checkout closes all its doors, although the money turns out to be paid.
    What hides it: the line ends as if its card had never been saved, and all sums are right."""
    with _patched(settle, _is_money=lambda fact: False):
        yield


@contextmanager
def first_invoice_left_payable(world: World) -> Iterator[None]:
    """Giving up an unpaid first invoice writes down that it ended, and does not void it (against
    R5). What hides it: nothing on our side; only Stripe knows."""
    invoice = doors._LEGS[legs.PAYS_FIRST]

    def closed(gateway: Any, stripe_id: str, why: str) -> tuple[known.Fact, ...]:
        told = invoice.read(gateway, stripe_id)
        if any(isinstance(fact, known.LegSeen) for fact in told):
            return (known.LegEnded(stripe_id, LegState.EXPIRED),)
        return told

    with _patched(doors, _LEGS={**doors._LEGS, legs.PAYS_FIRST: invoice._replace(close=closed)}):
        yield


@contextmanager
def amount_not_compared(world: World) -> Iterator[None]:
    """Whatever was paid settles the order (against R8). What hides it: the bill that is held
    against ours before the page is shown; what was changed at Stripe after that it does not see."""
    real = desk.Desk._role

    def believed(of: desk.Desk, fact: known.PaymentSucceeded, due: int, *more: Any) -> str:
        told = replace(fact, amount=due, currency=of.attempt.currency)
        return real(of, told, due, *more)

    with _patched(desk.Desk, _role=believed):
        yield


def _live(attempt_id: str, seen: settle.Look) -> list[StripeLeg]:
    """The open legs, noted as if Stripe had been asked about them."""
    with reading():
        live = [leg for leg in attempts.legs_of(attempt_id) if leg.state == LegState.OPEN]
    seen.versions = {leg.id: leg.version for leg in live}
    return live


@contextmanager
def _patched(module: Any, **names: Any) -> Iterator[None]:
    before: dict[str, Any] = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, the promises of which at least one must be seen broken, and where it can show."""

    plant: Callable[[World], AbstractContextManager[None]]
    breaks: tuple[str, ...]
    strategy: str = MIXED


BUGS: dict[str, Planted] = {
    "amount not compared": Planted(amount_not_compared, ("money",)),
    "no lock in settle": Planted(no_lock_in_settle, ("R5", "money", "stock", "history", "lines")),
    "dedupe in memory": Planted(dedupe_in_memory, ("receipts",)),
    "release before asking Stripe": Planted(release_before_asking, ("R5",), "order_first"),
    "session left payable on retry": Planted(left_payable_on_retry, ("never",)),
    "order born too early": Planted(born_too_early, ("strategy",), "pay_first"),
    "strategy read from settings": Planted(strategy_from_settings, ("strategy",)),
    "receipt outside the transaction": Planted(
        receipt_after_the_commit, ("receipts",), "order_first"
    ),
    "subscribed before the rest is paid": Planted(subscribed_before_the_rest_is_paid, ("never",)),
    "subscribed without the key": Planted(subscribed_without_the_key, ("never", "plans")),
    "first invoice taken for a renewal": Planted(first_invoice_taken_for_a_renewal, ("money",)),
    "second subscription goes on": Planted(second_subscription_goes_on, ("plans",)),
    "line sold with the order": Planted(sold_with_the_order, ("stock",)),
    "card given up with the money paid": Planted(card_given_up_with_the_money_paid, ("never",)),
    "first invoice left payable": Planted(
        first_invoice_left_payable, ("never", "retry", "plans", "money")
    ),
}
