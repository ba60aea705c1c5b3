"""The doorbell: what it says, to whom, for how long, and what a waiting page makes of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from contextvars import Context
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from extensions import atomic, db
from models import Order
from services import links, live, reconcile, settings
from storm.processes.servers import free_port
from tests.pages.test_api import problem
from tests.shop import ORIGIN, Checkout, Shop, Shopper, TestShops

ROOT = Path(__file__).resolve().parents[2]
DECLINED = "4000000000000002"
SYNCING, SYNCED = {"syncStatus": "syncing"}, {"syncStatus": "synced"}


class Stream:
    """One open stream, read piece by piece, as its own request on the server's side."""

    def __init__(self, shopper: Shopper, path: str, **request: Any) -> None:
        self._context = Context()
        self.answer: TestResponse = self._context.run(
            shopper.browser.open, path, base_url=ORIGIN, **request
        )
        self._pieces: Iterator[Any] = iter(self.answer.response)

    def piece(self) -> str | None:
        """The next piece as it is sent; None at the end."""
        sent = self._context.run(next, self._pieces, None)
        return sent.decode() if isinstance(sent, bytes) else sent

    def ring(self) -> dict[str, Any] | None:
        """What the next ring says; None at the end. Signs of life in between are passed over."""
        while (piece := self.piece()) and piece.startswith(":"):
            pass
        return said(piece) if piece else None

    def close(self) -> None:
        self._context.run(self.answer.close)


def said(piece: str) -> dict[str, Any]:
    ring = re.fullmatch(r"event: changed\ndata: (\{.*\})\nretry: \d+\n\n", piece)
    assert ring, piece
    told: dict[str, Any] = json.loads(ring[1])
    return told


def pause_ms(piece: str | None) -> int:
    """When the listener of this ring comes back after an end."""
    return int(re.findall(r"^retry: (\d+)$", piece or "", re.M)[0])


@pytest.fixture
def listen() -> Iterator[Any]:
    """Call it with a checkout for its stream; all of them are hung up in the end."""
    with ExitStack() as stack:

        def opened(checkout: Checkout, path: str | None = None, **request: Any) -> Stream:
            address = path or f"/api/orders/{checkout.order_id}/sync-status"
            stream = Stream(checkout.shopper, address, **request)
            stack.callback(stream.close)
            return stream

        yield opened


def places_held(shop: Shop) -> int:
    streams: live.Streams = shop.app.extensions["streams"]
    return streams.held


def switch(to: str) -> None:
    settings.change("ada@example.com", "a test of the switch", live_updates=to)


def live_url(page: str) -> str | None:
    """Where a page listens."""
    found = re.search(r'<div id="live" hidden hx-sse:connect="([^"]+)" hx-swap="none">', page)
    return found[1].replace("&amp;", "&") if found else None


def next_look(page: str) -> str:
    found = re.search(r'<section [^>]*hx-get="([^"]+)"', page)
    assert found, page
    return found[1].replace("&amp;", "&")


def trigger(page: str) -> str | None:
    found = re.search(r'<section [^>]*hx-trigger="([^"]+)"', page)
    return found[1] if found else None


def waits_live(shop: Shop) -> tuple[Checkout, str]:
    """A checkout whose shopper is back on a page with a live line, and that page."""
    switch("sse")
    checkout = shop.shopper().buy()
    page = checkout.shopper.get(f"/orders/{checkout.order_id}")
    assert page.status_code == 200
    return checkout, page.text


# -- the contract


@pytest.mark.accept("D21")
def test_a_stream_rings_at_once_and_when_the_order_is_paid_and_then_it_ends(
    shop: Shop, listen: Any
) -> None:
    checkout = shop.shopper().buy()
    stream = listen(checkout)
    first = stream.ring()
    checkout.pay()
    shop.deliver_and_work()

    assert first == SYNCING
    assert stream.ring() == SYNCED
    assert stream.piece() is None
    assert places_held(shop) == 0
    headers = stream.answer.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"


@pytest.mark.accept("D21")
def test_the_id_of_a_payment_intent_opens_the_same_stream(shop: Shop, listen: Any) -> None:
    checkout = shop.shopper().buy()
    checkout.pay(DECLINED)
    shop.deliver_and_work()
    intent = shop.legs(checkout.order_id)[0].payment_intent
    stream = listen(checkout, f"/api/orders/{intent}/sync-status")
    first = stream.ring()
    checkout.pay()
    shop.deliver_and_work()

    assert intent and intent.startswith("pi_")
    assert first == SYNCING
    assert stream.ring() == SYNCED
    assert stream.piece() is None


@pytest.mark.accept("D21")
def test_a_stream_says_failed_when_stripe_could_not_be_asked_for_long(
    sqlite_shop: Shop, listen: Any
) -> None:
    checkout = sqlite_shop.shopper().buy()
    sqlite_shop.sandbox.chaos.error_500 = {"pct": 100, "only": "GET /v1/checkout/sessions/*"}
    for _ in range(reconcile.SHOWN_FAILED_AFTER - 1):
        sqlite_shop.clock.forward(minutes=5)
        reconcile.sync()
    sqlite_shop.clock.forward(minutes=5)
    stream = listen(checkout)
    first = stream.ring()
    reconcile.sync()

    assert first == SYNCING
    assert stream.ring() == {"syncStatus": "failed"}


def test_a_declined_try_rings_although_the_order_stays_open(sqlite_shop: Shop, listen: Any) -> None:
    checkout = sqlite_shop.shopper().buy()
    stream = listen(checkout)
    stream.ring()
    checkout.pay(DECLINED)
    sqlite_shop.deliver_and_work()

    assert stream.ring() == SYNCING
    assert sqlite_shop.attempt(checkout.order_id).state == "open"


@pytest.mark.accept("D21")
def test_a_stream_of_a_decided_order_rings_once_and_ends(sqlite_shop: Shop, listen: Any) -> None:
    checkout = sqlite_shop.shopper().buy()
    checkout.shopper.post("/checkout/release", {"order_id": checkout.order_id})

    stream = listen(checkout)

    assert (stream.ring(), stream.piece()) == (SYNCED, None)


@pytest.mark.accept("D21")
def test_a_stream_ends_after_a_minute_and_gives_signs_of_life_until_then(
    sqlite_shop: Shop, listen: Any
) -> None:
    stream = listen(sqlite_shop.shopper().buy())
    stream.ring()

    for _ in range(3):
        sqlite_shop.clock.forward(seconds=16)
        assert (stream.piece() or "").startswith(":")
    sqlite_shop.clock.forward(seconds=12)
    assert stream.piece() is None


def test_nothing_of_the_database_is_held_between_two_looks(shop: Shop, listen: Any) -> None:
    stream = listen(shop.shopper().buy())
    stream.ring()
    db.session.commit()  # the test's own

    shop.clock.forward(seconds=16)
    assert (stream.piece() or "").startswith(":"), "it has looked again"
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


# -- whose stream it is


def test_only_its_owner_hears_an_order(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    stranger = sqlite_shop.shopper()
    token = links.token(sqlite_shop.the_order())
    path = f"/api/orders/{checkout.order_id}/sync-status"

    for address in (path, "/api/orders/nobody/sync-status", "/api/orders/pi_no/sync-status"):
        problem(stranger.get(address), 404, "not_found")
    forged = {"Authorization": f"Bearer {token[:-2]}"}
    problem(stranger.get(path, headers=forged), 404, "link_damaged")
    heard = Stream(stranger, path, headers={"Authorization": f"Bearer {token}"})
    assert heard.ring() == SYNCING
    heard.close()


def test_a_link_that_is_revoked_ends_the_stream_that_it_opened(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    bearer = {"Authorization": f"Bearer {links.token(sqlite_shop.the_order())}"}
    path = f"/api/orders/{checkout.order_id}/sync-status"
    heard = Stream(sqlite_shop.shopper(), path, headers=bearer)
    heard.ring()
    with atomic() as session:
        session.execute(update(Order).values(link_version=2))
    sqlite_shop.clock.forward(seconds=4)

    assert heard.piece() is None


# -- how many at once


def test_streams_get_half_of_the_threads_and_the_surplus_is_sent_away_for_a_while(
    sqlite_shop: Shop, listen: Any
) -> None:
    most = sqlite_shop.app.extensions["settings"].web_threads // 2
    staying = [listen(sqlite_shop.shopper().buy()) for _ in range(most)]
    late = sqlite_shop.shopper().buy()
    surplus = listen(late)

    told = surplus.piece()
    assert said(told) == SYNCING
    assert 3_000 <= pause_ms(told) < 10_000
    assert surplus.piece() is None
    assert places_held(sqlite_shop) == most

    staying[0].close()
    assert places_held(sqlite_shop) == most - 1
    assert pause_ms(listen(late).piece()) == 1_000, "there is a place now"
    assert places_held(sqlite_shop) == most


def test_one_shopper_holds_two_streams_at_most(sqlite_shop: Shop, listen: Any) -> None:
    checkout = sqlite_shop.shopper().buy()
    tabs = [listen(checkout) for _ in range(3)]

    rings = [tab.piece() for tab in tabs]

    assert [pause_ms(ring) for ring in rings] == [1_000, 1_000, 3_000]
    assert tabs[2].piece() is None
    assert places_held(sqlite_shop) == 2


def test_whoever_hangs_up_or_never_listens_holds_no_place(sqlite_shop: Shop, listen: Any) -> None:
    checkout = sqlite_shop.shopper().buy()
    stream = listen(checkout)
    stream.ring()
    assert places_held(sqlite_shop) == 1

    stream.close()
    assert places_held(sqlite_shop) == 0
    assert listen(checkout, method="HEAD").answer.status_code == 200
    assert places_held(sqlite_shop) == 0


def test_a_stream_ends_with_its_web_process(sqlite_shop: Shop, listen: Any) -> None:
    stream = listen(sqlite_shop.shopper().buy())
    stream.ring()
    sqlite_shop.app.extensions["streams"].is_closing = lambda: True

    assert stream.piece() is None
    assert places_held(sqlite_shop) == 0


def test_a_stream_ends_when_the_database_does(own_postgres: Any, listen: Any) -> None:
    server = own_postgres()
    url = server.url.replace("postgresql://", "postgresql+psycopg://")
    with TestShops(url).opened() as shop:
        stream = listen(shop.shopper().buy())
        stream.ring()
        server.kill()

        assert stream.piece() is None
        assert places_held(shop) == 0


# -- the page


@pytest.mark.accept("D33", "D23")
def test_a_waiting_page_listens_when_live_updates_are_switched_on(sqlite_shop: Shop) -> None:
    checkout = sqlite_shop.shopper().buy()
    path = f"/orders/{checkout.order_id}"
    polling = checkout.shopper.get(path).text
    switch("sse")
    listening = checkout.shopper.get(path).text

    assert live_url(polling) is None
    assert "hx-sse" not in polling
    assert trigger(polling) == "load delay:700ms, every 45s, online from:window"
    address = live_url(listening)
    assert address and address.startswith(f"/api/orders/{checkout.order_id}/sync-status?since=")
    assert trigger(listening) == "changed from:#live, every 45s, online from:window"
    assert listening.index("/htmx/htmx.min.js") < listening.index("/htmx/hx-sse.min.js")
    assert '<noscript><meta http-equiv="refresh"' in listening


def test_a_decided_page_and_a_strangers_page_do_not_listen(sqlite_shop: Shop) -> None:
    checkout, _ = waits_live(sqlite_shop)
    address = f"/checkout/success?session_id={checkout.session_id}"
    strangers = sqlite_shop.shopper().get(address).text
    checkout.pay()
    paid = checkout.shopper.get(address).text

    assert live_url(strangers) is None
    assert (trigger(strangers) or "").startswith("load delay:")
    assert "hx-sse" not in strangers + paid
    assert trigger(paid) is None


@pytest.mark.accept("D23", "V22")
def test_a_listening_page_promises_a_mail_and_stops_by_the_clock(
    sqlite_shop: Shop, listen: Any
) -> None:
    checkout, page = waits_live(sqlite_shop)
    stream = listen(checkout, live_url(page))
    stream.ring()
    first = checkout.shopper.get(next_look(page)).text
    sqlite_shop.clock.forward(seconds=21)
    rang = stream.ring()
    patient = checkout.shopper.get(next_look(first)).text
    sqlite_shop.clock.forward(seconds=60)
    later = checkout.shopper.get(next_look(patient)).text
    sqlite_shop.clock.forward(minutes=9)
    over = listen(checkout, live_url(page))
    over.ring()
    stopped = checkout.shopper.get(next_look(later)).text

    assert "look=2" in next_look(first)
    assert 'id="say"' not in first
    assert rang == SYNCING, "what the page shows has changed"
    promise = re.findall(r"by <time[^>]*>(\d\d:\d\d)<", patient)
    assert promise and promise == re.findall(r"by <time[^>]*>(\d\d:\d\d)<", later)
    assert 'id="say"' in patient
    assert 'id="say"' not in later, "said once"
    assert "changed from:#live" in (trigger(later) or "")
    assert trigger(stopped) is None
    assert "This page has stopped checking by itself; we have not." in stopped
    assert '<div id="live" hx-swap-oob="delete">' in stopped


def test_a_listening_page_asks_stripe_itself_when_the_news_is_late(sqlite_shop: Shop) -> None:
    checkout, page = waits_live(sqlite_shop)
    checkout.pay()  # and no webhook comes
    first = checkout.shopper.get(next_look(page)).text
    sqlite_shop.clock.forward(seconds=21)

    second = checkout.shopper.get(next_look(first)).text

    assert "Confirming your payment" in first
    assert "You’re all set." in second


@pytest.mark.accept("D23")
def test_the_fragment_that_is_decided_ends_the_listening(sqlite_shop: Shop) -> None:
    checkout, page = waits_live(sqlite_shop)
    waiting = checkout.shopper.get(next_look(page)).text
    checkout.pay()
    sqlite_shop.deliver_and_work()

    decided = checkout.shopper.get(next_look(waiting)).text

    assert 'id="live"' not in waiting
    assert "You’re all set." in decided
    assert '<div id="live" hx-swap-oob="delete"></div>' in decided


@pytest.mark.accept("D33")
def test_switched_back_open_streams_end_and_their_pages_poll_where_they_were(
    sqlite_shop: Shop, listen: Any
) -> None:
    checkout, page = waits_live(sqlite_shop)
    stream = listen(checkout, live_url(page))
    stream.ring()
    sqlite_shop.clock.forward(seconds=30)
    assert stream.ring() == SYNCING, "the page turns patient"
    sqlite_shop.clock.forward(seconds=16)
    assert stream.piece() == ": still here\n\n"
    switch("poll")
    sqlite_shop.clock.forward(seconds=13)

    assert stream.piece() is None
    back = listen(checkout, live_url(page))
    assert (back.ring(), back.piece()) == (SYNCING, None)
    fallen_back = checkout.shopper.get(next_look(page)).text
    assert '<div id="live" hx-swap-oob="delete"></div>' in fallen_back
    assert trigger(fallen_back) == "load delay:20000ms, every 45s, online from:window"
    assert "Your bank is taking its time" in fallen_back
    assert "since=" not in next_look(fallen_back)


def test_a_program_may_listen_whatever_the_pages_do(sqlite_shop: Shop, listen: Any) -> None:
    checkout = sqlite_shop.shopper().buy()
    stream = listen(checkout)
    stream.ring()
    checkout.pay()
    sqlite_shop.deliver_and_work()

    assert settings.current().live_updates == "poll"
    assert stream.ring() == SYNCED


def test_a_surplus_page_comes_back_as_patiently_as_one_that_polls(
    sqlite_shop: Shop, listen: Any
) -> None:
    checkout, page = waits_live(sqlite_shop)
    for _ in range(2):
        listen(checkout, live_url(page))

    pauses = []
    for _ in range(4):
        pauses.append(pause_ms(listen(checkout, live_url(page)).piece()))
        sqlite_shop.clock.forward(seconds=10)

    assert pauses == [3_000, 4_000, 8_000, 10_000]


@pytest.mark.parametrize("since", ["", "tomorrow", "-1", "99999999999", "9" * 40, "١٢"])
def test_a_page_that_lies_about_its_age_is_answered_all_the_same(
    sqlite_shop: Shop, listen: Any, since: str
) -> None:
    checkout, _ = waits_live(sqlite_shop)
    query = {"since": since}

    fragment = checkout.shopper.get(f"/orders/{checkout.order_id}/status", query_string=query)
    assert fragment.status_code == 200
    assert "Confirming your payment" in fragment.text
    assert listen(checkout, query_string=query).ring() == SYNCING


# -- in the server that production uses


@pytest.fixture
def gunicorn(postgres_shop: Shop, redis_url: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """One web process with the shop's own configuration, on the shop's database."""
    settings = postgres_shop.app.extensions["settings"]
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": settings.secret_keys[0],
        "PUBLIC_ORIGIN": ORIGIN,
        "STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "STRIPE_PUBLISHABLE_KEY": settings.stripe_publishable_key,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secrets[0],
        "STRIPE_API_BASE": str(settings.stripe_api_base),
        "SMTP_URL": "smtp://127.0.0.1:1",
        "MAIL_FROM": "shop@example.test",
        "PORT": str(port),
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "app:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while b"Booting worker" not in said:  # the socket is open before that
        line = process.stderr.readline()
        assert line, said
        said += line
    yield port, process
    process.kill()
    process.wait()
    process.stderr.close()


def test_at_the_cap_pages_are_answered_and_the_process_stops_at_once(
    postgres_shop: Shop, gunicorn: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, process = gunicorn
    checkouts = [postgres_shop.shopper().buy() for _ in range(5)]
    connections = [HTTPConnection("127.0.0.1", port, timeout=10) for _ in checkouts]
    streams = []
    for checkout, connection in zip(checkouts, connections, strict=True):
        order = postgres_shop.order(checkout.order_id)
        assert order
        connection.request(
            "GET",
            f"/api/orders/{order.id}/sync-status",
            headers={"Authorization": f"Bearer {links.token(order)}"},
        )
        streams.append(connection.getresponse())
    staying, surplus = streams[:4], streams[4]
    rings = [b"".join(stream.readline() for _ in range(4)) for stream in staying]
    page = HTTPConnection("127.0.0.1", port, timeout=10)
    page.request("GET", "/")

    assert [said(ring.decode()) for ring in rings] == [SYNCING] * 4
    assert said(surplus.read().decode()) == SYNCING
    assert page.getresponse().status == 200
    page.close()
    process.terminate()
    assert [stream.read() for stream in staying] == [b""] * 4
    process.wait(10)
    for connection in connections:
        connection.close()
