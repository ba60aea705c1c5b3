"""Bodies and headers that Stripe would never send: no error page, no half write, no hang."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from random import Random
from typing import Any

import pytest
import stripe
from structlog.testing import capture_logs

from extensions import doorbell
from models import StripeEvent
from services import inbox
from tests.fuzz import spoil
from tests.shop import SECRET, Shop

BODIES = int(20_000 * spoil.TIMES)
APPLIED = int(400 * spoil.TIMES)  # to apply one costs ten times as much as to store it
LONGEST_S = 5.0  # for one of them, on a busy machine
DOORS = ("/stripe/webhook", "/webhook", "/api/webhooks")


def real_events(shop: Shop) -> list[dict[str, Any]]:
    """All that a handful of checkouts makes Stripe tell, as it tells it."""
    for card in ("4242424242424242", "4000000000000002", "bank_debit", "4000000000000259"):
        shop.shopper().buy().pay(card)
    shop.sandbox.advance(60)
    found = []

    def overheard(body: bytes, headers: dict[str, str]) -> int:
        found.append(json.loads(body))
        return 200

    for delivery in shop.sandbox.due():
        shop.sandbox.attempt(delivery, overheard)
    assert len({event["type"] for event in found}) > 8
    return found


def knock(shop: Shop, body: bytes, signature: str, door: str) -> int:
    """Straight at the WSGI app, as a server hands it over: no client tidies it up."""
    answer: list[int] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": door,
        "SERVER_NAME": "shop.test",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "HTTP_STRIPE_SIGNATURE": signature,
    }
    written = shop.app.wsgi_app(environ, lambda status, headers: answer.append(int(status[:3])))
    b"".join(written)
    return answer[0]


def signed(body: bytes, at: float) -> str:
    text = body.decode("utf-8", "surrogateescape")
    try:
        return stripe.WebhookSignature.generate_signature_header(text, SECRET, timestamp=int(at))
    except UnicodeEncodeError:
        return "t=0,v1=00"


@pytest.mark.timeout(300 * max(1, spoil.TIMES))
@pytest.mark.fault("F12")
def test_no_body_and_no_header_breaks_the_door(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is answered 200 is stored, and nothing else is."""
    shop, dice = sqlite_shop, Random("door")
    events = real_events(shop)
    monkeypatch.setattr(doorbell, "ring", lambda job, *ids: None)
    monkeypatch.setattr(
        inbox, "note_refused", lambda about: None
    )  # a write each, and once a minute
    with capture_logs():  # to write them takes as long as all the rest
        statuses, accepted = knocked(shop, events, dice)

    assert min(statuses[200], statuses[400]) > BODIES // 10
    assert {row.id for row in shop.rows(StripeEvent)} == accepted


def knocked(
    shop: Shop, events: list[dict[str, Any]], dice: Random
) -> tuple[Counter[int], set[str]]:
    """What was answered how often, and the ids that were accepted."""
    statuses: Counter[int] = Counter()
    accepted: set[str] = set()
    for number in range(BODIES):
        right = dice.choice(events)
        if dice.random() < 0.1:
            right = {**right, "id": f"evt_{number}"}
        body = spoil.text(spoil.document(right, dice), dice)
        spoiler = dice.choice(list(spoil.SIGNATURES)) if dice.random() < 0.4 else "as it is"
        header = spoil.SIGNATURES[spoiler](signed(body, shop.clock.seconds()), dice)
        began = time.monotonic()
        status = knock(shop, body, header, dice.choice(DOORS))
        assert time.monotonic() - began < LONGEST_S, body[:500]
        assert status in (200, 400, 413), (status, body[:500], header[:200])
        statuses[status] += 1
        if status == 200:
            accepted.add(json.loads(body)["id"][:255])
    return statuses, accepted


@pytest.mark.timeout(300 * max(1, spoil.TIMES))
@pytest.mark.fault("F10", "F31")
def test_whatever_is_signed_is_applied_refused_or_dead_and_the_books_still_agree(
    sqlite_shop: Shop,
) -> None:
    """Signed, and wrong inside: each is done, ignored, or waits for another try; none is half
    applied, and a good one that comes last gets through."""
    shop, dice = sqlite_shop, Random("inbox")
    events = real_events(shop)
    for number in range(APPLIED):
        spoiled = spoil.document(dice.choice(events), dice)
        spoiled["id"] = f"evt_{number}"
        body = json.dumps(spoiled).encode("utf-8", "surrogatepass")
        if knock(shop, body, signed(body, shop.clock.seconds()), DOORS[0]) != 200:
            continue
        if number % 100 == 99:
            inbox.drain()
    inbox.drain()
    states = Counter(row.state for row in shop.rows(StripeEvent))
    assert set(states) <= {"done", "ignored", "new", "dead"}
    assert states["done"] > APPLIED // 10
    assert shop.proves(ledger=False)

    last = shop.shopper().buy()
    last.pay()
    shop.deliver()
    for _ in range(20):
        inbox.drain()
    order = shop.order(last.order_id)
    assert order is not None and order.payment_status == "paid"
