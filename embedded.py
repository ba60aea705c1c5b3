"""The embedded shop: everything in one process, on one machine, with a stand-in for Stripe.

The same code as in production, on SQLite, an in-process queue and the sandbox. ``instance/`` holds
its database, the sandbox's ledger and the invented secrets; deleting it starts afresh.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from config import SETTING_NAMES, SettingsError, demo_environment, demo_settings
from domain.clock import now

INSTANCE = Path(__file__).resolve().parent / "instance"
SHOP_PORT = 8000
SANDBOX_PORT = 12111
SANDBOX_ADDRESS = "sandbox.url"  # in the instance folder, so that a command finds the right one
ADMIN_EMAIL = "admin@northlight.example"
PATIENCE_S = 20  # for the one order of --once
DEMO_CODE = "WELCOME-10"


def exists() -> bool:
    """Whether an embedded shop was ever run here."""
    return (INSTANCE / "demo.json").exists()


def is_meant() -> bool:
    """Whether a command without any setting means the embedded shop that is here."""
    return exists() and not any(os.environ.get(name) for name in SETTING_NAMES if name != "PORT")


@dataclass
class Shop:
    """A running embedded shop."""

    app: Flask
    origin: str
    server: BaseWSGIServer
    sandbox: Any
    clock: threading.Event
    folder: Path

    def stop(self) -> None:
        self.clock.set()
        self.server.shutdown()
        if self.sandbox:
            self.sandbox.stop()
            (self.folder / SANDBOX_ADDRESS).unlink(missing_ok=True)


@contextlib.contextmanager
def opened() -> Iterator[Flask]:
    """The app of the embedded shop for one command, with its sandbox if that is not running."""
    sandbox, base = None, _running_sandbox(INSTANCE)
    if base is None:
        sandbox, base = _start_sandbox(SHOP_PORT, INSTANCE)
    app = _app(f"http://127.0.0.1:{SHOP_PORT}", base, INSTANCE)
    try:
        with app.app_context():
            yield app
    finally:
        if sandbox:
            sandbox.stop()


def run(port: int | None, folder: Path = INSTANCE) -> int:
    """Serve until Ctrl-C, with everything kept in ``folder``; returns the exit code."""
    if _running_sandbox(folder):
        click.echo(f"  A shop is already open on {folder}, so this one starts with empty books of")
        click.echo("  its own and forgets them in the end. To keep them: --instance PATH")
        with tempfile.TemporaryDirectory() as elsewhere:
            return run(port, Path(elsewhere))
    try:
        shop = _start(port, folder)
    except SettingsError as error:
        click.echo(str(error), err=True)
        return 2
    with shop.app.app_context():
        from services import auth

        link = auth.create_link(ADMIN_EMAIL)
    click.echo(f"\n  Your shop      {shop.origin}")
    click.echo(f"  Admin (once)   {shop.origin}{link}")
    click.echo(f"  Mailbox        {shop.origin}/dev/mailbox")
    if shop.sandbox:
        click.echo(f"  Sandbox        {shop.sandbox.url}/_sandbox/")
        _offer_code(shop.sandbox.url)
        click.echo(f"  Discount code  {DEMO_CODE}, 10 % off")
    click.echo("\n  Pay with 4242 4242 4242 4242. Ctrl-C ends everything.\n")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with contextlib.suppress(KeyboardInterrupt):
        stopping.wait()
    shop.stop()
    click.echo(f"\n  Closed. Orders are kept in {folder.name}/; the same command opens again.")
    return 0


def _offer_code(base: str) -> None:
    """A discount code to try, made at the sandbox as one would in Stripe's dashboard; once."""
    import requests

    def call(method: str, path: str, **form: str) -> dict[str, Any]:
        key = {"Authorization": "Bearer sk_test_demo"}
        told: dict[str, Any] = {"params" if method == "GET" else "data": form}
        answer = requests.request(method, f"{base}{path}", headers=key, timeout=PATIENCE_S, **told)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    if call("GET", "/v1/promotion_codes", code=DEMO_CODE)["data"]:
        return
    coupon = call("POST", "/v1/coupons", percent_off="10", duration="once")
    wish = {"promotion[type]": "coupon", "promotion[coupon]": coupon["id"], "code": DEMO_CODE}
    call("POST", "/v1/promotion_codes", **wish)


def run_once(as_json: bool, folder: Path = INSTANCE) -> int:
    """Buy something over HTTP, as a browser would, and prove the ledger; returns the exit code.

    Beside a shop that is running on ``folder`` it happens in a folder of its own.
    """
    if _running_sandbox(folder):
        with tempfile.TemporaryDirectory() as elsewhere:
            return run_once(as_json, Path(elsewhere))
    started = time.perf_counter()
    try:
        shop = _start(None, folder, any_port=True)
    except SettingsError as error:
        click.echo(str(error), err=True)
        return 2
    try:
        order = _buy_one(shop)
        with shop.app.app_context():
            from services import check

            report = check.run()
    finally:
        shop.stop()
    paid = order["paymentStatus"] == "paid"
    if as_json:
        click.echo(json.dumps({"order": order, "check": report.as_dict()}))
    else:
        took = time.perf_counter() - started
        click.echo(
            f"Order {order['number']} is {order['paymentStatus']}, {took:.1f} s after start."
        )
        click.echo(json.dumps(order, indent=2))
        click.echo(report.text())
    return 0 if paid and report.holds else 1


def _buy_one(shop: Shop) -> dict[str, Any]:
    import re

    import requests

    browser = requests.Session()
    page = browser.get(f"{shop.origin}/products/enamel-mug", timeout=PATIENCE_S).text
    token = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert token is not None
    headers = {"X-CSRFToken": token[1]}

    def call(method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = browser.request(
            method, f"{shop.origin}{path}", json=body, headers=headers, timeout=PATIENCE_S
        )
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    call("PUT", "/api/cart", items=[{"sku": "COF-BNS-25", "quantity": 2}])
    checkout = call(
        "POST",
        "/api/payments/create-checkout-session",
        contact={"name": "Demo Shopper", "email": "shopper@example.com"},
        shipping={
            "line1": "Sonnenallee 12",
            "city": "Berlin",
            "postalCode": "12047",
            "country": "DE",
        },
    )
    base = shop.app.extensions["settings"].stripe_api_base
    requests.post(
        f"{base}/_sandbox/pay",
        json={"session": checkout["sessionId"], "card": "4242424242424242"},
        timeout=PATIENCE_S,
    ).raise_for_status()
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        order = call("GET", f"/api/orders/by-session/{checkout['sessionId']}")
        if order["paymentStatus"] != "pending" or time.monotonic() > give_up_at:
            return order
        time.sleep(0.05)


def _start(port: int | None, folder: Path, *, any_port: bool = False) -> Shop:
    """Sandbox, app, worker and clock, all in this process."""
    wanted = 0 if any_port else port or int(os.environ.get("PORT") or SHOP_PORT)
    listener = _listen(wanted)
    actual = listener.getsockname()[1]
    origin = os.environ.get("PUBLIC_ORIGIN") or f"http://127.0.0.1:{actual}"
    sandbox = None
    base = os.environ.get("STRIPE_API_BASE")
    if not base:
        sandbox, base = _start_sandbox(actual, folder)
        (folder / SANDBOX_ADDRESS).write_text(base)
    app = _app(origin, base, folder)
    server = make_server(
        "127.0.0.1",
        actual,
        app,
        threaded=True,
        fd=listener.fileno(),
        request_handler=_Quiet,
    )
    threading.Thread(target=server.serve_forever, name="web", daemon=True).start()
    from jobs import runner, schedule

    runner.start_embedded(app)
    return Shop(app, origin, server, sandbox, schedule.start_embedded(app), folder)


class _Quiet(WSGIRequestHandler):
    """One line per request would hide what matters; failures are logged by the app."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _app(origin: str, base: str, folder: Path) -> Flask:
    from app import create_app

    folder.mkdir(parents=True, exist_ok=True)
    environment = demo_environment(
        folder, public_origin=origin, stripe_api_base=base, overrides=os.environ
    )
    app = create_app(demo_settings(environment))
    with app.app_context():
        from flask_migrate import upgrade

        from services import catalogue
        from services.demo_goods import GOODS

        upgrade(directory=str(Path(__file__).resolve().parent / "migrations"))
        if app.extensions["catalogue"] is None:
            catalogue.stock_up(GOODS)
    return app


def _start_sandbox(shop_port: int, folder: Path) -> tuple[Any, str]:
    from sandbox import create_sandbox

    folder.mkdir(parents=True, exist_ok=True)
    environment = demo_environment(
        folder, public_origin="http://127.0.0.1", stripe_api_base="", overrides=os.environ
    )
    box = create_sandbox(
        webhook_url=f"http://127.0.0.1:{shop_port}/stripe/webhook",
        webhook_secret=environment["STRIPE_WEBHOOK_SECRET"],
        journal=folder / "sandbox.jsonl",
        seed=int(now().timestamp()),
    )
    usual = folder == INSTANCE and _is_free(SANDBOX_PORT)
    port = box.start(port=SANDBOX_PORT if usual else 0)
    return box, f"http://127.0.0.1:{port}"


def _running_sandbox(folder: Path) -> str | None:
    """The address of this folder's own sandbox while its shop is open."""
    try:
        base = (folder / SANDBOX_ADDRESS).read_text()
    except FileNotFoundError:
        return None
    return None if _is_free(urlsplit(base).port or 0) else base


def _listen(port: int) -> socket.socket:
    """A listening socket on ``port``, or on the next free one."""
    for candidate in (port, *(port + step for step in range(1, 20) if port), 0):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        listener.listen(128)
        if candidate != port:
            click.echo(f"  Port {port} is taken, using {listener.getsockname()[1]}.")
        return listener
    raise AssertionError("unreachable: port 0 is always free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) != 0
