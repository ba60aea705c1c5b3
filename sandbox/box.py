"""The sandbox itself: one little Stripe, with its clock, its ledger, its faults and its courier."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import aftermath, cards, events, methods, payments, sessions, setups, web
from .api.idempotency import KEPT_S as KEY_KEPT_S
from .chaos import Chaos
from .contract import API_VERSION
from .courier import Courier, Delivery, Send, over_http
from .params import Requests
from .server import Server
from .shapes import catalog
from .store import Agenda, Store

Obj = dict[str, Any]

DEFAULT_URL = "http://127.0.0.1:12111"
REQUESTS_REMEMBERED = 2000


class Sandbox:
    """A Stripe of one's own. All state is behind ``lock``; nothing is sent while it is held."""

    def __init__(
        self,
        *,
        webhook_url: str | None,
        webhook_secret: str,
        journal: Path | None,
        clock: Callable[[], float] | None,
        seed: int,
        deliver: bool,
        public_url: str | None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or time.time
        self.chaos: Chaos = Chaos(seed=seed)
        self.store = Store(journal, seed)
        self.checks = Requests()
        self.requests: deque[Obj] = deque(maxlen=REQUESTS_REMEMBERED)
        self.debit_s = 10.0  # how long a bank debit is under way
        self.refund_s = 10.0  # how long a refund that waits or fails takes to do so
        self.late_s = 20.0  # how late "webhook late" is
        self.inline_sender: Send | None = None  # for events_before_answer without HTTP
        self.cause: tuple[str | None, str | None] = (None, None)
        self.mood = ""  # what befalls the webhooks of the payment under way
        self.deliver = deliver
        self._public_url = public_url
        self._agenda = Agenda()
        self._server: Server | None = None
        self.courier = Courier(self)
        self._configured = (webhook_url, webhook_secret)
        self.wsgi: Callable[..., Any] = web.Gate(self)
        with self.lock:
            self._prepare()

    # -- being there ------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where browsers and the API's callers find it."""
        if self._public_url:
            return self._public_url.rstrip("/")
        return self._server.url if self._server else DEFAULT_URL

    @property
    def is_served(self) -> bool:
        """Whether callers come over HTTP, so that one of them may be kept waiting."""
        return self._server is not None

    def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Serve HTTP in background threads, and deliver webhooks; returns the port."""
        self._server = Server(self, host, port)
        with self.lock:
            self._move_pages()
        if self.deliver:
            self.courier.start()
        return self._server.port

    def stop(self) -> None:
        """Stop serving and delivering. The ledger stays, in memory and in its journal."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self.courier.stop()

    def close(self) -> None:
        self.stop()
        self.store.close()

    def reset(self) -> None:
        """Forget everything but the configured webhook endpoint; switch all chaos off."""
        with self.lock:
            self.chaos.clear()
            self.store.clear()
            self._agenda.clear()
            self.courier.forget()
            self.requests.clear()
            self._prepare()

    def _prepare(self) -> None:
        url, secret = self._configured
        known = [e for e in self.store.objects["webhook_endpoint"].values() if self._is_ours(e)]
        if url:
            secrets = [s.strip() for s in secret.split(",") if s.strip()]
            params = {"url": url, "enabled_events": ["*"]}
            id = known[0]["id"] if known else self.store.new_id("we_")
            created = known[0]["created"] if known else int(self.now())
            endpoint = catalog.webhook_endpoint(id, created=created, params=params)
            self.store.put(endpoint, secrets=secrets, ours=True)
        self._forget_old()
        for session in self.store.objects["checkout.session"].values():
            if session["status"] == "open":
                self._agenda.add(session["expires_at"], session["id"])
        for timer in self.store.objects["timer"].values():
            self._agenda.add(timer["at"], timer["id"])
        self.courier.resume()
        self.store.commit()

    def _forget_old(self) -> None:
        """Let go of what Stripe would no longer know, so that a journal does not grow for ever."""
        objects, now = self.store.objects, self.now()
        stale = [k for k in objects["idempotency"].values() if k["created"] + KEY_KEPT_S < now]
        stale += [e for e in objects["event"].values() if e["created"] + events.KEPT_S < now]
        gone = {e["id"] for e in stale}
        stale += [d for d in objects["delivery"].values() if d["event"] in gone]
        for obj in stale:
            self.store.drop(obj)

    def _is_ours(self, endpoint: Obj) -> bool:
        return bool(self.store.aside.get(endpoint["id"], {}).get("ours"))

    def _move_pages(self) -> None:
        """Open sessions from an earlier run are paid where the sandbox lives now."""
        for session in self.store.objects["checkout.session"].values():
            if session["url"]:
                path = session["url"].partition("/c/pay/")[2]
                session["url"] = f"{self.url}/c/pay/{path}"
                self.store.put(session)
        self.store.commit()

    # -- time -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since 1970 by the sandbox's clock, which may run ahead of the real one."""
        ahead: float = self.store.aside.get("clock", {}).get("ahead_s", 0.0)
        return self.clock() + ahead

    def advance(self, seconds: float) -> None:
        """Move the clock on; what comes due by that happens at once."""
        with self.lock:
            ahead = self.store.aside.get("clock", {}).get("ahead_s", 0.0)
            self.store.put({"object": "meta", "id": "clock"}, ahead_s=ahead + seconds)
            self.tick()

    def plan(self, after_s: float, what: str, target: str) -> None:
        """Have ``what`` happen to ``target`` after that many seconds."""
        at, id = self.now() + after_s, self.store.new_id("tm_", 12)
        self.store.put({"object": "timer", "id": id, "at": at, "what": what, "target": target})
        self._agenda.add(at, id)

    def watch_expiry(self, session: Obj) -> None:
        self._agenda.add(session["expires_at"], session["id"])

    def tick(self) -> None:
        """Let everything happen whose time has come: sessions expire, debits settle."""
        with self.lock:
            now = self.now()
            while (id := self._agenda.reached(now)) is not None:
                session = self.store.objects["checkout.session"].get(id)
                if session is not None and session["status"] == "open":
                    sessions.expire(self, session)
                timer = self.store.objects["timer"].get(id)
                if timer is not None:
                    self.store.drop(timer)
                    HAPPENINGS[timer["what"]](self, timer["target"])
            self.store.commit()

    def next_time(self) -> float | None:
        """When something happens next by itself, or ``None``: a driver may move its clock there."""
        with self.lock:
            times = (self._agenda.next_time(), self.courier.next_time())
            return min((t for t in times if t is not None), default=None)

    # -- webhooks ---------------------------------------------------------------------------

    def emit(self, type: str, obj: Obj, previous: Obj | None = None) -> None:
        events.emit(self, type, obj, previous)

    def due(self) -> list[Delivery]:
        """What could be delivered now, chaos applied; it stays due until it is attempted."""
        with self.lock:
            self.tick()
            return self.courier.due(self.now())

    def attempt(self, delivery: Delivery, send: Send) -> int | None:
        """Try one delivery with ``send(body, headers) -> status``; plans the next when not 2xx."""
        return self.courier.attempt(delivery, send)

    def flush(self, send: Send | None = None) -> int:
        """Try everything undelivered at once, however late it was to be; returns how many."""
        with self.lock:
            self.tick()
            waiting = self.courier.waiting()
        for delivery in waiting:
            self.attempt(delivery, send or over_http(delivery.url))
        return len(waiting)

    def deliver_before_answer(self) -> None:
        if not self.chaos.events_before_answer or not (self.inline_sender or self.deliver):
            return
        for delivery in self.due():
            self.attempt(delivery, self.inline_sender or over_http(delivery.url))

    # -- paying -----------------------------------------------------------------------------

    def pay(
        self,
        session_id: str,
        card: str = "4242424242424242",
        *,
        webhooks: str = "",
        buyer: Obj | None = None,
    ) -> Obj:
        """Do what the hosted page's button does; never raises for a payment that fails.

        ``card`` is a card number, ``bank_debit``, ``bank_debit_fails`` or ``wrong_amount``;
        ``webhooks`` may be ``late``, ``lost``, ``twice`` or ``shuffled`` for this payment's news.
        The answer's ``outcome`` is paid, processing, authorized, asks, declined or closed.
        """
        with self.lock:
            self.tick()
            session = self.store.objects["checkout.session"].get(session_id)
            if session is None:
                return {"outcome": "unknown", "message": "No such session.", "session": None}
            self.mood = webhooks
            try:
                outcome = sessions.pay(self, session, card, buyer)
            finally:
                self.mood = ""
            self.store.commit()
            return self._told(session, outcome)

    def confirm(
        self,
        intent_id: str,
        card: str = "4242424242424242",
        *,
        webhooks: str = "",
        buyer: Obj | None = None,
    ) -> Obj:
        """Do what a page with the Payment Element does, for either kind of intent.

        ``card`` and ``webhooks`` are those of ``pay``. The answer's ``outcome`` is paid,
        processing or authorized, for a SetupIntent saved, else asks, declined, closed, not_offered
        or unknown; ``intent`` is what became of it.
        """
        with self.lock:
            self.tick()
            intent = self.intent(intent_id)
            if intent is None:
                return {"outcome": "unknown", "message": "No such intent.", "intent": None}
            self.mood = webhooks
            try:
                outcome = self._confirm(intent, card, buyer)
            finally:
                self.mood = ""
            self.store.commit()
            return self._told_of(intent, outcome)

    def intent(self, id: str) -> Obj | None:
        """The intent with this id, of either kind."""
        objects = self.store.objects
        return objects["payment_intent"].get(id) or objects["setup_intent"].get(id)

    def _confirm(self, intent: Obj, card: str, buyer: Obj | None) -> str:
        if intent["status"] not in UNDECIDED:
            return "closed"
        chosen = cards.way(card)
        currency = intent.get("currency") or self.store.aside[intent["id"]]["currency"]
        if not methods.is_offered(intent, chosen, currency):
            return "not_offered"
        method = methods.new_method(self, card, currency, buyer)
        if intent["object"] == "setup_intent":
            return setups.confirm(self, intent, method)
        intent["amount"] -= min(chosen.short_by, intent["amount"] - 1)
        return payments.confirm(self, intent, method)

    def authenticate(self, id: str, ok: bool = True) -> Obj:
        """Answer the bank's question for a session or an intent that ``asks``."""
        with self.lock:
            self.tick()
            session = self.store.objects["checkout.session"].get(id)
            intent = self.intent(id) if session is None else sessions.intent_of(self, session)
            outcome = self.answer_bank(intent, ok=ok) if intent else "closed"
            self.store.commit()
            if session is not None:
                return self._told(session, outcome)
            return self._told_of(intent, outcome)

    def answer_bank(self, intent: Obj, *, ok: bool) -> str:
        """What the bank's page does with an intent of either kind."""
        kind = setups if intent["object"] == "setup_intent" else payments
        return kind.authenticate(self, intent, ok=ok)

    def _told(self, session: Obj, outcome: str) -> Obj:
        return {
            "outcome": outcome,
            "message": _complaint(sessions.intent_of(self, session)),
            "redirect": web.after_paying(session) if session["status"] == "complete" else None,
            "session": dict(session),
        }

    def _told_of(self, intent: Obj | None, outcome: str) -> Obj:
        told = dict(intent) if intent else None
        return {"outcome": outcome, "message": _complaint(intent), "intent": told}

    def follow(self, intent: Obj, word: str) -> None:
        """Tell whoever an intent belongs to that it was paid, saved, declined and so on."""
        aside = self.store.aside[intent["id"]]
        for owner, hear in FOLLOWERS.items():
            if aside.get(owner):
                hear(self, aside[owner], intent, word)

    def view(self, obj: Obj) -> Obj:
        """The object as others see it at this moment."""
        if (
            obj["object"] == "checkout.session"
            and self.chaos.intent_born_late
            and obj["status"] == "open"
        ):
            return {**obj, "payment_intent": None}
        return obj

    def ledger(self) -> Obj:
        """All money there is here: payments, refunds and disputes, in minor units."""
        with self.lock:
            self.tick()
            objects, aside = self.store.objects, self.store.aside
            return {
                "payments": [
                    {**_some(i, PAYMENT_FACTS), "session": aside[i["id"]]["session"]}
                    for i in objects["payment_intent"].values()
                ],
                "refunds": [_some(r, REFUND_FACTS) for r in objects["refund"].values()],
                "disputes": [_some(d, DISPUTE_FACTS) for d in objects["dispute"].values()],
            }


UNDECIDED = ("requires_payment_method", "requires_confirmation", "requires_action")

PAYMENT_FACTS = "id amount amount_received currency status latest_charge metadata created".split()
REFUND_FACTS = "id amount currency status payment_intent charge metadata created".split()
DISPUTE_FACTS = "id amount currency status payment_intent charge created".split()

HAPPENINGS: dict[str, Callable[[Sandbox, str], None]] = {
    "settle_debit": payments.settle_debit,
    "refund_arrives": aftermath.refund_arrives,
    "refund_fails": aftermath.refund_fails,
}

# Whom an intent may belong to, and who hears of it; an invoice first, as its session tells of it.
FOLLOWERS: dict[str, Callable[[Sandbox, str, Obj, str], None]] = {
    "session": sessions.hear,
}

__all__ = ["API_VERSION", "Sandbox"]


def _some(obj: Obj, names: list[str]) -> Obj:
    return {name: obj[name] for name in names}


def _complaint(intent: Obj | None) -> str | None:
    """Why the last try did not work, in words for the buyer."""
    known = intent or {}
    error = known.get("last_payment_error") or known.get("last_setup_error") or {}
    message: str | None = error.get("message")
    return message
