"""Planted bugs: a storm that does not find them is too weak.

Each is a patch over one world, for as long as one seed runs. ``flask storm`` knows nothing of
them. Every one is modelled so that no other guard hides it, and says which guard that would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domain import facts as known
from domain import plans
from domain.clock import now
from domain.facts import LegState
from domain.strategies import STRATEGIES, Moment
from domain.transitions import Effect
from extensions import atomic, db, reading
from gateway import StripeGateway, current_gateway, doors, facts
from models import CheckoutAttempt, StripeLeg
from services import (
    attempts,
    checkout,
    desk,
    inbox,
    leases,
    legs,
    outbox,
    reconcile,
    refunds,
    settings,
    settle,
    stock,
)
from services.causes import LANDING
from services.exceptions import HEALED, close_exception
from storm.world import MIXED, World

LONG_S = 40.0  # somebody whose machine is busy takes so long from one line to the next


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


# -- what comes and what goes


@contextmanager
def acknowledged_before_the_commit(world: World) -> Iterator[None]:
    """Stripe is answered first, and the event is stored by somebody else a little later. What hides
    it: whoever reads Stripe's list of events finds it again; so nobody does."""
    receive = inbox.receive

    def answered(event: Any, lane: str = "webhook") -> bool:
        store = world.in_shop(lambda: receive(event, lane))
        world.stage.enter("thread", lambda: _in_its_own_time(world, store), mortal=True)
        return True

    with _patched(inbox, receive=answered), _patched(reconcile, fetch_events=lambda since=None: []):
        yield


def _in_its_own_time(world: World, act: Callable[[], Any]) -> None:
    world.stage.crossroads("before an event is stored")
    act()


@contextmanager
def nobody_sweeps(world: World) -> Iterator[None]:
    """What was rung for is worked on, and nothing else ever is: the clock's passes leave inbox and
    outbox alone. What hides it: the next ring, as long as orders keep coming."""
    with _patched(
        reconcile,
        sweep=lambda: 0,
        inbox=_But(inbox, drain=lambda: 0),
        outbox=_But(outbox, drain=lambda: 0),
    ):
        yield


@contextmanager
def cursor_before_the_events(world: World) -> Iterator[None]:
    """The list of events is read to its end, the cursor moved, and then the events are stored. What
    hides it: the overlap of two looks, webhooks that are tried again, and a look at what is open;
    so there is no overlap here, one pass in three dies at the worst moment, and most webhooks get
    lost."""

    def fetch(since: Any = None) -> list[str]:
        cursor = leases.read(reconcile.CURSOR)
        usual = datetime.fromisoformat(cursor) if cursor else now() - reconcile.FIRST_LOOK_BACK
        world.sandbox.chaos.drop_pct = 70
        listed = list(current_gateway().events_since(since or usual))
        if listed:
            leases.write(reconcile.CURSOR, max(at for _, at in listed).isoformat())
            world.stage.crossroads("before what was listed is stored", crash_pct=33)
        return [event.id for event, _ in listed if inbox.receive(event, lane="sync")]

    with _patched(reconcile, fetch_events=fetch):
        yield


@contextmanager
def the_past_wins(world: World) -> Iterator[None]:
    """What was read at Stripe is written down although the row has changed since (against R3). What
    hides it: the next event reads again, if there is one; so whoever has read takes their time."""
    apply = settle._apply

    def take_time(*args: Any, **how: Any) -> Any:
        world.stage.pause(world.stage.rng.random() * LONG_S)
        return apply(*args, **how)

    never = _patched(desk.Desk, is_overtaken=lambda of, *versions: False)
    with never, _patched(settle, _apply=take_time):
        yield


@contextmanager
def amount_not_compared(world: World) -> Iterator[None]:
    """A payment of the order pays the order, however much it is (against R8)."""
    role = desk.Desk._role

    def believed(of: desk.Desk, fact: Any, due: int, pays_for: set[str]) -> str:
        enough = replace(fact, amount=due, currency=of.attempt.currency)
        return role(of, enough, due, pays_for)

    with _patched(desk.Desk, _role=believed):
        yield


@contextmanager
def returning_is_paying(world: World) -> Iterator[None]:
    """Whoever comes back from the payment page has paid. What hides it: most have."""

    def believed(attempt_id: str, cause: Any = LANDING) -> bool:
        with reading():
            attempt = db.session.get(CheckoutAttempt, attempt_id)
            doors_ = [leg for leg in attempts.legs_of(attempt_id) if leg.kind == "session"]
        if attempt is None or attempt.state != "open" or not doors_:
            return True
        paid = known.PaymentSucceeded(
            f"pi_of_{attempt_id}", attempt.total, attempt.currency, doors_[-1].stripe_id
        )
        news = known.News("", "landing", attempt_id=attempt_id, facts=(paid,))
        settle.settle(attempt_id, cause, news=news)
        return True

    with _patched(checkout, ask=believed):
        yield


@contextmanager
def refunded_without_the_key(world: World) -> Iterator[None]:
    """Each call for a refund has a key of its own, and names the amount. What hides it: Stripe
    gives back no more than it took; so what is owed is half of it."""
    keys = itertools.count()
    refund = StripeGateway.refund

    def again(gateway: Any, intent: str, amount: int | None, *, row: str, key: str) -> Any:
        half = amount or _taken(world, intent) // 2
        return refund(gateway, intent, half, row=row, key=f"{key}:{next(keys)}")

    with _patched(StripeGateway, refund=again):
        yield


def _taken(world: World, intent: str) -> int:
    return int(world.sandbox.page(intent)["amount_received"])


@contextmanager
def second_payment_kept(world: World) -> Iterator[None]:
    """Who paid twice is listed, and the case is closed: nothing goes back."""

    def kept(intent: str, order_id: str, reason: str) -> None:
        close_exception("duplicate_payment", intent, HEALED, "Seen.")

    with _patched(refunds, owe=kept):
        yield


@contextmanager
def lines_never_come_back(world: World) -> Iterator[None]:
    """What was not paid is gone from the basket as well."""
    effects = {**desk.EFFECTS, Effect.RETURN_LINES: lambda of: None}
    with _patched(desk, EFFECTS=effects):
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


class _But:
    """A module as it is, but for some names."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, the promises of which at least one must be seen broken, and where it can show."""

    plant: Callable[[World], AbstractContextManager[None]]
    breaks: tuple[str, ...]
    strategy: str = MIXED


BUGS: dict[str, Planted] = {
    "no lock in settle": Planted(no_lock_in_settle, ("R5", "money", "stock", "history", "lines")),
    "dedupe in memory": Planted(dedupe_in_memory, ("receipts",)),
    "release before asking Stripe": Planted(release_before_asking, ("R5",), "order_first"),
    "session left payable on retry": Planted(left_payable_on_retry, ("never",)),
    "order born too early": Planted(born_too_early, ("strategy",), "pay_first"),
    "strategy read from settings": Planted(strategy_from_settings, ("strategy",)),
    "receipt outside the transaction": Planted(
        receipt_after_the_commit, ("receipts",), "order_first"
    ),
    "acknowledged before the commit": Planted(acknowledged_before_the_commit, ("inbox",)),
    "nobody sweeps": Planted(nobody_sweeps, ("liveness",)),
    "cursor moved before the events": Planted(
        cursor_before_the_events, ("money", "plans", "liveness", "flask check, refunds")
    ),
    "the past wins": Planted(the_past_wins, ("never", "plans", "R5", "money", "lines", "stock")),
    "amount not compared": Planted(amount_not_compared, ("money",)),
    "returning is paying": Planted(returning_is_paying, ("money",)),
    "refunded without the key": Planted(refunded_without_the_key, ("money",)),
    "second payment kept": Planted(second_payment_kept, ("money",)),
    "lines never come back": Planted(lines_never_come_back, ("lines",)),
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
