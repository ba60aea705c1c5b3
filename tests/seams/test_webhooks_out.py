"""Other systems are told of orders: signed, at least once, and nowhere they should not be."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app import create_app
from models import OutboxMessage
from services import announcements, erasure, inbox, outbox, outward, subscriptions
from services.causes import Cause
from tests.counter.scenes import a_paid_order, ask
from tests.counter.test_shipping import pack, ship
from tests.plans.buying import COFFEE, OwnPage, months, plans_of, settle
from tests.seams.conftest import SECRET
from tests.seams.sink import Sink, listening
from tests.seams.test_adopt import BLOCKS
from tests.shop import MUG, Shop, TestShops

_verify: dict[str, Any] = {}
exec(BLOCKS["receiver/verify.py"], _verify)
is_from_shop: Callable[..., bool] = _verify["is_from_shop"]


def owed(shop: Shop) -> list[OutboxMessage]:
    return shop.rows(OutboxMessage, OutboxMessage.kind == "webhook")


def states(shop: Shop) -> list[str]:
    return [message.state for message in owed(shop)]


def for_hours(shop: Shop, hours: float) -> None:
    """Time goes by, with a worker that looks every half an hour."""
    for _ in range(int(hours * 2)):
        shop.clock.forward(minutes=30)
        outbox.drain()


# -- what is told


@pytest.mark.accept("X21")
def test_an_order_is_told_of_step_by_step(shop: Shop, sink: Sink) -> None:
    order = a_paid_order(shop, MUG, 2)
    shop.work()
    pack(shop, order)
    ship(shop, order, 1)
    shop.work()
    ship(shop, order, 1, carrier="Post", tracking="")
    shop.work()
    ask(order, 500)
    shop.deliver_and_work()
    shop.deliver_and_work()

    assert sink.types == ["order.confirmed", "order.shipped", "order.refunded"]
    confirmed, shipped, refunded = sink.events
    assert confirmed["order"]["status"] == "payment_confirmed"
    assert confirmed["order"]["items"] == [
        {"sku": MUG, "title": "Enamel mug", "unitAmount": 1800, "quantity": 2}
    ]
    assert shipped["order"]["parcels"] == [
        {"carrier": "DHL", "tracking": "00340 7", "items": [{"sku": MUG, "quantity": 1}]},
        {"carrier": "Post", "tracking": None, "items": [{"sku": MUG, "quantity": 1}]},
    ]
    assert (refunded["refund"]["amount"], refunded["order"]["refunded"]) == (500, 500)
    assert len({event["id"] for event in sink.events}) == 3
    versions = [event["order"]["version"] for event in sink.events]
    assert versions == sorted(versions)
    assert shop.proves()


@pytest.mark.accept("X21")
def test_money_that_all_went_back_is_told_and_so_is_the_end(shop: Shop, sink: Sink) -> None:
    order = a_paid_order(shop)
    ask(order)
    for _ in range(3):
        shop.deliver_and_work()

    assert sorted(sink.types) == ["order.cancelled", "order.confirmed", "order.refunded"]


@pytest.mark.accept("X21")
def test_a_subscription_is_told_of_when_it_renews_and_when_it_ends(
    sqlite_shops: TestShops, sink: Sink
) -> None:
    told = {"webhook_targets": (sink.url,), "webhook_signing_secrets": (SECRET,)}
    with sqlite_shops.opened(payment_ui="elements", **told) as shop:
        opened = OwnPage(shop).opened(COFFEE)
        opened.buy()
        months(shop)
        (row,) = plans_of(shop, opened.order_id)
        subscriptions.cancel(opened.order_id, row.id, Cause("admin"), at_period_end=False)
        for _ in range(3):
            shop.deliver_and_work()

    assert sink.types == ["order.confirmed", "subscription.renewed", "subscription.ended"]
    _, renewed, ended = sink.events
    assert [(one["sku"], one["quantity"]) for one in renewed["subscriptions"]] == [(COFFEE, 1)]
    assert [(one["sku"], one["status"]) for one in ended["subscriptions"]] == [(COFFEE, "canceled")]


@pytest.mark.accept("X21")
def test_a_first_payment_renews_nothing(shop: Shop, sink: Sink) -> None:
    """Not even one that comes after the order is confirmed, as on a page of ours."""
    opened = OwnPage(shop).opened(MUG, COFFEE)
    opened.pay()
    settle(shop)
    opened.save_card()
    settle(shop)

    assert len([payment for payment in shop.payments() if payment.role == "settles"]) == 2
    assert sink.types == ["order.confirmed"]


@pytest.mark.accept("X21")
@pytest.mark.parametrize("strategy", ["order_first", "pay_first", "dual_track"])
def test_every_strategy_tells_the_same_and_nothing_of_what_was_never_paid(
    sqlite_shops: TestShops, sink: Sink, strategy: str
) -> None:
    told = {"webhook_targets": (sink.url,), "webhook_signing_secrets": (SECRET,)}
    with sqlite_shops.opened(order_strategy=strategy, **told) as shop:
        shopper = shop.shopper()
        left = shopper.buy()
        shopper.post("/checkout/release", {"order_id": left.order_id})
        order = a_paid_order(shop)
        shop.work()

    assert [(e["type"], e["order"]["id"]) for e in sink.events] == [
        ("order.confirmed", order.order_id)
    ]


@pytest.mark.accept("X21")
def test_news_told_three_times_is_one_event(shop: Shop, sink: Sink) -> None:
    order = shop.shopper().buy()
    order.pay()
    shop.deliver()
    order.shopper.come_back(order)
    shop.deliver_and_work()
    order.shopper.come_back(order)
    shop.work()

    assert sink.types == ["order.confirmed"]
    assert len(owed(shop)) == 1


def test_where_nobody_is_named_nothing_is_owed(sqlite_shop: Shop) -> None:
    a_paid_order(sqlite_shop)

    assert owed(sqlite_shop) == []


def test_who_it_goes_to_is_told_once_and_never_an_address_of_a_mailbox(
    lite: Shop, sink: Sink
) -> None:
    order = a_paid_order(lite)
    lite.work()
    pack(lite, order)
    ship(lite, order)
    lite.work()

    assert sink.events[0]["order"]["shipTo"]["name"] == "Maya Lindqvist"
    assert sink.events[0]["order"]["shipTo"]["postalCode"] == "12047"
    assert b"Maya" not in sink.got[1].body and b"Sonnenallee" not in sink.got[1].body
    assert all(b"maya@" not in one.body and b"cs_" not in one.body for one in sink.got)


# -- signed


@pytest.mark.accept("X21")
def test_what_is_sent_is_signed_and_nothing_else_passes(lite: Shop, sink: Sink) -> None:
    a_paid_order(lite)
    lite.work()
    (got,) = sink.got
    at = lite.clock.seconds

    assert is_from_shop(got.body, got.signature, [SECRET], now=at)
    assert not is_from_shop(got.body + b" ", got.signature, [SECRET], now=at)
    assert not is_from_shop(got.body, got.signature, ["x" * 48], now=at)
    assert not is_from_shop(got.body, got.signature, [SECRET], now=lambda: at() + 301)
    for forged in ("", "t=1", "v1=é", f"{got.signature},t=1", got.signature.partition(",")[0]):
        assert not is_from_shop(got.body, forged, [SECRET], now=at)


@pytest.mark.accept("X21")
def test_while_secrets_rotate_each_of_them_verifies(sqlite_shops: TestShops, sink: Sink) -> None:
    new, old = "n" * 40, "o" * 40
    told = {"webhook_targets": (sink.url,), "webhook_signing_secrets": (new, old)}
    with sqlite_shops.opened(**told) as shop:
        a_paid_order(shop)
        shop.work()
        (got,) = sink.got
        at = shop.clock.seconds

    assert is_from_shop(got.body, got.signature, [new], now=at)
    assert is_from_shop(got.body, got.signature, [old], now=at)


# -- again, until it is taken


@pytest.mark.accept("X21")
def test_a_target_that_fails_is_told_again_of_the_same_event(shop: Shop, sink: Sink) -> None:
    sink.answers = [500, 503]
    a_paid_order(shop)
    shop.work()
    for _ in range(3):
        shop.clock.forward(seconds=10)
        outbox.drain()

    assert [one.status for one in sink.got] == [500, 503, 200]
    assert len({event["id"] for event in sink.events}) == 1
    assert len({one.signature for one in sink.got}) == 3
    assert states(shop) == ["done"]


@pytest.mark.accept("X21")
def test_a_crash_between_commit_and_sending_loses_nothing(lite: Shop, sink: Sink) -> None:
    lite.shopper().buy().pay()
    lite.deliver()
    inbox.drain()  # and here the worker dies

    again = create_app(lite.app.extensions["settings"])
    with again.app_context():
        outbox.drain()

    assert sink.types == ["order.confirmed"]


def test_a_crash_after_the_answer_tells_the_same_event_again(
    lite: Shop, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = outward.post

    def answered_and_died(*args: Any) -> int:
        post(*args)
        raise SystemExit

    monkeypatch.setattr(outward, "post", answered_and_died)
    lite.shopper().buy().pay()
    lite.deliver()
    inbox.drain()
    with pytest.raises(SystemExit):
        outbox.drain()
    monkeypatch.setattr(outward, "post", post)
    outbox.drain()
    assert len(sink.got) == 1, "it is leased to the one that died"
    lite.clock.forward(seconds=61)
    outbox.drain()

    assert [event["id"] for event in sink.events] == [sink.events[0]["id"]] * 2
    assert states(lite) == ["done"]


@pytest.mark.accept("X21")
def test_an_outage_of_two_days_loses_nothing_and_disturbs_nobody(shop: Shop, sink: Sink) -> None:
    sink.answers = [502] * 500
    a_paid_order(shop)
    for_hours(shop, 48)
    assert shop.exceptions() == []
    assert [receipt.state for receipt in shop.receipts()] == ["done"]

    sink.answers = []
    for_hours(shop, 1)

    assert sink.types == ["order.confirmed"]
    assert states(shop) == ["done"]


@pytest.mark.accept("X21")
def test_after_three_days_it_is_dead_and_a_person_can_take_it_up(shop: Shop, sink: Sink) -> None:
    sink.answers = [502] * 500
    a_paid_order(shop)
    for_hours(shop, 73)
    (exception,) = shop.exceptions()
    assert (states(shop), exception.type) == (["dead"], "dead_effect")
    assert shop.proves(ledger=False)

    sink.answers = []
    assert outbox.replay(exception.stripe_id, "ada@example.com")
    outbox.drain()

    assert sink.types == ["order.confirmed"]
    assert states(shop) == ["done"]
    assert [row.state for row in shop.exceptions()] == ["resolved"]


def test_the_pauses_grow_to_a_quarter_of_an_hour(lite: Shop, sink: Sink) -> None:
    sink.answers = [502] * 500
    a_paid_order(lite)
    pauses = []
    for _ in range(12):
        (message,) = owed(lite)
        pauses.append((message.next_at - lite.clock.moment).total_seconds())
        lite.clock.forward(seconds=pauses[-1])
        outbox.drain()

    assert pauses == [4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


def test_a_target_that_is_down_keeps_no_other_from_being_told(
    sqlite_shops: TestShops, sink: Sink
) -> None:
    with listening() as other:
        other.answers = [500] * 10
        told = {"webhook_targets": (other.url, sink.url), "webhook_signing_secrets": (SECRET,)}
        with sqlite_shops.opened(**told) as shop:
            a_paid_order(shop)
            shop.work()

            assert sink.types == ["order.confirmed"]
            assert sorted(states(shop)) == ["done", "new"]


@pytest.mark.accept("X21")
def test_a_target_that_hangs_costs_one_wait_and_no_mail(
    shop: Shop, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outward, "TIMEOUT_S", 0.3)
    silent = threading.Event()
    sink.meanwhile = lambda: silent.wait(5) and None
    for _ in range(4):
        a_paid_order(shop)
    shop.work()
    held = len(sink.got)
    error = owed(shop)[0].error or ""
    silent.set()

    assert held == 1
    assert "127.0.0.1 did not answer within" in error
    assert [receipt.state for receipt in shop.receipts()] == ["done"] * 4
    for _ in range(3):
        shop.clock.forward(seconds=10)
        outbox.drain()
    assert states(shop) == ["done"] * 4


def test_a_target_that_answers_for_ever_is_hung_up_on(
    lite: Shop, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outward, "TIMEOUT_S", 0.4)
    sink.drips = True
    a_paid_order(lite)

    assert "did not answer within" in (owed(lite)[0].error or "")


def test_a_target_that_left_the_settings_is_not_told_any_more(lite: Shop, sink: Sink) -> None:
    sink.answers = [500]
    a_paid_order(lite)
    monkeyed = lite.app.extensions["settings"]
    object.__setattr__(monkeyed, "webhook_targets", ())
    lite.clock.forward(seconds=10)
    outbox.drain()

    assert len(sink.got) == 1
    assert owed(lite)[0].result == {"not_sent": "this target is no longer in the settings"}


def test_what_still_waits_keeps_nobody_from_being_forgotten(lite: Shop, sink: Sink) -> None:
    sink.answers = [500] * 5
    a_paid_order(lite)
    lite.work()

    assert erasure.erase("maya@example.com").still_open == 0
    sink.answers = []
    lite.clock.forward(seconds=100)
    outbox.drain()

    assert sink.taken[0]["order"]["shipTo"] is None
    assert b"Maya" not in sink.got[-1].body


# -- where it may go


def test_a_redirect_is_not_followed(lite: Shop, sink: Sink) -> None:
    with listening() as elsewhere:
        sink.answers, sink.redirect_to = [307], elsewhere.url
        a_paid_order(lite)

        assert elsewhere.got == []
        assert owed(lite)[0].error == "Undelivered: 127.0.0.1 answered 307"


def test_no_log_and_no_exception_names_the_path_of_a_target(
    sqlite_shops: TestShops, sink: Sink
) -> None:
    sink.answers = [500] * 500
    told = {"webhook_targets": (f"{sink.url}/t0ken",), "webhook_signing_secrets": (SECRET,)}
    with sqlite_shops.opened(**told) as shop, capture_logs() as logs:
        a_paid_order(shop)
        for_hours(shop, 73)
        (exception,) = shop.exceptions()

    assert "outbox.undelivered" in [line["event"] for line in logs]
    assert "t0ken" not in str(logs) + exception.detail + exception.stripe_id


INWARD = [
    "10.0.0.7",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::ffff:10.0.0.7",
    "::ffff:169.254.169.254",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "64:ff9b::a9fe:a9fe",
    "2002:a00:7::1",
    "2001:0:a00:7::1",
]


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """The internet's phone book, as somebody else has written it."""
    families = {True: socket.AF_INET6, False: socket.AF_INET}
    found = [
        (families[":" in a], socket.SOCK_STREAM, 6, "", (a, 443, 0, 0)[: 4 if ":" in a else 2])
        for a in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.accept("X21")
@pytest.mark.parametrize("address", INWARD)
def test_a_name_that_leads_inward_is_not_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, address)
    connected: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **_: connected.append(a))

    with pytest.raises(outward.Unreached, match="no address that may be reached"):
        outward.post("https://erp.example.com/", b"{}", {})
    assert connected == []


def test_plain_http_leads_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "93.184.216.34")

    with pytest.raises(outward.Unreached, match="no address that may be reached"):
        outward.post("http://localhost/", b"{}", {})


class Tls:
    """A server with a certificate for ``erp.example.com``, signed by itself."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        name = "erp.example.com"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "3650", "-subj", f"/CN={name}", "-addext",
             f"subjectAltName=DNS:{name}", "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.hosts: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.hosts.append(self.headers["Host"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tls]:
    """It stands at 93.184.216.34, to which this test lays a cable of its own."""
    server = Tls(tmp_path)

    def laid(where: tuple[str, int], timeout: float) -> socket.socket:
        assert where == ("93.184.216.34", 443), "the address that was looked at, and no other"
        cable = socket.socket()
        cable.settimeout(timeout)
        cable.connect(server.server.server_address[:2])
        return cable

    monkeypatch.setattr(socket, "create_connection", laid)
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.accept("X21")
def test_https_goes_to_the_address_that_was_looked_at_under_the_name_that_was_asked_for(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    resolves_to(monkeypatch, "10.0.0.7", "93.184.216.34")

    assert outward.post("https://erp.example.com/orders", b"{}", {}) == 204
    assert tls.hosts == ["erp.example.com"]


@pytest.mark.parametrize("host", ["erp.example.com", "other.example.com"])
def test_a_certificate_that_nobody_vouches_for_or_of_another_name_is_refused(
    tls: Tls, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "other.example.com":
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    resolves_to(monkeypatch, "93.184.216.34")

    with pytest.raises(outward.Unreached, match="SSLCertVerificationError"):
        outward.post(f"https://{host}/orders", b"{}", {})
    assert tls.hosts == []


def test_every_event_has_a_signal_and_a_line_in_the_documents() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/adopt.md").read_text()

    assert len(announcements.EVENTS) == 6
    for event in announcements.EVENTS:
        assert f"`{event}`" in page
        assert f"`{event.replace('.', '_')}`" in page
