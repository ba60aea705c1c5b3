"""Carries events to webhook endpoints: signed, at least once, again later when not answered 2xx."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import events
from .store import Agenda

if TYPE_CHECKING:
    from .box import Sandbox

# Quick at first, so that a demo heals while one looks; then as patient as Stripe: three days.
RETRY_AFTER_S = (2, 5, 15, 60, 300, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400)
ANSWER_WITHIN_S = 10
STALE_S = 3600
LOOK_EVERY_S = 0.25  # a clock that is moved from outside cannot wake the thread

Send = Callable[[bytes, dict[str, str]], int | None]


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one endpoint."""

    id: str
    event_id: str
    event_type: str
    url: str
    at: float
    tries: int


class Courier:
    """Holds what is to be delivered and when. The sandbox's lock is never held while sending."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._agenda = Agenda()
        self._due: dict[str, dict[str, Any]] = {}  # their time has come, nobody tried them yet
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def resume(self) -> None:
        """Take up the deliveries that a journal brought back."""
        for record in self._box.store.objects["delivery"].values():
            if record["state"] in ("waiting", "sending"):
                record["state"] = "waiting"
                self._agenda.add(record["at"], record["id"])

    def forget(self) -> None:
        self._agenda.clear()
        self._due.clear()

    def enqueue(self, event: dict[str, Any]) -> None:
        """Plan a delivery to each endpoint that listens to this type, chaos applied."""
        box, chaos = self._box, self._box.chaos
        mood = box.mood
        for endpoint in box.store.objects["webhook_endpoint"].values():
            wanted = endpoint["enabled_events"]
            if endpoint["status"] != "enabled" or not ("*" in wanted or event["type"] in wanted):
                continue
            event["waiting"].append(endpoint["id"])
            lost = mood == "lost" or chaos.hits(chaos.drop_pct)
            delay = box.late_s if mood == "late" else chaos.delay_s
            for _ in range(1 + chaos.duplicate + (mood == "twice")):
                record = {
                    "object": "delivery",
                    "id": box.store.new_id("dlv_", 12),
                    "event": event["id"],
                    "endpoint": endpoint["id"],
                    "at": box.now() + delay,
                    "state": "dropped" if lost else "waiting",
                    "tries": 0,
                    "status": None,
                    "shuffle": chaos.reorder or mood == "shuffled",
                }
                box.store.put(record)
                if not lost:
                    self._agenda.add(record["at"], record["id"])
        self._wake.set()

    def due(self, now: float) -> list[Delivery]:
        """What could be delivered now, in the order in which it would go out."""
        objects = self._box.store.objects["delivery"]
        arrived = []
        while (reached := self._agenda.reached(now)) is not None:
            record = objects.get(reached[1])
            if record is not None and record["state"] == "waiting" and record["at"] <= now:
                arrived.append(record)
        self._due.update((record["id"], record) for record in self._shuffled(arrived))
        return [self._shown(record) for record in self._due.values()]

    def _shuffled(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        places = [i for i, record in enumerate(records) if record["shuffle"]]
        if len(places) > 1:
            moved = [records[i] for i in places]
            self._box.chaos.shuffle(moved)
            for i, record in zip(places, moved, strict=True):
                records[i] = record
        return records

    def next_time(self) -> float | None:
        """When the next delivery can be tried: at once, if some already can."""
        return 0.0 if self._due else self._agenda.next_time(self._is_waiting)

    def _is_waiting(self, at: float, id: str) -> bool:
        record = self._box.store.objects["delivery"].get(id)
        return record is not None and record["state"] == "waiting" and record["at"] == at

    def waiting(self) -> list[Delivery]:
        """Everything still to be delivered, whether its time has come or not."""
        records = self._box.store.objects["delivery"].values()
        return [self._shown(r) for r in records if r["state"] == "waiting"]

    def attempt(self, delivery: Delivery, send: Send) -> int | None:
        """Try once, and note the answer; without a 2xx it comes due again later.

        Does nothing when another try is under way or it was delivered meanwhile.
        """
        box = self._box
        with box.lock:
            record = box.store.objects["delivery"].get(delivery.id)
            if record is None or record["state"] != "waiting":
                return None
            event = box.store.objects["event"][record["event"]]
            record["state"] = "sending"
            self._due.pop(delivery.id, None)
            body = events.render(event).encode()
            headers = self._headers(body, box.store.aside.get(record["endpoint"], {}))
        status = None
        try:
            with contextlib.suppress(OSError):
                status = send(body, headers)
        finally:  # a sender that breaks is a try without an answer
            with box.lock:
                if box.store.objects["delivery"].get(delivery.id) is record:  # not reset since
                    self._note(record, event, status)
                    box.store.commit()
        return status

    def _note(self, record: dict[str, Any], event: dict[str, Any], status: int | None) -> None:
        store = self._box.store
        record["status"] = status
        record["tries"] += 1
        if status is not None and 200 <= status < 300:
            record["state"] = "delivered"
            if record["endpoint"] in event["waiting"]:
                event["waiting"].remove(record["endpoint"])
                store.put(event)
        elif record["tries"] > len(RETRY_AFTER_S):
            record["state"] = "given_up"
        else:
            record["state"] = "waiting"
            record["at"] = self._box.now() + RETRY_AFTER_S[record["tries"] - 1]
            self._agenda.add(record["at"], record["id"])
        store.put(record)

    def _headers(self, body: bytes, secrets: dict[str, Any]) -> dict[str, str]:
        """Sign with each of the endpoint's secrets; at the hour the shop's clock shows too."""
        chaos = self._box.chaos
        at = int(self._box.clock())
        if chaos.hits(chaos.stale_signature_pct):
            at -= STALE_S
        keys = secrets.get("secrets") or ["whsec_sandbox"]
        if chaos.hits(chaos.wrong_secret_pct):
            keys = ["whsec_not_yours"]
        marks = "".join(f",v1={signature(body, key, at)}" for key in keys)
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": f"t={at}{marks}",
        }

    def _shown(self, record: dict[str, Any]) -> Delivery:
        objects = self._box.store.objects
        endpoint = objects["webhook_endpoint"].get(record["endpoint"], {})
        return Delivery(
            id=record["id"],
            event_id=record["event"],
            event_type=objects["event"][record["event"]]["type"],
            url=endpoint.get("url", ""),
            at=record["at"],
            tries=record["tries"],
        )

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sandbox-courier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(ANSWER_WITHIN_S)
            self._thread = None

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._round()
            except Exception:  # noqa: BLE001  whatever one event does, the next must go out
                traceback.print_exc()
            self._wake.wait(LOOK_EVERY_S)

    def _round(self) -> None:
        for delivery in self._box.due():
            if self._stopping:
                return
            self.attempt(delivery, over_http(delivery.url))


def signature(body: bytes, secret: str, at: int) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()


def over_http(url: str) -> Send:
    """A sender that POSTs to ``url`` and tells the status, or ``None`` when nobody answered."""

    def send(body: bytes, headers: dict[str, str]) -> int | None:
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_WITHIN_S)
        try:
            query = f"?{parts.query}" if parts.query else ""
            connection.request("POST", (parts.path or "/") + query, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    return send
