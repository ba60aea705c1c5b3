"""The sandbox itself: one little Stripe, with its clock, its ledger, its faults and its courier."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import aftermath, billing, events, invoices, ledger, payments, sessions, shopper, web
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
        self.finalize_s = 3600.0  # how long the invoice of a renewal stays a draft
        self.retry_days = (3, 5, 7)  # how long after each failure it is tried again
        self.inline_sender: Send | None = None  # for events_before_answer without HTTP
        self.cause: tuple[str | None, str | None] = (None, None)
        self.mood = ""  # what befalls the webhooks of the payment under way
        self.deliver = deliver
        self._public_url = public_url
        self._agenda = Agenda()
        self._moment: float | None = None  # while what is due happens: when it was due
        self._server: Server | None = None
        self._lent = False
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

    def start(self, host: str = "127.0.0.1", port: int = 0, *, server: Server | None = None) -> int:
        """Serve HTTP in background threads, and deliver webhooks; returns the port.

        A ``server`` of the caller's stays open when this sandbox stops, and can serve the next.
        """
        self._lent = server is not None
        self._server = server or Server(host, port)
        self._server.serve(self.wsgi)
        with self.lock:
            self._move_pages()
        if self.deliver:
            self.courier.start()
        return self._server.port

    def stop(self) -> None:
        """Stop serving and delivering. The ledger stays, in memory and in its journal."""
        if self._server is not None:
            if not self._lent:
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
        """Sessions and invoices from an earlier run are paid where the sandbox lives now."""
        for session in self.store.objects["checkout.session"].values():
            if session["url"]:
                path = session["url"].partition("/c/pay/")[2]
                session["url"] = f"{self.url}/c/pay/{path}"
                self.store.put(session)
        for invoice in self.store.objects["invoice"].values():
            if invoice["hosted_invoice_url"]:
                invoice["hosted_invoice_url"] = invoices.page_of(self, invoice)
                self.store.put(invoice)
        self.store.commit()

    # -- time -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since 1970 by the sandbox's clock, which may run ahead of the real one."""
        if self._moment is not None:
            return self._moment
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
        self.plan_at(self.now() + after_s, what, target)

    def plan_at(self, at: float, what: str, target: str) -> None:
        id = self.store.new_id("tm_", 12)
        self.store.put({"object": "timer", "id": id, "at": at, "what": what, "target": target})
        self._agenda.add(at, id)

    def unplan(self, target: str) -> None:
        """Nothing that was planned will happen to ``target``."""
        for timer in list(self.store.objects["timer"].values()):
            if timer["target"] == target:
                self.store.drop(timer)

    def watch_expiry(self, session: Obj) -> None:
        self._agenda.add(session["expires_at"], session["id"])

    def tick(self) -> None:
        """Let everything happen whose time has come, one after the other, each at its own time.

        However far the clock was moved, a renewal is dated when it was due, not when it was seen.
        """
        with self.lock:
            now = self.now()
            try:
                while (reached := self._agenda.reached(now)) is not None:
                    at, id = reached
                    self._moment = max(at, self._moment or at)
                    self._happen(id)
            finally:
                self._moment = None
            self.store.commit()

    def _happen(self, id: str) -> None:
        session = self.store.objects["checkout.session"].get(id)
        if session is not None and session["status"] == "open":
            sessions.expire(self, session)
        timer = self.store.objects["timer"].get(id)
        if timer is not None:
            self.store.drop(timer)
            HAPPENINGS[timer["what"]](self, timer["target"])

    def _is_awaited(self, at: float, id: str) -> bool:
        session = self.store.objects["checkout.session"].get(id)
        return id in self.store.objects["timer"] or (
            session is not None and session["status"] == "open"
        )

    def next_time(self) -> float | None:
        """When something happens next by itself, or ``None``: a driver may move its clock there."""
        with self.lock:
            times = (self._agenda.next_time(self._is_awaited), self.courier.next_time())
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
        id: str,
        card: str = "4242424242424242",
        *,
        webhooks: str = "",
        buyer: Obj | None = None,
    ) -> Obj:
        """Do what the page's button does, of a session or an invoice; a failure is no exception.

        ``card`` is a card number, ``bank_debit``, ``bank_debit_fails`` or ``wrong_amount``;
        ``webhooks`` may be ``late``, ``lost``, ``twice`` or ``shuffled`` for this payment's news.
        The answer's ``outcome`` is paid, processing, authorized, saved, asks, declined, closed,
        not_offered or unknown.
        """
        return self._act(lambda: shopper.pay(self, id, card, webhooks, buyer))

    def confirm(
        self,
        intent_id: str,
        card: str = "4242424242424242",
        *,
        webhooks: str = "",
        buyer: Obj | None = None,
    ) -> Obj:
        """Do what a page with the Payment Element does, for either kind of intent.

        ``card`` and ``webhooks`` are those of ``pay``; ``card`` may also be the id of a payment
        method that was saved before. The outcomes are those of ``pay``, too; ``intent`` in the
        answer is what became of it.
        """
        return self._act(lambda: shopper.confirm(self, intent_id, card, webhooks, buyer))

    def authenticate(self, id: str, ok: bool = True) -> Obj:
        """Answer the bank's question for a session, an invoice or an intent that ``asks``."""
        return self._act(lambda: shopper.authenticate(self, id, ok=ok))

    def _act(self, act: Callable[[], Obj]) -> Obj:
        with self.lock:
            self.tick()
            told = act()
            self.store.commit()
            return told

    def intent(self, id: str) -> Obj | None:
        """The intent with this id, of either kind."""
        objects = self.store.objects
        return objects["payment_intent"].get(id) or objects["setup_intent"].get(id)

    def follow(self, obj: Obj, word: str) -> None:
        """Tell whoever an intent or invoice belongs to that it was paid, declined and so on."""
        owned = dict(self.store.aside[obj["id"]])
        for owner, hear in FOLLOWERS.items():
            if owned.get(owner):
                hear(self, owned[owner], obj, word)

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
        """All money there is here, in minor units, and the subscriptions that ask for it."""
        with self.lock:
            self.tick()
            return ledger.read(self)


HAPPENINGS: dict[str, Callable[[Sandbox, str], None]] = {
    "settle_debit": payments.settle_debit,
    "refund_arrives": aftermath.refund_arrives,
    "refund_fails": aftermath.refund_fails,
    **billing.HAPPENINGS,
}

# Whom an intent or an invoice may belong to, and who hears of it: the session last, which tells
# what became of the rest.
FOLLOWERS: dict[str, Callable[[Sandbox, str, Obj, str], None]] = {
    "invoice": invoices.hear,
    "subscription": billing.hear,
    "session": sessions.hear,
}

__all__ = ["API_VERSION", "Sandbox"]
