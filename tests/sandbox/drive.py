"""How the tests drive a sandbox: through Stripe's own SDK, and as a shop that listens."""

from __future__ import annotations

import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import stripe

import sandbox

SECRET = "whsec_of_the_shop"
KEY = "sk_test_anything"


def client(box: sandbox.Sandbox, **options: Any) -> stripe.StripeClient:
    given = {"max_network_retries": 0, "http_client": stripe.RequestsClient(timeout=5), **options}
    return stripe.StripeClient(KEY, base_addresses={"api": box.url}, **given)


def a_session(**changes: Any) -> dict[str, Any]:
    """Parameters of a hosted session for €41.50, in the way the shop sends them."""
    return {
        "mode": "payment",
        "success_url": "http://shop.test/success?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://shop.test/cancel",
        "client_reference_id": "attempt-1",
        "metadata": {"checkout_attempt_id": "attempt-1"},
        "payment_intent_data": {"metadata": {"checkout_attempt_id": "attempt-1"}},
        "line_items": [
            {
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 1830,
                    "product_data": {"name": "Enamel mug"},
                },
                "quantity": 2,
            }
        ],
        "shipping_options": [
            {
                "shipping_rate_data": {
                    "type": "fixed_amount",
                    "display_name": "Parcel",
                    "fixed_amount": {"amount": 490, "currency": "eur"},
                }
            }
        ],
        **changes,
    }


def open_session(api: Any, **changes: Any) -> str:
    return api.checkout.sessions.create(a_session(**changes)).id


def paid_intent(box: sandbox.Sandbox, api: Any, card: str = "4242424242424242") -> str:
    """The id of an intent that was paid through a session."""
    session = open_session(api)
    box.pay(session, card)
    return api.checkout.sessions.retrieve(session).payment_intent


def event_types(box: sandbox.Sandbox) -> list[str]:
    """All that was told so far, oldest first."""
    return [event["type"] for event in box.store.objects["event"].values()]


def deliver_all(box: sandbox.Sandbox, status: int | None = 200) -> list[dict[str, Any]]:
    """Deliver what is due and give ``status`` as the shop's answer; returns the events sent."""
    sent: list[dict[str, Any]] = []

    def send(body: bytes, headers: dict[str, str]) -> int | None:
        sent.append(json.loads(body))
        return status

    for delivery in box.due():
        box.attempt(delivery, send)
    return sent


def http_call(
    url: str, method: str = "GET", form: dict[str, str] | None = None, as_json: Any = None
) -> tuple[int, dict[str, str], str]:
    """One plain HTTP call, redirects not followed: status, headers, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    body, kind = None, ""
    if form is not None:
        body, kind = urlencode(form), "application/x-www-form-urlencoded"
    elif as_json is not None:
        body, kind = json.dumps(as_json), "application/json"
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(method, path, body, {"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


class Listener:
    """A shop's webhook address that verifies with the SDK; answers what ``status`` says."""

    def __init__(self) -> None:
        self.status = 200
        self.events: list[stripe.Event] = []
        self.refused: list[str] = []
        self.heard = Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    header = self.headers["Stripe-Signature"]
                    event = stripe.Webhook.construct_event(body, header, SECRET)
                    outer.events.append(event)
                    status = outer.status
                except stripe.SignatureVerificationError as error:
                    outer.refused.append(str(error))
                    status = 400
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                outer.heard.set()

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/hook"
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def wait_for(self, count: int, timeout_s: float = 5) -> list[str]:
        """The types of the first ``count`` events, once they are here."""
        while len(self.events) < count:
            self.heard.clear()
            if len(self.events) < count:
                assert self.heard.wait(timeout_s), f"only {len(self.events)} of {count} came"
        return [event.type for event in self.events]
