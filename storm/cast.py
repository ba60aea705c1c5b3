"""Who is on stage: shoppers in front; courier, workers, clock and weather behind.

A person is never killed, but the request that a person sent may be: then nobody answers, as with
a browser whose server has died.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from domain.errors import (
    CannotStore,
    EmptyCart,
    OutOfStock,
    ShopError,
    StripeError,
    UnverifiedEvent,
)
from extensions import doorbell
from gateway import current_gateway
from sandbox import Delivery
from services import cart, checkout, inbox, reconcile
from services.causes import Cause
from storm.stage import Actor, Dangers
from storm.world import HOLD_S, SHELF, World

STORM = Dangers(crash_pct=1.0, stall_pct=0.5, longest_stall_s=400)
CALM = Dangers()
ARRIVE_WITHIN_S = 900.0
SWEEP_S, SYNC_S = 30.0, 120.0  # the shop's own periods

GOOD, DECLINED, ASKS = "4242424242424242", "4000000000000002", "4000002500003155"


@dataclass
class Answer:
    """What came back from the shop: a value, a refusal in words, an error page, or nothing."""

    value: Any = None
    refusal: ShopError | None = None
    broke: bool = False
    came: bool = False

    @property
    def is_lost(self) -> bool:
        return not self.came


class Books:
    """What each shopper put in the basket, as the shopper knows it.

    A request that was never answered may or may not have counted: ``maybe`` says how much.
    """

    def __init__(self) -> None:
        self.sure: dict[tuple[str, str], int] = {}
        self.maybe: dict[tuple[str, str], int] = {}
        self.unknown: set[tuple[str, str]] = set()

    def added(self, key: tuple[str, str], units: int, answer: Answer) -> None:
        book = self.maybe if answer.is_lost else self.sure
        if answer.is_lost or not (answer.refusal or answer.broke):
            book[key] = book.get(key, 0) + units

    def removed(self, key: tuple[str, str], answer: Answer) -> None:
        if answer.is_lost:
            self.unknown.add(key)
        elif answer.value:
            self.sure[key] = self.sure.get(key, 0) - answer.value[1]


class Cast:
    """Everybody in one storm."""

    def __init__(self, world: World, checkouts: int) -> None:
        self.world = world
        self.stage = world.stage
        self.rng: Random = world.stage.rng
        self.books = Books()
        self.is_storming = True
        self.latest = 6.0  # how many periods late the clock may be
        self.sync_at = 0.0
        self._carried: set[str] = set()  # deliveries on their way to the shop just now
        self.faults = 0
        self.left = 0  # shoppers who have not gone home yet
        self.orders: list[str] = []
        self.strays: set[str] = set()  # orders with a page that the shop did not open
        self._shoppers(checkouts)
        self._backstage()

    # -- how a person meets the shop

    def send(self, role: str, call: Callable[[], Any]) -> tuple[Actor, Answer]:
        """Start a request; whoever sent it need not wait."""
        answer = Answer()

        def handled() -> None:
            try:
                answer.value = call()
            except ShopError as error:
                answer.refusal = error
            except Exception as error:  # noqa: BLE001 - the shop would show an error page
                answer.broke = True
                self.world.stumbles.append(f"{role}: {type(error).__name__}: {error}")
                self.stage.tell(f"breaks: {error!r}")
            answer.came = True

        played = self.world.in_shop(handled)
        return self.stage.enter(role, played, mortal=True, on_crash=self._restart), answer

    def ask(self, role: str, call: Callable[[], Any]) -> Answer:
        """Send a request and wait for its answer, but not for ever."""
        actor, answer = self.send(role, call)
        self.stage.wait_for(actor, HOLD_S)
        return answer if answer.came else Answer()

    def _restart(self) -> None:
        for forget in self.world.restarts:
            forget()

    # -- shoppers

    def _shoppers(self, checkouts: int) -> None:
        number = 0
        while checkouts:
            number += 1
            mine = min(self.rng.choice((1, 1, 2, 3)), checkouts)
            checkouts -= mine
            self.left += 1
            shopper = Shopper(self, number, mine)
            self.stage.enter(
                shopper.name, shopper.play, after_s=self.rng.random() * ARRIVE_WITHIN_S
            )

    # -- behind the stage

    def _backstage(self) -> None:
        self.courier = self.stage.enter("Stripe", self._carry_webhooks)
        for number in (1, 2):
            worker = self.stage.enter(f"worker {number}", self._work(f"worker {number}"))
            self.world.bell.listeners.append(worker)
        self.stage.enter("clock", self._tick)
        self.stage.enter("weather", self._blow)
        self.stage.enter("admin", self._administer)
        self.world.wire.on_news = self.stir
        self.world.sandbox.inline_sender = self._webhook

    def stir(self) -> None:
        """Something happened at Stripe: its courier may have something to carry."""
        self.stage.wake(self.courier)

    def _carry_webhooks(self) -> None:
        box = self.world.sandbox
        while True:
            for delivery in box.due():
                if delivery.id not in self._carried:
                    self._carried.add(delivery.id)
                    self.stage.enter("Stripe", partial(self._deliver, delivery))
            at = box.next_time()
            wait = 3600.0 if at is None else max(at - self.stage.clock.seconds, 0.0)
            self.stage.doze(wait + self.rng.random() * 2)

    def _deliver(self, delivery: Delivery) -> None:
        self.stage.pause(self.rng.random() * 2)
        status = self.world.sandbox.attempt(delivery, self._webhook)
        self._carried.discard(delivery.id)
        self.stage.tell(f"sent {delivery.event_id} ({delivery.event_type}) → {status}")
        self.stir()

    def _webhook(self, body: bytes, headers: dict[str, str]) -> int | None:
        """A POST to the shop's webhook address: the status, or None when nobody answered."""

        def received() -> None:
            inbox.receive(current_gateway().verify(body, headers["Stripe-Signature"]))

        answer = self.ask("webhook", received)
        if answer.is_lost:
            return None
        if isinstance(answer.refusal, UnverifiedEvent | CannotStore):
            return answer.refusal.http_status
        return 500 if answer.broke or answer.refusal else 200

    def _work(self, role: str) -> Callable[[], None]:
        def work() -> None:
            while True:
                job = self.world.bell.take()
                if job is None:
                    self.stage.doze(600)
                    continue
                self._do(role, job)
                if self.is_storming:
                    self.stage.pause(self.rng.random() * 3)

        return work

    def _do(self, role: str, job: Callable[[], Any]) -> None:
        """Run one job in a process that may die; its successor needs some seconds to start."""
        actor, _ = self.send(role, job)
        self.stage.wait_for(actor)
        if actor.crashed:
            self.stage.pause(self.rng.uniform(1, 20))

    def _tick(self) -> None:
        while True:
            self.stage.pause(SWEEP_S * self.rng.uniform(1, self.latest))
            if self.stage.clock.seconds < self.sync_at:
                if not doorbell.enqueue("sweep"):
                    self._do("clock", reconcile.sweep)
                continue
            self.sync_at = self.stage.clock.seconds + SYNC_S * self.rng.uniform(1, self.latest)
            if not doorbell.enqueue("sync"):
                self._do("clock", reconcile.sync)

    def _administer(self) -> None:
        """Somebody presses *Sync now* on an order at the worst moment."""
        while True:
            self.stage.pause(self.rng.uniform(60, 600))
            if self.orders and self.is_storming:
                order = self.rng.choice(self.orders)
                self.ask("admin", partial(reconcile.sync_order, order, Cause("admin", "boss")))

    # -- the weather

    def _blow(self) -> None:
        box, bell = self.world.sandbox, self.world.bell
        while True:
            self.stage.pause(self.rng.uniform(10, 200))
            if not self.is_storming:
                return
            box.chaos.clear()
            bell.is_down = False
            name = self.rng.choice(list(WEATHER))
            self.stage.tell(f"turns to {name}")
            settings = WEATHER[name]
            if name == "silent bell":
                bell.is_down = True
            if name == "emptied bell":
                bell.flush()
            box.chaos.update(settings)
            self.faults += bool(name != "sunshine")

    def calm_down(self) -> None:
        """No more faults from now on; whoever is frozen wakes within seconds."""
        self.is_storming = False
        self.latest = 1.0
        self.sync_at = self.stage.clock.seconds
        self.world.sandbox.chaos.clear()
        self.world.bell.is_down = False
        self.stage.dangers = CALM
        self.stage.end_stalls(5.0)
        self.stage.tell("the storm is over", "weather")


WEATHER: dict[str, dict[str, Any]] = {
    "sunshine": {},
    "errors": {"error_500": {"pct": 20}},
    "stored errors": {"stored_500": {"pct": 15}},
    "cut answers": {"effect_then_cut": {"pct": 20}},
    "refused calls": {"rate_429": {"pct": 15}, "conflict_409": {"pct": 10}},
    "hanging calls": {"hang": {"pct": 10}, "hang_s": 60.0},
    "outage": {"outage": "503"},
    "dead line": {"outage": "refused"},
    "lost webhooks": {"drop_pct": 70.0},
    "late webhooks": {"delay_s": 500.0, "reorder": True},
    "twin webhooks": {"duplicate": 2, "reorder": True},
    "forged webhooks": {"wrong_secret_pct": 30.0, "stale_signature_pct": 30.0},
    "hasty webhooks": {"events_before_answer": True, "intent_born_late": True},
    "silent bell": {},
    "emptied bell": {},
}


class Shopper:
    """One person who buys once or a few times, in one of many ways."""

    def __init__(self, cast: Cast, number: int, checkouts: int) -> None:
        self.cast, self.stage, self.rng = cast, cast.stage, cast.rng
        self.id = self.name = f"shopper {number}"
        self.checkouts = checkouts
        self.contact = checkout.Contact(f"Shopper {number}", f"shopper{number}@example.com")
        self.address = checkout.Address("1 Quay", "Galway", "H91", "IE")

    def play(self) -> None:
        for _ in range(self.checkouts):
            self.fill_basket()
            self.buy()
            self.think(60)
        self.cast.left -= 1

    # -- small things

    def think(self, about_s: float) -> None:
        self.stage.pause(self.rng.expovariate(1 / about_s))

    def ask(self, what: str, call: Callable[[], Any]) -> Answer:
        self.stage.tell(what)
        return self.cast.ask(f"{self.name}'s request", call)

    def fill_basket(self) -> None:
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            sku, units = self.rng.choice(SHELF)[0], self.rng.choice((1, 1, 2))
            self.put(sku, units)

    def put(self, sku: str, units: int) -> None:
        answer = self.ask(
            f"puts {units} × {sku} into the basket", lambda: cart.add(self.id, sku, units, "eur")
        )
        self.cast.books.added((self.id, sku), units, answer)

    def take_out(self, sku: str) -> None:
        answer = self.ask(f"takes {sku} out", lambda: cart.remove(self.id, sku))
        self.cast.books.removed((self.id, sku), answer)

    def start(self) -> checkout.PayPage:
        page = checkout.start(self.id, self.contact, self.address, "standard")
        self.cast.orders.append(page.attempt_id)
        self.stage.tell(f"has order {page.attempt_id} to pay in {page.session_id}")
        return page

    def check_out(self) -> checkout.PayPage | None:
        """Press Pay until there is a page, or a reason to stop."""
        for _ in range(4):
            if self.rng.random() < 0.12:
                self.cast.send(f"{self.name}'s other tab", self.start)
            answer = self.ask("checks out", self.start)
            if answer.value:
                page: checkout.PayPage = answer.value
                return page
            why = answer.refusal
            self.stage.tell(f"is told: {why.code}" if why else "gets no page")
            if isinstance(why, OutOfStock):
                self.take_out(why.sku)
            elif self.gives_up(why):
                break
            self.think(30)
        return None

    def gives_up(self, why: ShopError | None) -> bool:
        if isinstance(why, EmptyCart | checkout.AlreadyPaid):
            return True
        return bool(why) and not isinstance(why, StripeError) and self.rng.random() < 0.5

    def pay(self, page: checkout.PayPage, card: str) -> str:
        mood = self.rng.choice(("", "", "", "", "lost", "late", "twice", "shuffled"))
        mood = mood if self.cast.is_storming else ""
        told = self.cast.world.sandbox.pay(page.session_id or "", card, webhooks=mood)
        outcome: str = told["outcome"]
        self.stage.tell(f"pays {page.session_id} of order {page.attempt_id}: {outcome} {mood}")
        self.cast.stir()
        return outcome

    def come_back(self, page: checkout.PayPage) -> None:
        """The success page, and a few polls of it; or the browser was closed."""
        if self.rng.random() < 0.35:
            return
        self.stage.pause(self.rng.random() * 3)
        self.ask(f"is back from {page.session_id}", lambda: checkout.ask(page.attempt_id))
        for _ in range(self.rng.choice((0, 0, 1, 3))):
            self.stage.pause(self.rng.uniform(0.5, 5))
            self.ask("looks again", lambda: checkout.ask(page.attempt_id))

    # -- ways to buy

    def buy(self) -> None:
        page = self.check_out()
        if page is None:
            return
        self.think(20)
        ways, weights = zip(*WAYS.items(), strict=True)
        self.rng.choices(ways, weights)[0](self, page)

    def pay_at_once(self, page: checkout.PayPage) -> None:
        self.pay(page, GOOD)
        self.come_back(page)

    def be_declined_first(self, page: checkout.PayPage) -> None:
        for _ in range(self.rng.choice((1, 1, 2))):
            self.pay(page, DECLINED)
            self.think(30)
        if self.rng.random() < 0.7:
            self.pay_at_once(page)

    def leave(self, page: checkout.PayPage) -> None:
        self.stage.tell(f"leaves order {page.attempt_id}")

    def pay_near_the_deadline(self, page: checkout.PayPage) -> None:
        sessions = self.cast.world.sandbox.store.objects["checkout.session"]
        left = sessions[page.session_id or ""]["expires_at"] - self.stage.clock.seconds
        self.stage.pause(left + self.rng.uniform(-40, 40))
        self.pay_at_once(page)

    def cancel(self, page: checkout.PayPage) -> None:
        """Back by the cancel link, while perhaps the payment goes through in another tab."""
        order = page.attempt_id
        self.stage.tell(f"gives up order {order}")
        self.cast.send(
            f"{self.name}'s request", lambda: checkout.release(order, shopper_id=self.id)
        )
        if self.rng.random() < 0.6:
            self.stage.pause(self.rng.random())
            self.pay(page, GOOD)

    def edit_and_check_out_again(self, page: checkout.PayPage) -> None:
        """Change the basket in a second tab while the first may still be paid."""
        if self.rng.random() < 0.8:
            self.put(self.rng.choice(SHELF)[0], 1)
        second = None
        if self.rng.random() < 0.5:
            self.cast.send(f"{self.name}'s second tab", self.start)
            self.stage.pause(self.rng.random() * 2)
            self.pay(page, GOOD)
        else:
            second = self.check_out()
        if second:
            self.think(10)
            self.pay_at_once(second)

    def go_back_to_the_page(self, page: checkout.PayPage) -> None:
        """Ask for the same page again, twice at once, and pay it."""
        for _ in range(2):
            self.cast.send(
                f"{self.name}'s request", lambda: checkout.again(page.attempt_id, self.id)
            )
        self.pay_at_once(page)

    def answer_the_bank(self, page: checkout.PayPage) -> None:
        if self.pay(page, ASKS) != "asks":
            return
        self.think(30)
        ok = self.rng.random() < 0.7
        told = self.cast.world.sandbox.authenticate(page.session_id or "", ok=ok)
        self.stage.tell(f"answers the bank for {page.session_id}: {told['outcome']}")
        self.cast.stir()
        self.come_back(page)

    def pay_by_debit(self, page: checkout.PayPage) -> None:
        self.pay(page, self.rng.choice(("bank_debit", "bank_debit", "bank_debit_fails")))
        self.come_back(page)

    def pay_twice(self, page: checkout.PayPage) -> None:
        """Somebody opened a second page for this order at Stripe, past the shop; both are paid."""
        session = self.cast.world.open_stray_session(page.session_id or "")
        self.cast.strays.add(page.attempt_id)
        self.stage.tell(f"finds a second page {session} for order {page.attempt_id}")
        for session_id in self.rng.sample([page.session_id, session], 2):
            self.pay(replace(page, session_id=session_id), GOOD)
            self.think(5)
        self.come_back(page)

    def pay_too_little(self, page: checkout.PayPage) -> None:
        self.pay(page, "wrong_amount")
        self.come_back(page)


WAYS: dict[Callable[[Shopper, checkout.PayPage], None], int] = {
    Shopper.pay_at_once: 34,
    Shopper.be_declined_first: 10,
    Shopper.leave: 8,
    Shopper.pay_near_the_deadline: 10,
    Shopper.cancel: 9,
    Shopper.edit_and_check_out_again: 10,
    Shopper.go_back_to_the_page: 6,
    Shopper.answer_the_bank: 5,
    Shopper.pay_by_debit: 6,
    Shopper.pay_twice: 3,
    Shopper.pay_too_little: 2,
}
