"""Who is on stage: shoppers in front; courier, workers, clock, admin and weather behind.

A person is never killed, but the request that a person sent may be: then nobody answers, as with
a browser whose server has died.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from domain.errors import CannotStore, ShopError, UnverifiedEvent
from extensions import doorbell
from gateway import current_gateway
from sandbox import Delivery
from services import inbox, reconcile, settings
from services.causes import Cause
from storm.books import Answer, Books
from storm.money_back import MoneyBack
from storm.shopper import GOOD, Shopper, page_at
from storm.stage import Actor, Dangers
from storm.world import HOLD_S, World, rollout

STORM = Dangers(crash_pct=1.0, stall_pct=0.5, longest_stall_s=400)
NIGHT = Dangers(crash_pct=0.5, stall_pct=0.2, longest_stall_s=400)
CALM = Dangers()
ARRIVE_WITHIN_S = 900.0
SWEEP_S, SYNC_S = 30.0, 120.0  # the shop's own periods
HOUR_S, DAY_S = 3600.0, 86_400.0


class Cast:
    """Everybody in one storm."""

    def __init__(self, world: World, checkouts: int, *, is_mixed: bool) -> None:
        self.world, self.is_mixed = world, is_mixed
        self.stage = world.stage
        self.rng: Random = world.stage.rng
        self.books = Books()
        self.deeds: Counter[str] = Counter()  # how often people did what is rarely done
        self.sins: list[tuple[str, str]] = []  # about which order, what somebody saw go wrong
        self.is_storming = True
        self.latest = 6.0  # how many periods late the clock may be
        self.pace = 1.0  # a clock that ticks this much slower: at night nothing is in a hurry
        self.sync_at = 0.0
        self._waiting: list[Actor] = []  # for the next reconcile pass
        self._carried: set[str] = set()  # deliveries on their way to the shop just now
        self.faults = 0
        self.left = 0  # shoppers who have not gone home yet
        self.orders: list[str] = []
        self.strays: set[str] = set()  # orders with a page that the shop did not open
        self.shoppers: dict[str, Shopper] = {}
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

    def wrong(self, about: str, what: str) -> None:
        """Somebody saw what must not be."""
        self.sins.append((about, what))

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
            shopper = self.shoppers[f"shopper {number}"] = Shopper(self, number, mine)
            self.stage.enter(
                shopper.name, shopper.play, after_s=self.rng.random() * ARRIVE_WITHIN_S
            )

    # -- behind the stage

    def _backstage(self) -> None:
        self.courier = self.stage.enter("Stripe", self._carry_webhooks)
        for number in (1, 2):
            worker = self.stage.enter(f"worker {number}", self._work(f"worker {number}"))
            self.world.bell.listeners.append(worker)
        self.clock = self.stage.enter("clock", self._tick)
        self.stage.enter("weather", self._blow)
        self.stage.enter("admin", self._administer)
        self.stage.enter("admin", self._switch_off)
        self.stage.enter("dashboard", self._revoke)
        self.money_back = MoneyBack(self)
        if self.is_mixed:
            self.stage.enter("admin", self._roll_out)
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

    def wait_for_sync(self, at_most_s: float) -> None:
        """Until the next reconcile pass begins."""
        me = self.stage.on_stage
        assert me is not None
        self._waiting.append(me)
        self.stage.doze(at_most_s)
        if me in self._waiting:
            self._waiting.remove(me)

    def _do(self, role: str, job: Callable[[], Any]) -> None:
        """Run one job in a process that may die; its successor needs some seconds to start."""
        if job.__name__ in ("sync", "by_clock"):
            while self._waiting:
                self.stage.wake(self._waiting.pop())
        actor, _ = self.send(role, job)
        self.stage.wait_for(actor)
        if actor.crashed:
            self.stage.pause(self.rng.uniform(1, 20))

    def _tick(self) -> None:
        while True:
            self.stage.doze(self.pace * SWEEP_S * self.rng.uniform(1, self.latest))
            if self.stage.clock.seconds < self.sync_at:
                if not doorbell.enqueue("sweep"):
                    self._do("clock", reconcile.sweep)
                continue
            period = self.pace * SYNC_S * self.rng.uniform(1, self.latest)
            self.sync_at = self.stage.clock.seconds + period
            if not doorbell.enqueue("sync"):
                self._do("clock", reconcile.by_clock)

    def _administer(self) -> None:
        """Somebody presses *Sync now* on an order at the worst moment."""
        while self.is_storming:
            self.stage.pause(self.rng.uniform(60, 600))
            if self.orders and self.is_storming:
                order = self.rng.choice(self.orders)
                self.ask("admin", partial(reconcile.sync_order, order, Cause("admin", "boss")))

    def _roll_out(self) -> None:
        """Strategy and rollout are changed again and again while shoppers are paying (F37)."""
        while self.is_storming:
            self.stage.pause(self.rng.uniform(100, 700))
            if self.is_storming:
                self.deeds["rollouts"] += 1
                self._choose("admin", **rollout(self.rng))

    def _revoke(self) -> None:
        """In Stripe's dashboard codes are ended, and begun again, while shoppers hold them."""
        codes = self.world.sandbox.store.objects["promotion_code"]
        while self.is_storming:
            self.stage.pause(self.rng.uniform(60, 500))
            if not self.is_storming:
                return
            code = self.rng.choice(list(codes.values()))
            self.world.sandbox.turn(code, active=not code["active"])
            self.deeds["codes revoked"] += not code["active"]
            self.stage.tell(f"turns {code['code']} {'on' if code['active'] else 'off'}")
            self.stir()

    def _switch_off(self) -> None:
        """For a diagnosis, the reconciler or the look-up on return rest for some minutes. Another
        admin changes something else at the very same time."""
        while self.is_storming:
            self.stage.pause(self.rng.uniform(200, 1500))
            if not self.is_storming:
                return
            flag = self.rng.choice(("background_sync", "background_sync", "landing_lookup"))
            other = {"live_updates": self.rng.choice(("poll", "sse"))}
            self.deeds["switched off"] += 1
            beside, answer = self.send("other admin", partial(_change, **other))
            self._choose("admin", **{flag: False})
            self.stage.wait_for(beside)
            wanted = {flag: False, **(other if answer.value else {})}
            self._must_be_set(wanted)
            self.stage.pause(self.rng.uniform(60, 600))
            self._must_be_set(wanted)
            self._choose("admin", **{flag: True})

    def _must_be_set(self, wanted: dict[str, Any]) -> None:
        """Whoever has changed something finds it so, until somebody changes it again."""
        ((row,),) = self.world.rows("SELECT value FROM settings WHERE name = ?", settings.ROW)
        there = json.loads(row)
        lost = any(there[name] != value for name, value in wanted.items())
        if lost and self.is_storming:
            self.wrong("settings", f"{wanted} was set, and was forgotten: {there}")

    def _choose(self, role: str, **wishes: Any) -> None:
        self.stage.tell(f"sets {wishes}")
        while self.ask(role, partial(_change, **wishes)).value is None:
            self.stage.pause(5)  # the request died; whoever presses a switch looks at it

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
            if name == "silent bell":
                bell.is_down = True
            if name == "emptied bell":
                bell.flush()
            box.chaos.update(WEATHER[name])
            self.faults += bool(name != "sunshine")

    def calm_down(self) -> None:
        """No more faults from now on; whoever is frozen wakes within seconds, and the admin has
        switched everything on again."""
        self.is_storming = False
        self.set_pace(1.0)
        self.world.sandbox.chaos.clear()
        self.world.bell.is_down = False
        self.stage.dangers = CALM
        self.stage.end_stalls(5.0)
        self.stage.enter("admin", self._switch_on)
        self.stage.tell("the storm is over", "weather")

    def _switch_on(self) -> None:
        self.stage.pause(6)  # whoever was about to switch something off has done so by then
        self._choose("admin", background_sync=True, landing_lookup=True)

    # -- the days after

    def set_pace(self, pace: float, latest: float = 1.0) -> None:
        """The clock goes on at this pace, from now."""
        self.pace, self.latest = pace, latest
        self.sync_at = self.stage.clock.seconds
        self.stage.wake(self.clock)

    def next_day(self) -> None:
        """Some of those who did not pay come back within a day, or too late; some pay by a page
        that was opened past the shop, before or after it has forgotten them. Those who bought
        nothing else since are to have their order."""
        unpaid = self.world.rows(
            "SELECT id, shopper_id, (SELECT COUNT(*) FROM checkout_attempts other"
            " WHERE other.shopper_id = a.shopper_id AND other.state = 'settled')"
            " FROM checkout_attempts a WHERE state = 'closed' ORDER BY id"
        )
        unpaid = [row for row in unpaid if row[0] in self.world.sandbox.opened]
        for order, name, bought in self.rng.sample(unpaid, min(len(unpaid), 8)):
            hours, act = self.rng.choice(LATER if bought else (*LATER, FORGOTTEN))
            call = partial(act, self, self.shoppers[name], order)
            self.stage.enter(name, call, after_s=self.rng.uniform(*hours) * HOUR_S)
        self._see_to_plans()

    def _see_to_plans(self) -> None:
        """Some pay the first invoice of a line after all, some change what they subscribed to."""
        owing = self.world.rows(
            "SELECT a.id, a.shopper_id, l.stripe_id FROM checkout_attempts a"
            " JOIN stripe_legs l ON l.attempt_id = a.id"
            " WHERE l.kind = 'invoice' AND l.state = 'open' ORDER BY l.id"
        )
        for order, name, invoice in self.rng.sample(owing, len(owing) // 2):
            page = page_at(order, invoice)
            press = partial(self.shoppers[name].press, invoice, GOOD, page)
            self.deeds["first invoices paid next day"] += 1
            self.stage.enter(name, press, after_s=self.rng.uniform(1, 24) * HOUR_S)
        plans = self.world.rows(
            "SELECT s.id, a.id, a.shopper_id FROM subscriptions s"
            " JOIN checkout_attempts a ON a.id = s.checkout_attempt_id ORDER BY s.id"
        )
        for row, order, name in self.rng.sample(plans, len(plans) // 3):
            if name in self.shoppers:
                change = partial(self.shoppers[name].change_plan, order, row)
                self.stage.enter(name, change, after_s=self.rng.uniform(1, 27) * HOUR_S)

    def night_falls(self) -> None:
        """Processes die in the night as well, news is lost, and banks refuse a renewal or two."""
        self.stage.dangers = NIGHT
        chaos = self.world.sandbox.chaos
        chaos.update(self.rng.choice(NIGHTS))
        chaos.decline_renewals = self.rng.choice((0, 1, 2, 5))
        chaos.after_retries = self.rng.choice(("cancel", "unpaid", "past_due"))

    def day_breaks(self) -> None:
        self.stage.dangers = CALM
        self.stage.end_stalls(5.0)
        self.world.sandbox.chaos.clear()

    def weeks_later(self, known: set[str]) -> None:
        """Money for orders, of those ``known``, that the shop has forgotten altogether."""
        still = {id for (id,) in self.world.rows("SELECT id FROM checkout_attempts")}
        buried = sorted(known & set(self.world.sandbox.opened) - still)
        for order in self.rng.sample(buried, min(len(buried), 2)):
            self.deeds["paid after burial"] += 1
            shopper = self.rng.choice(list(self.shoppers.values()))
            pay = partial(self._pay_past_the_shop, shopper, order, by_twin=self.rng.random() < 0.7)
            self.stage.enter(shopper.name, pay, after_s=self.rng.uniform(1, HOUR_S))

    def _try_again(self, shopper: Shopper, order: str) -> None:
        page = shopper.retry(order)
        if page:
            self.deeds["retries next day"] += 1
            shopper.pay_at_once(page)

    def _pay_past_the_shop(self, shopper: Shopper, order: str, *, by_twin: bool = False) -> None:
        self.deeds["paid next day"] += 1
        page = page_at(order, self.world.sandbox.doors(order)[-1])
        for sku, missing in self.world.rows(
            "SELECT p.sku, json_extract(line.value, '$.quantity') - COALESCE(i.quantity, 0)"
            " FROM checkout_attempts a, json_each(a.snapshot, '$.lines') line"
            " JOIN products p ON p.sku = json_extract(line.value, '$.sku')"
            " LEFT JOIN cart_items i ON i.cart_id = a.cart_id AND i.product_id = p.id"
            " WHERE a.id = ?",
            order,
        ):
            self.books.bought_past_the_basket((shopper.id, sku), max(missing, 0))
        shopper.pay(shopper.find_a_second_page(page, by_twin=by_twin), GOOD)


# When, in hours after the storm, and what: an unpaid order can be taken up again for a day.
FORGOTTEN: tuple[tuple[float, float], Callable[..., None]] = (
    (26.0, 27.0),
    Cast._pay_past_the_shop,
)
LATER = (
    ((1.0, 22.0), Cast._try_again),
    ((26.0, 27.0), Cast._try_again),
    ((1.0, 22.0), Cast._pay_past_the_shop),
    FORGOTTEN,
)


def _change(**wishes: Any) -> settings.Choices:
    return settings.change("boss", "a try", **wishes)


NIGHTS: tuple[dict[str, Any], ...] = (
    {},
    {"drop_pct": 60.0},
    {"duplicate": 1, "reorder": True},
    {"effect_then_cut": {"pct": 10}},
)
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
