"""Shoppers and an admin, who know the shop by its address alone."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from queue import Empty, SimpleQueue
from random import Random
from typing import Any

import requests

from storm.processes.house import House

PATIENCE_S = 12.0  # how long somebody waits for an answer
TRIES = 6  # how often a button is pressed again when nothing comes
PAUSE_S = 0.7
WATCHES_S = 20.0  # how long somebody looks at the page that waits
AT_ONCE = 12  # people in the shop at the same time
ADMIN = "ada@example.com"
PAYS, DECLINED, ASKS = "4242424242424242", "4000000000000002", "4000002500003155"
TOKEN = re.compile(r'name="csrf-token" content="([^"]+)"')

# sku, price in cents, units: few of some, so that shoppers race for them; plenty of others.
SHELF = (
    *((f"LAST-{n}", 900 + n, 1) for n in range(1, 7)),
    *((f"FEW-{n}", 1700 + n, 5) for n in range(1, 4)),
    ("MUG", 1800, 100_000),
    ("TEA", 1250, 100_000),
    ("PEN", 320, 100_000),
)
PRICES = {sku: price for sku, price, _ in SHELF}
RARE = [sku for sku, _, units in SHELF if units < 10]
COMMON = [sku for sku, _, units in SHELF if units >= 10]


def goods() -> str:
    """The shelf as a file for ``flask products import``."""
    lines = ["sku,title,price_eur,units"]
    lines += [f"{sku},{sku.title()},{price / 100:.2f},{units}" for sku, price, units in SHELF]
    return "\n".join(lines) + "\n"


@dataclass
class Checkout:
    """What one shopper remembers of one checkout."""

    number: int
    kind: str
    items: dict[str, int] = field(default_factory=dict)
    order_id: str = ""
    sessions: list[str] = field(default_factory=list)
    intent: str = ""
    paid: list[tuple[float, str]] = field(default_factory=list)  # when, and through what
    seen_paid_at: float = 0.0
    refused: str = ""  # why the shop did not want it, in its own words
    ended: bool = False


@dataclass
class Street:
    """What all of them saw, for the report and the checker."""

    checkouts: list[Checkout] = field(default_factory=list)
    failures: list[tuple[float, int, str]] = field(default_factory=list)  # every 5xx
    silences: int = 0  # requests that were never answered
    answers: Counter[int] = field(default_factory=Counter)
    slips: list[str] = field(default_factory=list)  # where a bot itself stumbled
    deeds: Counter[str] = field(default_factory=Counter)


class NoAnswer(Exception):
    """Pressed again and again, and nothing came."""


class Browser:
    """Somebody's browser: cookies, an address, and patience."""

    def __init__(self, house: House, street: Street, address: str) -> None:
        self.house, self.street = house, street
        self._session = requests.Session()
        self._session.headers["X-Forwarded-For"] = address

    def asks(self, method: str, path: str, *, tries: int = TRIES, **body: Any) -> requests.Response:
        """Ask until there is an answer that is no failure of the server. Raises NoAnswer."""
        for _ in range(tries):
            with_pause = PAUSE_S
            try:
                answer = self._session.request(
                    method, self.house.origin + path, timeout=PATIENCE_S, **body
                )
            except requests.RequestException:
                self.street.silences += 1
            else:
                self.street.answers[answer.status_code] += 1
                if answer.status_code < 500:
                    return answer
                self.street.failures.append(
                    (time.time(), answer.status_code, f"{method} {path.partition('?')[0]}")
                )
            time.sleep(with_pause)
        raise NoAnswer(f"{method} {path}")

    def enters(self) -> None:
        """Open a page, and keep what forms and calls must carry."""
        token = TOKEN.search(self.asks("GET", "/cart").text)
        assert token is not None, "a page without a token"
        self._session.headers["X-CSRFToken"] = token[1]

    def posts(self, path: str, **body: Any) -> requests.Response:
        return self.asks("POST", path, json=body)


class Shopper(Browser):
    """One person with one checkout; ``kind`` says what they are like."""

    def __init__(self, house: House, street: Street, number: int, seed: int) -> None:
        super().__init__(house, street, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.dice = Random(f"shopper:{seed}:{number}")
        self.me = Checkout(
            number, self.dice.choices(list(KINDS), [w for w, _ in KINDS.values()])[0]
        )
        street.checkouts.append(self.me)

    def shops(self) -> None:
        self._chooses()
        try:
            self.enters()
            KINDS[self.me.kind][1](self)
        except NoAnswer:
            self.street.deeds["gave up"] += 1
        finally:
            self.me.ended = True

    def _chooses(self) -> None:
        units = self.dice.choice((1, 1, 1, 2, 3))
        self.me.items = {self.dice.choice(COMMON): units}
        if self.dice.random() < 0.15:
            self.me.items = {self.dice.choice(RARE): 1}
        elif self.dice.random() < 0.3:
            self.me.items[self.dice.choice(COMMON)] = 1

    # -- what people do

    def checks_out(self) -> bool:
        return self._read(self.posts("/api/payments/create-checkout-session", **self._body()))

    def _body(self) -> dict[str, Any]:
        number = self.me.number
        return {
            "items": [{"sku": sku, "quantity": n} for sku, n in self.me.items.items()],
            "contact": {"name": f"Shopper {number}", "email": f"shopper{number}@example.com"},
            "shipping": {
                "line1": f"Long street {number}",
                "city": "Berlin",
                "postalCode": "12047",
                "country": "DE",
            },
        }

    def _read(self, answer: requests.Response) -> bool:
        told = answer.json()
        if answer.status_code not in (200, 201):
            self.me.refused = f"{answer.status_code} {told.get('title', '')}"
            return False
        self.me.order_id = told.get("orderId", self.me.order_id)
        self.me.intent = told.get("paymentIntentId", self.me.intent)
        if told.get("sessionId") and told["sessionId"] not in self.me.sessions:
            self.me.sessions.append(told["sessionId"])
        return True

    def pays(self, session: str = "", card: str = PAYS) -> str:
        """At the page of the payment service; what came of it."""
        return self._at_the_till("pay", session=session or self.me.sessions[-1], card=card)

    def _at_the_till(self, act: str, **about: Any) -> str:
        through = about.get("session") or about.get("intent") or ""
        for _ in range(TRIES):
            try:
                outcome = str(self.house.at_stripe("POST", act, **about)["outcome"])
            except requests.RequestException:
                time.sleep(PAUSE_S)
                continue
            if outcome == "asks":
                return self._at_the_till("authenticate", **about)
            if outcome == "paid":
                self.me.paid.append((time.time(), through))
            return outcome
        return "nothing"

    def comes_back(self) -> None:
        self.asks("GET", f"/checkout/success?session_id={self.me.sessions[-1]}")

    def watches(self) -> None:
        """Look at the order now and then, until it is paid or patience ends."""
        until = time.monotonic() + WATCHES_S
        pause = 0.5
        while time.monotonic() < until:
            answer = self.asks("GET", f"/api/orders/{self.me.order_id}")
            if answer.ok and answer.json()["paymentStatus"] == "paid":
                self.me.seen_paid_at = time.time()
                return
            time.sleep(pause)
            pause = min(pause * 1.6, 5.0)

    # -- what they are like

    def buys(self) -> None:
        if not self.checks_out():
            return
        if self.pays() == "paid":
            if self.dice.random() < 0.6:
                self.comes_back()
            self.watches()

    def presses_twice(self) -> None:
        """Two tabs at once; whichever page they are given, it is one order."""
        answers: list[requests.Response] = []
        body = self._body()

        def presses() -> None:
            with_patience = Browser(self.house, self.street, "")
            with_patience._session = self._session
            try:
                answers.append(with_patience.posts("/api/payments/create-checkout-session", **body))
            except NoAnswer:
                return

        tabs = [threading.Thread(target=presses) for _ in range(2)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
        if [answer for answer in answers if self._read(answer)]:
            for session in self.me.sessions:
                self.pays(session)
            self.watches()

    def hesitates(self) -> None:
        if self.checks_out():
            self.pays(card=DECLINED)
            if self.pays() == "paid":
                self.watches()

    def is_asked_by_the_bank(self) -> None:
        if self.checks_out() and self.pays(card=ASKS) == "paid":
            self.watches()

    def leaves(self) -> None:
        self.checks_out()

    def cancels(self) -> None:
        """Goes back to the shop, and then pays the page that is still open in a tab."""
        if self.checks_out():
            self.asks("GET", f"/checkout/cancel?attempt={self.me.order_id}")
            self.pays()

    def retries(self) -> None:
        """Asks for a new page while the old one is being paid."""
        if not self.checks_out():
            return
        old = self.me.sessions[-1]
        paying = threading.Thread(target=lambda: self.pays(old))
        paying.start()
        try:
            self._read(self.posts(f"/api/orders/{self.me.order_id}/retry-session"))
        finally:
            paying.join()
        if self.me.sessions[-1] != old:
            self.pays()
        self.watches()

    def changes_the_basket(self) -> None:
        """Checks out something else, and pays both pages."""
        if not self.checks_out():
            return
        first = self.me.sessions[-1]
        self.me.items = {self.dice.choice(COMMON): 2}
        if self.checks_out() and self.me.sessions[-1] != first:
            self.pays()
        self.pays(first)

    def pays_by_debit(self) -> None:
        if self.checks_out():
            fails = self.dice.random() < 0.3
            self.pays(card="bank_debit_fails" if fails else "bank_debit")

    def pays_on_our_page(self) -> None:
        if not self._read(self.posts("/api/stripe/initiate-checkout", **self._body())):
            return
        if self._at_the_till("confirm", intent=self.me.intent, card=PAYS) == "paid":
            if self.dice.random() < 0.7:
                self.posts(
                    "/api/orders",
                    checkoutAttemptId=self.me.order_id,
                    paymentIntentId=self.me.intent,
                )
            self.watches()


KINDS: dict[str, tuple[int, Callable[[Shopper], None]]] = {
    "buys": (40, Shopper.buys),
    "presses twice": (9, Shopper.presses_twice),
    "hesitates": (8, Shopper.hesitates),
    "is asked by the bank": (5, Shopper.is_asked_by_the_bank),
    "leaves": (6, Shopper.leaves),
    "cancels": (5, Shopper.cancels),
    "retries": (7, Shopper.retries),
    "changes the basket": (5, Shopper.changes_the_basket),
    "pays by debit": (5, Shopper.pays_by_debit),
    "pays on our page": (10, Shopper.pays_on_our_page),
}


class Forms(HTMLParser):
    """The forms of a page, as a browser would send them untouched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((told.get("action", ""), {}))
        if not self.forms:
            return
        fields, name = self.forms[-1][1], told.get("name", "")
        is_ticked = "checked" in told or told.get("type") not in ("checkbox", "radio")
        if tag == "input" and name and is_ticked:
            fields[name] = told.get("value", "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in told:
            fields[self._select] = told.get("value", "")

    def to(self, ending: str) -> dict[str, str]:
        """The fields of the form whose address ends so. Raises StopIteration."""
        return next(fields for action, fields in self.forms if action.endswith(ending))


class Admin(Browser):
    """Somebody at the counter: looks, syncs, packs, refunds, and changes the strategy."""

    def __init__(self, house: House, street: Street, seed: int) -> None:
        super().__init__(house, street, "10.250.0.1")
        self.dice = Random(f"admin:{seed}")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._works, daemon=True)

    def begin(self) -> None:
        made = self.house.runs("admin", "create", ADMIN)
        token = made.stdout.strip().rpartition("=")[2]
        self.enters()
        answer = self.asks("POST", "/admin/login", data={"token": token})
        assert answer.url.endswith("/admin/orders"), answer.url
        self._thread.start()

    def end(self) -> None:
        self._done.set()
        self._thread.join()

    def _works(self) -> None:
        acts = (self.syncs, self.refunds, self.packs, self.packs, self.changes_strategy)
        while not self._done.wait(self.dice.uniform(1.0, 4.0)):
            act = self.dice.choice(acts)
            try:
                act()
                self.street.deeds[f"admin {act.__name__}"] += 1
            except NoAnswer:
                self.street.deeds["admin gave up"] += 1
            except Exception as error:  # noqa: BLE001 - told in the report
                self.street.slips.append(f"admin {act.__name__}: {type(error).__name__}: {error}")

    def syncs(self) -> None:
        self.asks("POST", "/api/admin/sync-orders")

    def refunds(self) -> None:
        """A part of some order, or all of it; pressed twice now and then."""
        order = self._some_order(lambda told: told.paid)
        if not order:
            return
        page = self.asks("GET", f"/admin/orders/{order.order_id}/refund")
        if not page.ok:
            return
        try:
            form = Forms(page.text).to("/refund")
        except StopIteration:  # nothing is left of it
            return
        form |= {"amount": "1.00" if self.dice.random() < 0.5 else "", "reason": "storm"}
        if not form["amount"]:
            units = re.findall(r'name="line" value="(\d+)"', page.text)
            form |= {"line": units[0]} if units else {"amount": "0.50"}
        for _ in range(self.dice.choice((1, 1, 2))):
            self.asks("POST", f"/admin/orders/{order.order_id}/refund", data=form)

    def packs(self) -> None:
        order = self._some_order(lambda told: told.seen_paid_at)
        if order:
            page = self.asks("GET", f"/admin/orders/{order.order_id}")
            try:
                form = Forms(page.text).to("/packing")
            except StopIteration:  # it is packed already, or refunded
                return
            self.asks("POST", f"/admin/orders/{order.order_id}/packing", data=form)

    def changes_strategy(self) -> None:
        form = Forms(self.asks("GET", "/admin/settings").text).to("/admin/settings")
        usual, new = self.dice.sample(("order_first", "pay_first", "dual_track"), 2)
        form |= {"order_strategy": usual, "rollout_strategy": new}
        form |= {"rollout_percent": str(self.dice.choice((20, 50, 80))), "reason": "storm"}
        self.asks("POST", "/admin/settings", data=form)

    def _some_order(self, fits: Callable[[Checkout], Any]) -> Checkout | None:
        found = [told for told in list(self.street.checkouts) if told.order_id and fits(told)]
        return self.dice.choice(found) if found else None


class Crowd:
    """All shoppers of a storm, a few at a time, spread over its length."""

    def __init__(self, house: House, street: Street, checkouts: int, seed: int, over_s: float):
        self._house, self._street, self._seed = house, street, seed
        self._numbers: SimpleQueue[int] = SimpleQueue()
        for number in range(1, checkouts + 1):
            self._numbers.put(number)
        self._each_s = over_s / checkouts
        self._began = 0.0
        self._people = [threading.Thread(target=self._come, daemon=True) for _ in range(AT_ONCE)]

    def begin(self) -> None:
        self._began = time.monotonic()
        for person in self._people:
            person.start()

    def _come(self) -> None:
        while True:
            try:
                number = self._numbers.get_nowait()
            except Empty:
                return
            time.sleep(max(0.0, self._began + number * self._each_s - time.monotonic()))
            try:
                Shopper(self._house, self._street, number, self._seed).shops()
            except Exception as error:  # noqa: BLE001 - told in the report
                self._street.slips.append(f"shopper {number}: {type(error).__name__}: {error}")

    @property
    def is_gone(self) -> bool:
        return not any(person.is_alive() for person in self._people)
