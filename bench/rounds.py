"""The rounds: both sides of every figure in turns, on the same servers, with equal work."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from bench import client, events, listeners, raw
from bench.client import Load
from bench.figures import Figure
from bench.goods import BaselineTables, Purchase, ShopTables, purchases
from bench.servers import Servers, Web, cpu_seconds

WEBHOOK = "/stripe/webhook"
SETTLED_WITHIN_S = 120
LISTENING = 8  # as many as the server has threads, so that some of them are too many
# While this key is there, nobody is called to send the receipts: both sides only owe them.
RECEIPT_BELL = "quittance:ringing:drain_outbox"


class WorkNotDone(Exception):
    """One side answered something else than asked, so that its time means nothing."""


@dataclass(frozen=True)
class Scale:
    """How many of each kind in a round."""

    rounds: int
    hellos: int
    ingested: int
    handwritten: int
    flowing: int
    raw: int
    pages: int


FULL = Scale(rounds=7, hellos=2000, ingested=1000, handwritten=500, flowing=800, raw=800, pages=600)
QUICK = Scale(rounds=1, hellos=200, ingested=100, handwritten=50, flowing=50, raw=50, pages=50)


class Bench:
    """All servers, warm, and the figures as far as they are measured."""

    def __init__(self, servers: Servers, scale: Scale) -> None:
        self.scale = scale
        self.url = servers.env["DATABASE_URL"]
        self.key = servers.env["SECRET_KEY"]
        servers.upgrade_shop()
        self.hello = servers.web("bench.hello:app", "hello")
        self.shop = servers.web("app:create_app()", "shop")
        self.baseline = servers.web(
            "bench.baseline:create_app()",
            "baseline",
            BASELINE_DATABASE_URL=servers.baseline_database.replace(
                "postgresql://", "postgresql+psycopg://"
            ),
        )
        redis.Redis.from_url(servers.env["REDIS_URL"]).set(RECEIPT_BELL, "held by the bench")
        self.worker = servers.worker()
        self.tables = ShopTables(self.url)
        self.baseline_tables = BaselineTables(servers.baseline_database)
        self.settled = self.settled_by_baseline = 0

        self.ingest = Figure("ingest_vs_hello", 0.30, "requests/s", "hello")
        self.ingest_handwritten = Figure("ingest_vs_handwritten", 2.5, "requests/s", "hand-written")
        self.cpu = Figure("ingest_cpu", 4.0, "ms of CPU per request", "hello", at_most=True)
        self.flow = Figure("paid_vs_handwritten", 2.0, "orders paid/s", "hand-written")
        self.drain = Figure("drain_vs_raw", 0.30, "events/s", "raw psycopg")
        self.pages = Figure("page_beside_streams", 2.0, "ms per page", "no stream", at_most=True)
        self._warm_up()

    def figures(self) -> list[Figure]:
        return [
            self.ingest,
            self.ingest_handwritten,
            self.cpu,
            self.flow,
            self.drain,
            self.pages,
        ]

    def last_round(self) -> str:
        return ", ".join(
            f"{figure.name} {figure.rounds[-1]:.2f} ({figure.ours[-1]:.4g}/{figure.theirs[-1]:.4g})"
            for figure in self.figures()
        )

    def measure_round(self) -> None:
        self._measure(self.scale)

    def _warm_up(self) -> None:
        """A round that does not count: connections, caches, prepared statements."""
        self._measure(QUICK)
        for figure in self.figures():
            figure.ours.clear()
            figure.theirs.clear()

    def _measure(self, scale: Scale) -> None:
        stored, flowing = purchases(scale.ingested), purchases(scale.flowing)
        by_hand, for_raw = purchases(scale.handwritten), purchases(scale.raw)
        self.tables.add_open([*stored, *flowing, *for_raw])
        self.baseline_tables.add_open(by_hand)

        hello, hello_cpu = self._load(self.hello, [events.hello()] * scale.hellos)
        self.worker.hold()  # what is stored now is what it drains below
        ingest, ingest_cpu = self._tell(self.shop, stored)
        self.worker.let_go()
        drained_per_s = self._drain(stored)
        handwritten, _ = self._tell(self.baseline, by_hand)
        flow, _ = self._tell(self.shop, flowing)
        paid_at = self._last_applied(flowing)
        self.tables.add_events(for_raw)
        raw_per_s = raw.run(self.url, for_raw)
        beside, alone = self._pages(scale)

        self._check(stored, flowing, for_raw, by_hand)
        self.ingest.add(ingest.per_s, hello.per_s)
        self.ingest_handwritten.add(ingest.per_s, handwritten.per_s)
        self.cpu.add(ingest_cpu, hello_cpu)
        self.flow.add(len(flowing) / (paid_at - flow.started), handwritten.per_s)
        self.drain.add(drained_per_s, raw_per_s)
        self.pages.add(beside.p50_ms, alone.p50_ms)

    def _pages(self, scale: Scale) -> tuple[Load, Load]:
        """The shop's first page, beside as many streams as it lets stay, and alone."""
        visits = [events.hello()] * scale.pages
        alone, _ = self._load(self.shop, visits)
        waiting = purchases(LISTENING)
        self.tables.add_open(waiting)
        staying = listeners.settle_down(self.shop.port, waiting, self.key)
        if not 0 < len(staying) < LISTENING:
            raise WorkNotDone(f"{len(staying)} of {LISTENING} streams were let stay")
        beside, _ = self._load(self.shop, visits)
        if any(one.ends(0.01) for one in staying):
            raise WorkNotDone("a stream ended while the pages were measured")
        self.tables.give_up(waiting)
        if not all(one.ends(listeners.ENDS_WITHIN_S) for one in staying):
            raise WorkNotDone("a stream outlived its order")
        for one in staying:
            one.close()
        return beside, alone

    def _tell(self, web: Web, told: list[Purchase]) -> tuple[Load, float]:
        path = WEBHOOK if web is self.shop else "/webhook"
        return self._load(web, [events.request(one, path) for one in told])

    def _load(self, web: Web, requests: list[bytes]) -> tuple[Load, float]:
        """The load, and the milliseconds of CPU that the web process took for each request."""
        before = cpu_seconds(web.pid)
        load = client.run(web.port, requests)
        if load.statuses != {"200": len(requests)}:
            raise WorkNotDone(f"{len(requests)} requests were answered {load.statuses}")
        return load, (cpu_seconds(web.pid) - before) / load.requests * 1000

    def _drain(self, told: list[Purchase]) -> float:
        """Events per second, from the first one applied to the last one."""
        self._wait_until_applied()
        first, last = self.tables.applied(told)
        return (len(told) - 1) / (last - first)

    def _last_applied(self, told: list[Purchase]) -> float:
        self._wait_until_applied()
        return self.tables.applied(told)[1]

    def _wait_until_applied(self) -> None:
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while waiting := self.tables.waiting():
            if time.monotonic() > deadline:
                raise WorkNotDone(f"{waiting} events were not applied in {SETTLED_WITHIN_S} s")
            time.sleep(0.05)

    def _check(self, *told: list[Purchase]) -> None:
        *ours, by_hand = (len(some) for some in told)
        self.settled += sum(ours)
        self.settled_by_baseline += by_hand
        found = self.tables.settled(), self.baseline_tables.settled()
        if found != (self.settled, self.settled_by_baseline):
            raise WorkNotDone(
                f"{found} orders are paid, not {(self.settled, self.settled_by_baseline)}"
            )
