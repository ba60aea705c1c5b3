"""A real Chromium before a real shop: its web server, worker, clock and sandbox in one process.

Nothing here is imported from the shop: it is opened with ``flask demo`` and met over HTTP.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from storm.processes.servers import free_port
from tests.plugins.services import cannot_run

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LAUNCH = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
ADDRESS = {
    "email": "maya@example.com",
    "name": "Maya Lindqvist",
    "line1": "Sonnenallee 12",
    "postal_code": "12047",
    "city": "Berlin",
}
GOOD_CARD = "4242 4242 4242 4242"
DECLINED_CARD = "4000 0000 0000 0002"
SLOWEST_START_S = 30

_addresses = count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in report.user_properties:
                if name == "measured":
                    terminalreporter.line(f"measured: {value}")


# Package scope: while Playwright runs, nobody else in this process can start it.
@pytest.fixture(scope="package")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        bundled = playwright.chromium.executable_path
        program = next(filter(None, map(shutil.which, NAMES)), None) or (
            bundled if Path(bundled).exists() else None
        )
        if program is None:
            cannot_run(request.config, "Chromium", f"no program called {' or '.join(NAMES)}")
        chromium = playwright.chromium.launch(executable_path=program, args=LAUNCH)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def the_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoShop]:
    """One shop for all tests, whose clock leaves the paying to the webhook and the landing page."""
    folder = tmp_path_factory.mktemp("shop")
    with opened(folder, RECONCILE_SECONDS="3600", SWEEP_SECONDS="600") as shop:
        yield shop
        assert shop.check()["violations"] == []


@pytest.fixture
def shop(the_shop: DemoShop) -> Iterator[DemoShop]:
    """The shop with every fault switched off, before and after."""
    the_shop.chaos(clear=True)
    yield the_shop
    the_shop.chaos(clear=True)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Call it with a shop for somebody with a browser of their own; no page may complain."""
    visitors: list[Visitor] = []

    def arrives(shop: DemoShop, **context: Any) -> Visitor:
        visitors.append(Visitor(shop, browser, **context))
        return visitors[-1]

    yield arrives
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for visitor in visitors:
        visitor.context.close()
    assert complaints == [], "the browser's console stays empty"


@pytest.fixture(scope="package")
def admin_state(browser: Browser, the_shop: DemoShop) -> Any:
    """The cookies of somebody who has just signed in by a one-time link."""
    link = the_shop.flask("admin", "create", "owner@example.com").stdout.strip()
    context = browser.new_context()
    page = context.new_page()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/orders")
    state = context.storage_state()
    context.close()
    return state


@dataclass
class DemoShop:
    """A shop opened by ``flask demo``, and the switches of its sandbox."""

    origin: str
    sandbox: str
    admin_link: str
    folder: Path
    environment: dict[str, str] = field(repr=False)

    def chaos(self, **switches: Any) -> None:
        self.tell("chaos", **switches)

    def tell(self, what: str, **facts: Any) -> Any:
        """Use the sandbox's switchboard."""
        request = urllib.request.Request(
            f"{self.sandbox}/_sandbox/{what}",
            json.dumps(facts).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def deliveries(self) -> list[dict[str, Any]]:
        """What became of each webhook, oldest first."""
        with urllib.request.urlopen(f"{self.sandbox}/_sandbox/deliveries", timeout=10) as answer:
            result: list[dict[str, Any]] = json.load(answer)
            return result

    def stripe_is_silent(self, for_s: float = 3600) -> None:
        """Nobody learns of a payment: webhooks are that late, and reading a session fails."""
        self.chaos(delay_s=for_s, error_500={"pct": 100, "only": "GET /v1/checkout/sessions/*"})

    def check(self) -> dict[str, Any]:
        """What ``flask check`` finds, on our side and in Stripe's ledger."""
        told = self.flask("check", "--json")
        result: dict[str, Any] = json.loads(told.stdout)
        return result

    def flask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command for this shop, with the settings that it runs on."""
        secrets = json.loads((self.folder / "demo.json").read_text())
        settings = {
            **secrets,
            "DATABASE_URL": f"sqlite:///{self.folder / 'shop.db'}",
            "REDIS_URL": "redis://127.0.0.1:1/0",  # nobody is there, and nothing may need it
            "PUBLIC_ORIGIN": self.origin,
            "STRIPE_API_BASE": self.sandbox,
            "SMTP_URL": "smtp://127.0.0.1:1",
            "MAIL_FROM": "shop@example.test",
        }
        return subprocess.run(
            [sys.executable, "-m", "flask", *command],
            cwd=ROOT,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=60,
        )


@contextmanager
def opened(folder: Path, **settings: str) -> Iterator[DemoShop]:
    """Open a shop in ``folder`` and wait until it has said where it is."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        # Each visitor comes from an address of their own, as behind a proxy: limits count by it.
        "PROXY_HOPS": "1",
        **settings,
    }
    log = folder / "shop.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "demo", "--port", str(free_port()),
             "--instance", str(folder)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, which then close the shop
        )  # fmt: skip
    try:
        told = _told(process)
        yield DemoShop(
            _found(r"Your shop +(\S+)", told, log),
            _found(r"Sandbox +(\S+)/_sandbox/", told, log),
            _found(r"Admin \(once\) +(\S+)", told, log),
            folder,
            environment,
        )
    finally:
        process.terminate()
        process.wait(SLOWEST_START_S)
    assert "Traceback" not in log.read_text(), log.read_text()


def _told(process: subprocess.Popen[str]) -> str:
    """What the shop says until it is open."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if "Ctrl-C" in line:
            break
    return told


def _found(pattern: str, told: str, log: Path) -> str:
    found = re.search(pattern, told)
    assert found, f"the shop did not open: {told}\n{log.read_text()[-3000:]}"
    return found[1]


class Visitor:
    """Somebody with a browser; notes whatever its console complains about."""

    def __init__(self, shop: DemoShop, browser: Browser, **context: Any) -> None:
        self.shop = shop
        number = next(_addresses)
        self.context: BrowserContext = browser.new_context(
            base_url=shop.origin,
            extra_http_headers={"X-Forwarded-For": f"10.0.{number // 250}.{number % 250 + 1}"},
            **context,
        )
        self.context.set_default_timeout(10_000)
        self.complaints: list[str] = []
        # Parts of complaints that a test causes itself; and Chromium's own word for a page change
        # that it did not animate because the machine was busy, which no shopper can see.
        self.expected: list[str] = ["Transition was aborted"]
        self.context.on("console", lambda message: self._hear(message.type, message.text))
        self.context.on("weberror", lambda error: self._hear("error", str(error.error)))
        self.page: Page = self.context.new_page()

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in self.expected):
            self.complaints.append(f"{self.page.url}: {text}")

    # What a shopper does

    def opens(self, path: str) -> Response | None:
        return self.page.goto(path)

    def presses(self, name: str) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def follows(self, name: str) -> None:
        self.page.get_by_role("link", name=name).first.click()

    def puts_in_basket(self, slug: str = "enamel-mug") -> None:
        self.opens(f"/products/{slug}")
        self.presses("Add to basket")
        self.follows("Checkout")

    def fills_in(self, **changes: str) -> None:
        for name, value in (ADDRESS | changes).items():
            self.page.locator(f"#{name}").fill(value)

    def goes_to_payment(self, slug: str = "enamel-mug", **changes: str) -> str:
        """From an empty basket to the payment page; returns the session's id."""
        self.puts_in_basket(slug)
        self.fills_in(**changes)
        self.presses("Pay")
        self.page.wait_for_url(f"{self.shop.sandbox}/c/pay/*")
        return urlsplit(self.page.url).path.rsplit("/", 1)[-1]

    def pays(self, card: str = GOOD_CARD) -> None:
        self.page.locator("#number").fill(card)
        self.presses("Pay")

    def buys(self, slug: str = "enamel-mug", **changes: str) -> str:
        session_id = self.goes_to_payment(slug, **changes)
        self.pays()
        self.page.wait_for_url("**/checkout/success?*")
        return session_id

    # What a shopper sees

    @property
    def headline(self) -> str:
        return self.page.locator("h1").inner_text()

    @property
    def basket_count(self) -> int:
        return int(self.page.locator("#basket-count").inner_text().split()[0])

    def sees(self, text: str, *, within_s: float = 10) -> None:
        """Wait for it, and fail with what is there instead."""
        try:
            self.page.get_by_text(text).first.wait_for(timeout=within_s * 1000)
        except Exception:
            shown = self.page.locator("body").inner_text()[:1500]
            raise AssertionError(f"{text!r} is not on {self.page.url}: {shown}") from None

    def sees_paid(self, *, within_s: float = 10) -> None:
        self.sees("You’re all set.", within_s=within_s)

    def order(self, session_id: str) -> dict[str, Any]:
        """The order as the API shows it, which only reads."""
        answer = self.context.request.get(f"/api/orders/by-session/{session_id}")
        assert answer.ok, answer.text()
        result: dict[str, Any] = answer.json()
        return result
