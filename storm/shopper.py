"""Shoppers: they buy once or a few times, each time in one of many ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from domain.errors import (
    CodeRefused,
    EmptyCart,
    NoTaxOnPlans,
    OutOfStock,
    PlansDoNotMix,
    ShopError,
    StripeError,
)
from services import cart, checkout, orders, status_page, subscriptions
from services.causes import SHOPPER
from services.checkout import PayPage
from storm.books import Answer
from storm.watch import RUNNING, attempt_of
from storm.world import GIFT, HOLD_S, PLANS, SHELF, TTL_MINUTES

if TYPE_CHECKING:
    from storm.cast import Cast

GOOD, DECLINED, ASKS = "4242424242424242", "4000000000000002", "4000002500003155"
ALWAYS_ASKS, CANNOT_BE_CHARGED = "4000002760003184", "4000000000000341"
CODES_TYPED = (None, None, None, None, "TENTH", "fiver", "TWICE", "FREE", "DOLLARS", "NONE-SUCH")
WAYS_TO_PAY = ("hosted", "hosted", "embedded", "elements", "elements", "elements")
STRANGER = "a stranger"


class Shopper:
    """One person with a browser of several tabs."""

    def __init__(self, cast: Cast, number: int, checkouts: int) -> None:
        self.cast, self.stage, self.rng, self.world = cast, cast.stage, cast.rng, cast.world
        self.id = self.name = f"shopper {number}"
        self.checkouts = checkouts
        self.contact = checkout.Contact(f"Shopper {number}", f"shopper{number}@example.com")
        self.address = checkout.Address("1 Quay", "Galway", "H91", "IE")
        self.delivery = "standard"
        self.way = "hosted"  # to pay, as the services call it
        self.code: str | None = None  # a discount code

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
        """With things bought once, with what recurs, or with both."""
        self.way = self.rng.choice(WAYS_TO_PAY)
        self.code = self.rng.choice(CODES_TYPED)
        kind = self.rng.choice(("once", "once", "once", "plan", "plan", "both", "both", "both"))
        if self.world.tax and self.rng.random() < 0.9:
            kind = "once"
        if self.rng.random() < 0.08:
            self.delivery = "pickup"
            self.put(GIFT[0], 1)
            if kind == "once":
                return
        self.delivery = self.rng.choice(("standard", "standard", "express", "pickup"))
        if kind != "plan":
            for _ in range(self.rng.choice((1, 1, 1, 2))):
                self.put(self.rng.choice(SHELF)[0], self.rng.choice((1, 1, 2)))
        if kind != "once":
            self.put(self.rng.choice(list(PLANS)), self.rng.choice((1, 1, 1, 2)))
            if self.rng.random() < 0.15:
                self.put(self.rng.choice(list(PLANS)), 1)

    def put(self, sku: str, units: int) -> None:
        answer = self.ask(
            f"puts {units} × {sku} into the basket", lambda: cart.add(self.id, sku, units, "eur")
        )
        self.cast.books.added((self.id, sku), units, answer)

    def take_out(self, sku: str) -> None:
        since = datetime.fromtimestamp(self.stage.clock.seconds, UTC).replace(tzinfo=None)
        answer = self.ask(f"takes {sku} out", lambda: cart.remove(self.id, sku))
        on_a_page = self.world.rows(
            "SELECT COALESCE(SUM(json_extract(line.value, '$.quantity')), 0)"
            " FROM checkout_attempts a, json_each(a.snapshot, '$.lines') line"
            " WHERE a.shopper_id = ? AND json_extract(line.value, '$.sku') = ?"
            " AND a.strategy <> 'order_first'"
            " AND (a.state = 'open' OR (a.state = 'settled' AND a.closed_at >= ?))",
            *(self.id, sku, str(since)),
        )
        self.cast.books.removed((self.id, sku), answer, on_a_page[0][0])

    def start(self) -> PayPage:
        code = self.code
        page = checkout.start(self.id, self.contact, self.address, self.delivery, self.way, code)
        self.cast.orders.append(page.attempt_id)
        self.cast.deeds["codes used"] += code is not None
        self.stage.tell(f"has order {page.attempt_id} to pay in {id_of(page)}")
        return page

    def start_again(self, order: str) -> PayPage:
        """*Try again* on the order's page."""
        page = checkout.retry(order, self.id)
        self.cast.deeds["retries"] += 1
        self.stage.tell(f"has order {order} to pay in {id_of(page)} now")
        return page

    def check_out(self) -> PayPage | None:
        """Press Pay until there is a page, or a reason to stop."""
        for _ in range(4):
            if self.rng.random() < 0.12:
                self.cast.send(f"{self.name}'s other tab", self.start)
            answer = self.ask("checks out", self.start)
            page = self.page_of(answer)
            if page:
                return page
            if isinstance(answer.refusal, OutOfStock):
                self.take_out(answer.refusal.sku)
            elif isinstance(answer.refusal, PlansDoNotMix):
                self.take_out(self.rng.choice([sku for sku in PLANS if sku in self.basket()]))
            elif isinstance(answer.refusal, NoTaxOnPlans):
                for sku in [sku for sku in self.basket() if sku in PLANS]:
                    self.take_out(sku)
            elif isinstance(answer.refusal, CodeRefused):
                self.cast.deeds["codes refused"] += 1
                self.code = None
            elif self.gives_up(answer.refusal):
                break
            self.think(30)
        return None

    def retry(self, order: str, tries: int = 4) -> PayPage | None:
        """Press *Try again* until there is a page, or a reason to stop."""
        for _ in range(tries):
            answer = self.ask(f"tries order {order} again", lambda: self.start_again(order))
            page = self.page_of(answer)
            if page:
                return page
            if isinstance(answer.refusal, checkout.AlreadyPaid):
                self.cast.deeds["retries refused"] += 1
            if self.gives_up(answer.refusal):
                break
            self.think(20)
        return None

    def page_of(self, answer: Answer) -> PayPage | None:
        """The payment page that came of a request: from its answer, or, if that was lost on the
        way from Stripe, from the address that the browser had seen already."""
        if answer.value:
            page: PayPage = answer.value
            return page
        why = answer.refusal
        self.stage.tell(f"is told: {why.code}" if why else "gets no page")
        if why is None or isinstance(why, StripeError):
            session_id = self.world.unnoted_session(self.id)
            if session_id and self.rng.random() < 0.5:
                self.cast.deeds["unnoted pages"] += 1
                order = attempt_of(self.world.sandbox.page(session_id))
                self.stage.tell(f"is on page {session_id} of order {order}, which has no row")
                return page_at(order, session_id)
        return None

    def gives_up(self, why: ShopError | None) -> bool:
        if isinstance(why, EmptyCart | checkout.AlreadyPaid):
            return True
        return bool(why) and not isinstance(why, StripeError) and self.rng.random() < 0.5

    def basket(self) -> list[str]:
        return [
            sku
            for (sku,) in self.world.rows(
                "SELECT p.sku FROM cart_items i JOIN carts c ON c.id = i.cart_id"
                " JOIN products p ON p.id = i.product_id WHERE c.shopper_id = ? ORDER BY p.id",
                self.id,
            )
        ]

    def pay(self, page: PayPage, card: str) -> str:
        """Press the button: on a page of the shop's own that first saves the card, and then pays
        with it, unless the bank has more to say. Returns Stripe's word for how it went."""
        outcome = "closed"
        for id in doors_of(page):
            outcome = self.press(id, card, page)
            if outcome not in ("paid", "saved", "processing"):
                break
            if id.startswith("seti_"):
                self.stage.pause(self.rng.expovariate(1 / 2))
        return outcome

    def press(self, id: str, card: str, page: PayPage) -> str:
        """One of the doors of a page, or a first invoice of its order."""
        mood = self.rng.choice(("", "", "", "", "lost", "late", "twice", "shuffled"))
        mood = mood if self.cast.is_storming else ""
        box = self.world.sandbox
        asks = box.page(id)
        if card == "wrong_amount" and not asks.get("amount_total", asks.get("amount")):
            card = GOOD  # nothing cannot be too little
        act = box.pay if id.startswith(("cs_", "in_")) else box.confirm
        outcome: str = act(id, card, webhooks=mood)["outcome"]
        self.stage.tell(f"pays {id} of order {page.attempt_id}: {outcome} {mood}")
        self.cast.stir()
        return outcome

    def come_back(self, page: PayPage, *, waits: bool = True) -> None:
        """The success page and a few polls of it; or the browser was closed, or the link was
        passed on to somebody else. ``waits`` False: do something else while the page loads."""
        if self.rng.random() < 0.1:
            self.cast.deeds["strangers"] += 1
            self.stage.tell(f"passes {id_of(page)} on to a stranger")
            self.cast.send(STRANGER, lambda: land(page, STRANGER))
        if self.rng.random() < 0.35:
            return
        self.stage.pause(self.rng.random() * 3)
        self.cast.deeds["returns"] += 1
        self.world.write(
            "INSERT INTO storm_returns VALUES (?, ?)", self.stage.commits, page.attempt_id
        )
        self.stage.tell(f"is back from {id_of(page)}")
        request, _ = self.cast.send(f"{self.name}'s request", lambda: land(page, self.id))
        if not waits:
            return
        self.stage.wait_for(request, HOLD_S)
        for _ in range(self.rng.choice((0, 0, 1, 3))):
            self.stage.pause(self.rng.uniform(0.5, 5))
            self.ask("looks again", lambda: checkout.ask(page.attempt_id))

    def wait_for_the_deadline(self, page: PayPage, *past_s: float) -> None:
        """Until somewhere between these two moments, in seconds past the end of the page."""
        known = self.world.sandbox.page(id_of(page))
        ends_at = known.get("expires_at") or known["created"] + TTL_MINUTES * 60
        self.stage.pause(ends_at - self.stage.clock.seconds + self.rng.uniform(*past_s))

    def find_a_second_page(self, page: PayPage, *, by_twin: bool = False) -> PayPage:
        """Somebody opened a second page for this order at Stripe, past the shop."""
        stray = self.world.open_stray(id_of(page), by_twin=by_twin)
        self.cast.strays.add(page.attempt_id)
        self.stage.tell(f"finds a second page {stray} for order {page.attempt_id}")
        return page_at(page.attempt_id, stray)

    def send_retry(self, page: PayPage) -> None:
        """*Try again* in another tab, whatever comes of it."""
        self.stage.tell(f"tries order {page.attempt_id} again in another tab")
        self.cast.send(f"{self.name}'s other tab", lambda: self.start_again(page.attempt_id))

    def release(self, page: PayPage) -> Answer:
        return self.ask(
            f"gives up order {page.attempt_id}",
            lambda: checkout.release(page.attempt_id, shopper_id=self.id),
        )

    # -- ways to buy

    def buy(self) -> None:
        page = self.check_out()
        if page is None:
            return
        self.think(20)
        saves_card, *pays = (id.startswith("seti_") for id in doors_of(page))
        recurs = saves_card or self.world.sandbox.page(id_of(page)).get("mode") == "subscription"
        known = WAYS
        if recurs and self.rng.random() < 0.75:
            known = WAYS_TO_SAVE if saves_card else WAYS_WITH_PLANS
            known = known | (WAYS_TO_SAVE_AND_PAY if pays else {})
        ways, weights = zip(*known.items(), strict=True)
        self.rng.choices(ways, weights)[0](self, page)

    def pay_at_once(self, page: PayPage) -> None:
        self.pay(page, GOOD)
        self.come_back(page)

    def be_declined_first(self, page: PayPage) -> None:
        for _ in range(self.rng.choice((1, 1, 2))):
            self.pay(page, DECLINED)
            self.think(30)
        if self.rng.random() < 0.7:
            self.pay_at_once(page)

    def leave(self, page: PayPage) -> None:
        self.stage.tell(f"leaves order {page.attempt_id}")

    def come_back_unpaid(self, page: PayPage) -> None:
        """The success page's address typed by hand before anything was paid, and the payment in
        the other tab a moment later."""
        self.come_back(page, waits=self.rng.random() < 0.5)
        if self.rng.random() < 0.7:
            self.stage.pause(self.rng.random() * 5)
            self.pay(page, self.rng.choice((GOOD, "bank_debit")))
            self.come_back(page)

    def pay_near_the_deadline(self, page: PayPage) -> None:
        self.wait_for_the_deadline(page, -40, 40)
        self.pay_at_once(page)

    def cancel(self, page: PayPage) -> None:
        """Back by the cancel link, while perhaps the payment goes through in another tab."""
        order = page.attempt_id
        self.stage.tell(f"gives up order {order}")
        self.cast.send(
            f"{self.name}'s request", lambda: checkout.release(order, shopper_id=self.id)
        )
        if self.rng.random() < 0.6:
            self.stage.pause(self.rng.random())
            self.pay(page, GOOD)

    def edit_and_check_out_again(self, page: PayPage) -> None:
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

    def empty_the_basket_and_pay(self, page: PayPage) -> None:
        """Where the lines are still in the basket, the page sells them all the same."""
        for (sku,) in self.world.rows(
            "SELECT json_extract(line.value, '$.sku')"
            " FROM checkout_attempts a, json_each(a.snapshot, '$.lines') line WHERE a.id = ?",
            page.attempt_id,
        ):
            self.take_out(sku)
        self.pay_at_once(page)

    def go_back_to_the_page(self, page: PayPage) -> None:
        """Ask for the same page again, twice at once, and pay it."""
        for _ in range(2):
            self.cast.send(
                f"{self.name}'s request", lambda: checkout.again(page.attempt_id, self.id)
            )
        self.pay_at_once(page)

    def switch_the_way_to_pay(self, page: PayPage) -> None:
        """From Stripe's page to the shop's own or back, while the first is perhaps being paid."""
        other = "elements" if page.session_id else "hosted"
        order = page.attempt_id
        if self.rng.random() < 0.5:
            self.pay(page, DECLINED)
        request, answer = self.cast.send(
            f"{self.name}'s request", lambda: checkout.again(order, self.id, other)
        )
        if self.rng.random() < 0.4:
            self.stage.pause(self.rng.random() * 2)
            self.pay(page, GOOD)
        self.stage.wait_for(request, HOLD_S)
        if answer.value:
            self.cast.deeds["switches"] += 1
            self.think(5)
            self.pay_at_once(answer.value)

    def answer_the_bank(self, page: PayPage) -> None:
        """At each door; with some cards once more when the first invoice is collected."""
        card = self.rng.choice((ASKS, ALWAYS_ASKS))
        for id in doors_of(page):
            outcome = self.press(id, card, page)
            if outcome == "asks":
                self.think(30)
                outcome = self.answer(id)
            if outcome not in ("paid", "saved"):
                return
        self.come_back(page)
        if card == ALWAYS_ASKS:
            self.see_to_first_invoices(page)

    def answer(self, id: str) -> str:
        """The bank's question, mostly as it should be."""
        told = self.world.sandbox.authenticate(id, ok=self.rng.random() < 0.7)
        outcome: str = told["outcome"]
        self.stage.tell(f"answers the bank for {id}: {outcome}")
        self.cast.stir()
        return outcome

    def pay_by_debit(self, page: PayPage) -> None:
        """And buy something else meanwhile, or try again when it bounced."""
        self.pay(page, self.rng.choice(("bank_debit", "bank_debit", "bank_debit_fails")))
        self.come_back(page)
        if self.rng.random() < 0.4:
            self.think(200)
            new = self.retry(page.attempt_id, tries=2)
            if new:
                self.pay_at_once(new)

    def pay_too_little(self, page: PayPage) -> None:
        self.pay(page, "wrong_amount")
        self.come_back(page)

    # -- what recurs

    def pay_money_first(self, page: PayPage) -> None:
        """The other way round than the page does it, with time in between."""
        for id in reversed(doors_of(page)):
            self.press(id, GOOD, page)
            self.think(30)
        self.come_back(page)

    def save_the_card_only(self, page: PayPage) -> None:
        """And see to the rest later, in another tab, or give it up."""
        first, *rest = doors_of(page)
        self.press(first, self.rng.choice((GOOD, GOOD, "bank_debit", CANNOT_BE_CHARGED)), page)
        if not rest:
            self.come_back(page)
            return
        self.cast.deeds["cards saved, nothing paid"] += 1
        self.think(200)
        self.rng.choice((self.go_on, self.go_on, self.leave, self.release, self.switch))(page)

    def pay_the_money_only(self, page: PayPage) -> None:
        """And save the card later, or never: then its line does not start. Or give it all up in
        the same moment, which comes too late, and must not take the card's page away."""
        *_, last = doors_of(page)
        if self.press(last, self.rng.choice((GOOD, GOOD, "bank_debit")), page) == "paid":
            self.cast.deeds["paid, no card saved"] += 1
        if self.rng.random() < 0.5:
            self.rng.choice((self.release, self.switch, self.send_retry))(page)
        self.come_back(page)
        self.think(200)
        self.rng.choice((self.go_on, self.go_on, self.leave, self.release))(page)

    def go_on(self, page: PayPage) -> None:
        """Come back to the page for whatever of it is not done yet."""
        answer = self.ask("goes on", lambda: checkout.again(page.attempt_id, self.id))
        if answer.value:
            self.pay_at_once(answer.value)

    def save_a_card_that_declines(self, page: PayPage) -> None:
        """The card can be saved and not charged; what is bought once is paid with another."""
        for id in doors_of(page):
            self.press(id, GOOD if id.startswith("pi_") else CANNOT_BE_CHARGED, page)
        self.come_back(page)
        self.see_to_first_invoices(page)

    def see_to_first_invoices(self, page: PayPage) -> None:
        """By the link that came with the mail; or do something else about it, or nothing."""
        self.think(300)
        box, order = self.world.sandbox, page.attempt_id
        for id in filter(box.is_payable, box.first_invoices(order)):
            self.cast.deeds["first invoices declined"] += 1
            deed = self.rng.choice(
                (
                    *("pay", "pay", "debit", "bounce", "decline", "leave"),
                    *("retry", "retry", "cancel", "cancel", "switch", "switch"),
                )
            )
            if deed == "leave":
                return
            if deed in ("retry", "cancel", "switch") and self.rng.random() < 0.5:
                self.press_in_another_tab(id, page)
            if deed == "retry":
                new = self.retry(order, tries=2)
                if new:
                    self.pay_at_once(new)
            elif deed == "cancel":
                self.release(page)
            elif deed == "switch":
                self.switch(page)
            else:
                cards = {"debit": "bank_debit", "bounce": "bank_debit_fails", "decline": DECLINED}
                if self.press(id, cards.get(deed, GOOD), page) == "paid":
                    self.cast.deeds["first invoices paid later"] += 1

    def press_in_another_tab(self, id: str, page: PayPage) -> None:
        """Within the next two seconds."""
        press = partial(self.press, id, GOOD, page)
        self.stage.enter(self.name, press, after_s=self.rng.random() * 2)

    def see_it_cancelled_at_stripe(self, page: PayPage) -> None:
        """Somebody ends the subscription in Stripe's dashboard just when it has begun."""
        self.pay(page, self.rng.choice((GOOD, GOOD, CANNOT_BE_CHARGED)))
        self.come_back(page, waits=self.rng.random() < 0.5)
        box = self.world.sandbox
        for _ in range(10):
            running = [
                one
                for one in box.subscriptions_of(page.attempt_id)
                if one["status"] in (*RUNNING, "incomplete")
            ]
            if running:
                one = self.rng.choice(running)
                box.end_in_dashboard(one)
                self.cast.deeds["ended in the dashboard"] += 1
                self.stage.tell(f"is told that {one['id']} was ended in Stripe's dashboard")
                self.cast.stir()
                return
            self.stage.pause(self.rng.random() * 3)

    def think_better_of_it(self, page: PayPage) -> None:
        """End the subscription on the order's page, now or with its period, or let it go on."""
        self.pay_at_once(page)
        self.think(60)
        for _ in range(self.rng.choice((1, 2, 3))):
            rows = self.world.rows(
                "SELECT id FROM subscriptions WHERE checkout_attempt_id = ? ORDER BY id",
                page.attempt_id,
            )
            if not rows:
                return
            ((row,),) = self.rng.sample(rows, 1)
            self.change_plan(page.attempt_id, row)
            self.think(20)

    def change_plan(self, order: str, row: int) -> None:
        act = self.rng.choice(
            (
                lambda: subscriptions.cancel(order, row, SHOPPER, at_period_end=True),
                lambda: subscriptions.cancel(order, row, SHOPPER, at_period_end=False),
                lambda: subscriptions.resume(order, row, SHOPPER),
            )
        )
        self.cast.deeds["plans changed"] += 1
        self.ask(f"changes plan {row} of order {order}", act)

    def switch(self, page: PayPage) -> None:
        """To the other way to pay, whatever was done of the first."""
        other = "elements" if page.session_id else "hosted"
        answer = self.ask(f"pays {other}", lambda: checkout.again(page.attempt_id, self.id, other))
        if answer.value:
            self.cast.deeds["switches"] += 1
            self.pay_at_once(answer.value)

    # -- ways to try again

    def retry_after_a_decline(self, page: PayPage) -> None:
        """A new page in place of the open one, which stays behind in a forgotten tab."""
        self.pay(page, DECLINED)
        self.think(20)
        new = self.retry(page.attempt_id)
        if new and self.rng.random() < 0.4:
            self.pay(page, GOOD)
        if new:
            self.pay_at_once(new)

    def retry_in_two_tabs(self, page: PayPage) -> None:
        if self.rng.random() < 0.5:
            self.release(page)
        for _ in range(2):
            self.send_retry(page)
        self.stage.pause(self.rng.random() * 2)
        new = self.retry(page.attempt_id)
        if new:
            self.pay_at_once(new)

    def retry_while_paying(self, page: PayPage) -> None:
        """The old page is being paid in one tab, while the other asks for a new one."""
        self.send_retry(page)
        self.stage.pause(self.rng.random() * 2)
        self.pay(page, self.rng.choice((GOOD, GOOD, "bank_debit", "bank_debit_fails")))
        self.come_back(page)
        new = self.retry(page.attempt_id)
        if new:
            self.pay_at_once(new)

    def retry_around_the_deadline(self, page: PayPage) -> None:
        """While the clock is about to end it, or has just ended it."""
        self.wait_for_the_deadline(page, -5, 90)
        if self.rng.random() < 0.6:
            self.cast.wait_for_sync(900)
            self.stage.pause(self.rng.random() * 2)
        if self.rng.random() < 0.3:
            self.send_retry(page)
        new = self.retry(page.attempt_id)
        if new:
            self.think(20)
            self.pay_at_once(new)

    def retry_what_had_ended(self, page: PayPage) -> None:
        """Cancelled or run out; perhaps something else is being bought from the same basket."""
        if self.rng.random() < 0.5:
            self.release(page)
            self.think(60)
        else:
            self.wait_for_the_deadline(page, 60, 3000)
        if self.rng.random() < 0.4:
            self.delivery = self.rng.choice(("standard", "express"))
            self.cast.send(f"{self.name}'s second tab", self.start)
            self.stage.pause(self.rng.random())
        new = self.retry(page.attempt_id)
        if new:
            self.think(20)
            self.pay_at_once(new)

    def retry_what_is_paid(self, page: PayPage) -> None:
        if self.pay(page, GOOD) != "paid":
            return
        self.come_back(page)
        answer = self.ask("tries it again", lambda: self.start_again(page.attempt_id))
        if answer.value and any(map(self.world.sandbox.is_payable, doors_of(answer.value))):
            self.cast.wrong(page.attempt_id, "was paid, and could be paid again")
        elif isinstance(answer.refusal, checkout.AlreadyPaid):
            self.cast.deeds["retries refused"] += 1

    # -- ways past the shop

    def pay_twice(self, page: PayPage) -> None:
        """Both the shop's page and one that it does not know are paid."""
        second = self.find_a_second_page(page)
        for one in self.rng.sample([page, second], 2):
            self.pay(one, GOOD)
            self.think(5)
        self.come_back(self.rng.choice((page, second)))

    def pay_late_past_the_shop(self, page: PayPage) -> None:
        """An order that has ended is paid by a page that the shop could not close; perhaps while
        it is being tried again."""
        second = self.find_a_second_page(page)
        self.release(page)
        self.think(30)
        if self.rng.random() < 0.5:
            self.send_retry(page)
            self.stage.pause(self.rng.random() * 2)
        self.pay_at_once(second)
        new = self.retry(page.attempt_id) if self.rng.random() < 0.5 else None
        if new:
            self.pay_at_once(new)

    def return_to_the_first(self, page: PayPage) -> None:
        """Two orders of the same lines, the first of which is taken up again and bought; and then
        the second is paid past the shop."""
        self.release(page)
        self.delivery = "express" if self.delivery != "express" else "standard"
        second = self.check_out()
        if second is None or second.attempt_id == page.attempt_id:
            return
        stray = self.find_a_second_page(second)
        first = self.retry(page.attempt_id)
        if first:
            self.pay_at_once(first)
            self.think(30)
        self.pay(stray, GOOD)


def doors_of(page: PayPage) -> list[str]:
    """What the button of this page goes through: a session, or a page of the shop's own that saves
    a card, pays, or does both, the card first."""
    if page.session_id:
        return [page.session_id]
    setup = (page.setup_client_secret or "").partition("_secret_")[0]
    return [id for id in (setup, page.payment_intent) if id]


def id_of(page: PayPage) -> str:
    """What is paid there, or what saves the card if nothing is."""
    return doors_of(page)[-1]


def page_at(order: str, id: str) -> PayPage:
    """A payment page whose address somebody has, whoever gave it to them."""
    page = PayPage(order, url=None, client_secret=None)
    if id.startswith("cs_"):
        return replace(page, session_id=id)
    if id.startswith("seti_"):
        return replace(page, setup_client_secret=f"{id}_secret_")
    return replace(page, payment_intent=id)


def land(page: PayPage, visitor: str) -> None:
    """What the success page does for a browser that comes with the address of this page."""
    order_id: str | None = page.attempt_id  # the shop's own page knows where it leads back to
    if page.session_id:
        order_id = orders.id_of_session(page.session_id)
        order_id = order_id or checkout.found_at_stripe(page.session_id)
    elif page.payment_intent:
        order_id = orders.id_of_intent(page.payment_intent)
    case = orders.dossier(order_id)
    if case:
        status_page.landed(case, visitor)


WAYS: dict[Callable[[Shopper, PayPage], None], int] = {
    Shopper.pay_at_once: 26,
    Shopper.be_declined_first: 8,
    Shopper.leave: 6,
    Shopper.come_back_unpaid: 4,
    Shopper.pay_near_the_deadline: 8,
    Shopper.cancel: 8,
    Shopper.edit_and_check_out_again: 8,
    Shopper.empty_the_basket_and_pay: 2,
    Shopper.go_back_to_the_page: 4,
    Shopper.switch_the_way_to_pay: 8,
    Shopper.answer_the_bank: 4,
    Shopper.pay_by_debit: 6,
    Shopper.pay_too_little: 2,
    Shopper.retry_after_a_decline: 5,
    Shopper.retry_in_two_tabs: 5,
    Shopper.retry_while_paying: 6,
    Shopper.retry_around_the_deadline: 5,
    Shopper.retry_what_had_ended: 6,
    Shopper.retry_what_is_paid: 3,
    Shopper.pay_twice: 3,
    Shopper.pay_late_past_the_shop: 3,
    Shopper.return_to_the_first: 3,
}
WAYS_WITH_PLANS: dict[Callable[[Shopper, PayPage], None], int] = {
    Shopper.pay_at_once: 4,
    Shopper.pay_twice: 1,
    Shopper.pay_late_past_the_shop: 1,
    Shopper.see_it_cancelled_at_stripe: 2,
    Shopper.think_better_of_it: 2,
}
WAYS_TO_SAVE: dict[Callable[[Shopper, PayPage], None], int] = {
    Shopper.pay_at_once: 4,
    Shopper.save_the_card_only: 3,
    Shopper.save_a_card_that_declines: 8,
    Shopper.answer_the_bank: 2,
    Shopper.see_it_cancelled_at_stripe: 2,
    Shopper.think_better_of_it: 2,
}
WAYS_TO_SAVE_AND_PAY: dict[Callable[[Shopper, PayPage], None], int] = {
    Shopper.pay_money_first: 3,
    Shopper.pay_the_money_only: 10,
}
