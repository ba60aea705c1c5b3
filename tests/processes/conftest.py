"""The shop as it is deployed: web, worker and clock as processes, on PostgreSQL and Redis.

Nothing here reaches into a running shop. It is met over HTTP, its commands are run, its tables are
read; and its processes may be held, killed and started again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
import requests
from psycopg import sql
from psycopg.rows import dict_row

from storm.processes.servers import (
    OwnServer,
    Unavailable,
    for_sqlalchemy,
    free_port,
    postgres_version,
)
from tests.plugins.services import cannot_run, find_postgres, note, place, postgres_database
from tests.shop import TestShops

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 40  # four Pythons importing at once on two busy cores
ANSWER_WITHIN_S = 20
MUG = "MUG-FOR-35"
CONTACT = {"name": "Maya Lindqvist", "email": "maya@example.com", "phone": "+49 30 1234567"}
SHIPPING = {
    "line1": "Sonnenallee 12",
    "line2": "Hinterhaus",
    "city": "Berlin",
    "postalCode": "12047",
    "state": None,
    "country": "DE",
    "delivery": "express",
}

_addresses = count(1)


@pytest.fixture(scope="package")
def stocked(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with the shop's tables and the demo's goods, to make copies of."""
    with ExitStack() as stack:
        try:
            server = find_postgres(stack)
        except Unavailable as reason:
            cannot_run(request.config, "PostgreSQL", str(reason))
        note(request.config, "ran on", f"PostgreSQL {postgres_version(server)} {place(server)}")
        url = stack.enter_context(postgres_database(server))
        with TestShops(for_sqlalchemy(url)).opened():
            pass
        yield url


@pytest.fixture
def database(stocked: str) -> Iterator[str]:
    """A copy for one test. Dropped with whoever is still connected."""
    server, _, original = stocked.rpartition("/")
    name = f"{original}_{uuid4().hex[:6]}"
    copy, of = sql.Identifier(name), sql.Identifier(original)
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(copy, of))
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))


@pytest.fixture
def house(
    database: str, own_redis: Callable[..., OwnServer], tmp_path: Path
) -> Iterator[Callable[..., House]]:
    """Call it with settings, for a shop of which only Stripe's stand-in is running yet."""
    with ExitStack() as stack:

        def built(**settings: str) -> House:
            made = House(database, own_redis().url, tmp_path, settings)
            stack.callback(made.close)
            return made

        yield built


def until(claim: Callable[[], Any], within_s: float = ANSWER_WITHIN_S) -> Any:
    """Ask until it holds; returns what it answered then."""
    give_up_at = time.monotonic() + within_s
    while not (answer := claim()):
        assert time.monotonic() < give_up_at, "it never came true"
        time.sleep(0.02)
    return answer


class Process:
    """One process of the shop, with its children; it may be held, killed and started again."""

    def __init__(
        self,
        house: House,
        name: str,
        *command: str,
        is_up: Callable[[], bool] = lambda: True,
        **env: str,
    ) -> None:
        self._log = house.folder / f"{name}.log"
        self._command = [sys.executable, "-m", *command]
        self._env = house.env | env
        self._is_up = is_up
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start it; ``wait`` for it, so that several can start side by side."""
        with self._log.open("ab") as output:
            self._running = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own: signals reach its children too
            )

    def wait(self) -> None:
        """Until it answers."""

        def is_up() -> bool:
            assert self._running is not None
            assert self._running.poll() is None, self._log.read_text()[-3000:]
            with suppress(requests.ConnectionError, redis.RedisError):
                return self._is_up()
            return False

        until(is_up, START_WITHIN_S)

    def kill(self) -> None:
        """As a crash would: without a word."""
        self._signal(signal.SIGKILL)
        if self._running:
            self._running.wait()

    def hold(self) -> None:
        """Stop it where it stands."""
        self._signal(signal.SIGSTOP)

    def let_go(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, what: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._running:
                os.killpg(self._running.pid, what)


class House:
    """One shop: two web processes, a worker and a clock, none of them started yet, and Stripe's
    stand-in, which tells the second web process what happens."""

    def __init__(
        self, database: str, redis_url: str, folder: Path, settings: dict[str, str]
    ) -> None:
        self.database, self.folder = database, folder
        self._processes: list[Process] = []
        self.redis = redis.Redis.from_url(redis_url)
        port_a, port_b, port_of_stripe = str(free_port()), str(free_port()), str(free_port())
        self.a, self.b = f"http://127.0.0.1:{port_a}", f"http://127.0.0.1:{port_b}"
        self._stripe_url = f"http://127.0.0.1:{port_of_stripe}"
        self.env = _bare_environment() | {
            "DATABASE_URL": for_sqlalchemy(database),
            "REDIS_URL": redis_url,
            "SECRET_KEY": "a key that lives as long as one test does",
            "PUBLIC_ORIGIN": self.a,
            "STRIPE_SECRET_KEY": "sk_test_processes",
            "STRIPE_PUBLISHABLE_KEY": "pk_test_processes",
            "STRIPE_WEBHOOK_SECRET": "whsec_processes",
            "STRIPE_API_BASE": self._stripe_url,
            "SMTP_URL": "smtp://127.0.0.1:1",  # nobody: what is owed stays to be counted
            "MAIL_FROM": "shop@example.com",
            "PROXY_HOPS": "1",  # so that each shopper has an address of their own
            **settings,
        }
        gunicorn = "gunicorn --config gunicorn.conf.py app:create_app()".split()
        sandbox = f"sandbox --port {port_of_stripe} --webhook-secret whsec_processes".split()
        self.web_a, self.web_b = (
            Process(self, name, *gunicorn, is_up=lambda at=at: _answers(f"{at}/healthz"), PORT=port)
            for name, at, port in (("web-a", self.a, port_a), ("web-b", self.b, port_b))
        )
        self.worker = self.process("worker", is_up=self._has_new_worker)
        self.clock = self.process("clock", is_up=self._has_clock)
        self._stripe = Process(
            self,
            "stripe",
            *(*sandbox, "--webhook-url", f"{self.b}/stripe/webhook"),
            is_up=lambda: _answers(f"{self._stripe_url}/_sandbox/clock"),
        )
        self._processes += self.web_a, self.web_b, self._stripe
        self._workers_before: set[bytes] = set()
        self._stripe.start()

    def process(self, *command: str, is_up: Callable[[], bool] = lambda: True) -> Process:
        """A command of the shop, as a process that a test may kill; it ends with the house."""
        made = Process(self, command[0], "flask", *command, is_up=is_up)
        self._processes.append(made)
        return made

    def starts(self, *processes: Process) -> None:
        """Start them side by side, and return once all of them answer."""
        self._workers_before = self._workers()
        for process in processes:
            process.start()
        for process in (*processes, self._stripe):
            process.wait()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        self.redis.close()

    def _workers(self) -> set[bytes]:
        return set(self.redis.smembers("rq:workers"))

    def _has_new_worker(self) -> bool:
        """One that was killed stays in the list for a while."""
        return bool(self._workers() - self._workers_before)

    def _has_clock(self) -> bool:
        return bool(self.rows("SELECT 1 FROM settings WHERE name = 'heartbeat:clock'"))

    # -- Stripe's side

    def pays(self, session_id: str) -> str:
        """What came of it: ``paid``, or ``closed`` for a page that can no longer be paid."""
        return str(self._at_stripe("POST", "pay", session=session_id)["outcome"])

    def all_told(self) -> bool:
        """Whether everything that Stripe had to tell was told, and answered with a 2xx."""
        deliveries = self._at_stripe("GET", "deliveries")
        return all(delivery["state"] == "delivered" for delivery in deliveries)

    def told_again(self) -> None:
        """Stripe repeats at once what was not answered; by itself it would take its time."""
        self._at_stripe("POST", "flush")

    def _at_stripe(self, method: str, name: str, **body: Any) -> Any:
        """The sandbox's switchboard."""
        url = f"{self._stripe_url}/_sandbox/{name}"
        answer = requests.request(method, url, json=body, timeout=ANSWER_WITHIN_S)
        answer.raise_for_status()
        return answer.json()

    # -- looking

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[call-overload]

    def number_of(self, table_and_condition: str) -> int:
        return int(self.rows(f"SELECT count(*) AS n FROM {table_and_condition}")[0]["n"])

    @contextmanager
    def locked(self, rows: str) -> Iterator[None]:
        """Keep rows locked, so that whoever wants to write them stops there and waits; whoever only
        points at them, with a foreign key, does not."""
        with psycopg.connect(self.database) as connection:
            connection.execute(f"SELECT 1 FROM {rows} FOR NO KEY UPDATE")
            yield
            connection.rollback()

    def is_waited_for(self) -> bool:
        """Whether somebody waits for what ``locked`` keeps."""
        waiting = "wait_event_type = 'Lock' AND datname = current_database()"
        return self.number_of(f"pg_stat_activity WHERE {waiting}") > 0

    def runs(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of the shop, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *command],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def proves(self) -> bool:
        """``flask check`` holds, also against Stripe's ledger; else it says what does not."""
        done = self.runs("check", "--json")
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        assert report["violations"] == []
        return done.returncode == 0


def _answers(address: str) -> bool:
    # A port is open while the app behind it is still being imported: wait for the answer.
    return requests.get(address, timeout=START_WITHIN_S).ok


def _bare_environment() -> dict[str, str]:
    """Without whatever setting this machine has."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}


@dataclass(frozen=True)
class Bought:
    """A checkout whose payment page is open."""

    order_id: str
    session_id: str
    url: str


class Shopper:
    """Somebody with a browser, whom a load balancer may send to either web process."""

    def __init__(self, house: House) -> None:
        number = next(_addresses)
        self._browser = requests.Session()
        self._browser.headers["X-Forwarded-For"] = f"10.1.{number // 250}.{number % 250 + 1}"
        page = self.opens(f"{house.a}/products/enamel-mug")
        token = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert token is not None
        self._browser.headers["X-CSRFToken"] = token[1]

    def opens(self, address: str) -> str:
        page = self._browser.get(address, timeout=ANSWER_WITHIN_S)
        page.raise_for_status()
        return page.text

    def posts(self, address: str, **body: Any) -> requests.Response:
        return self._browser.post(address, json=body, timeout=ANSWER_WITHIN_S)

    def checks_out(self, web: str, quantity: int = 1) -> Bought:
        answer = self.posts(
            f"{web}/api/payments/create-checkout-session",
            items=[{"sku": MUG, "quantity": quantity}],
            contact=CONTACT,
            shipping=SHIPPING,
        )
        assert answer.status_code == 201, answer.text
        said = answer.json()
        return Bought(said["orderId"], said["sessionId"], said["url"])

    def order(self, web: str, bought: Bought) -> dict[str, Any]:
        """As the API shows it, which only reads and asks nobody."""
        result: dict[str, Any] = json.loads(self.opens(f"{web}/api/orders/{bought.order_id}"))
        return result

    def sees_paid(self, web: str, bought: Bought) -> dict[str, Any]:
        """The order, once it is paid."""

        def paid() -> dict[str, Any] | None:
            order = self.order(web, bought)
            return order if order["paymentStatus"] == "paid" else None

        result: dict[str, Any] = until(paid)
        return result
