"""The weather: what may go wrong, for how long, and whom it excuses. The seed chooses."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from storm.processes.house import House, Process
from storm.processes.servers import OwnServer

CALM = 0.92  # after this part of the storm nothing new begins
FIRST_AT_S = 2.0


@dataclass(frozen=True)
class Kind:
    """``begin`` returns what ends it."""

    name: str
    begin: Callable[[House, Random], Callable[[], None]]
    lasts_s: tuple[float, float] = (1.0, 3.0)


@dataclass
class Fault:
    """One fault of one storm; times are those of the wall clock."""

    name: str
    began_at: float
    ended_at: float = 0.0


Ending = Callable[[], None]


def _killed(who: Callable[[House], list[Process]], how: signal.Signals, all_: bool = False) -> Any:
    def begin(house: House, dice: Random) -> Ending:
        crew = who(house)
        victims = crew if all_ else [dice.choice(crew)]
        for victim in victims:
            victim.end(how)

        def end() -> None:
            for victim in victims:
                victim.start()
            for victim in victims:
                victim.wait()

        return end

    return begin


def _held(who: Callable[[House], list[Process]]) -> Any:
    def begin(house: House, dice: Random) -> Ending:
        victim = dice.choice(who(house))
        victim.signal(signal.SIGSTOP)
        return lambda: victim.signal(signal.SIGCONT)

    return begin


def _restarted(which: Callable[[House], OwnServer], *, killed: bool) -> Any:
    def begin(house: House, dice: Random) -> Ending:
        server = which(house)
        if killed:
            server.kill()
        else:
            server.stop()
        return server.start

    return begin


def _flushed(house: House, dice: Random) -> Ending:
    with redis.Redis.from_url(house.redis.url) as client:
        client.flushall()
    return lambda: None


def _wire(which: str, **weather: Any) -> Any:
    def begin(house: House, dice: Random) -> Ending:
        wire = getattr(house, which)
        before = {name: getattr(wire, name) for name in weather}
        vars(wire).update(weather)
        if weather.get("is_shut"):
            wire.cut()
        return lambda: vars(wire).update(before)

    return begin


def _cut(which: str) -> Any:
    def begin(house: House, dice: Random) -> Ending:
        getattr(house, which).cut()
        return lambda: None

    return begin


def _stripe(**switches: Any) -> Any:
    """Switches of the sandbox's own; each is off as delivered."""

    def begin(house: House, dice: Random) -> Ending:
        house.at_stripe("POST", "chaos", **switches)
        off = {name: type(value)() for name, value in switches.items()}
        off = {name: {"pct": 0, "next": 0} if value == {} else value for name, value in off.items()}
        return lambda: house.at_stripe("POST", "chaos", **off)

    return begin


def _webs(house: House) -> list[Process]:
    return house.webs


def _workers(house: House) -> list[Process]:
    return house.workers


def _clock(house: House) -> list[Process]:
    return [house.clock]


def _sandbox(house: House) -> list[Process]:
    return [house.stripe]


KINDS = (
    Kind("a web process is killed", _killed(_webs, signal.SIGKILL)),
    Kind("a worker is killed", _killed(_workers, signal.SIGKILL)),
    Kind("Redis is flushed", _flushed, (0.1, 0.2)),
    Kind("PostgreSQL restarts", _restarted(lambda house: house.postgres, killed=False), (0.5, 2)),
    Kind("the wire to Stripe loses answers", _wire("to_stripe", loses_pct=25.0), (4, 8)),
    Kind("both workers are killed", _killed(_workers, signal.SIGKILL, all_=True), (2, 6)),
    Kind("webhooks are lost", _stripe(drop_pct=100.0), (5, 10)),
    Kind("Redis is killed", _restarted(lambda house: house.redis, killed=True), (2, 6)),
    Kind("Stripe is out of reach", _wire("to_stripe", is_shut=True), (5, 12)),
    Kind("a web process is told to stop", _killed(_webs, signal.SIGTERM)),
    Kind("a worker is told to stop", _killed(_workers, signal.SIGTERM)),
    Kind("PostgreSQL is killed", _restarted(lambda house: house.postgres, killed=True), (0.5, 2)),
    Kind("the clock is killed", _killed(_clock, signal.SIGKILL), (3, 10)),
    Kind("a worker hangs", _held(_workers), (5, 12)),
    Kind("connections to PostgreSQL are cut", _cut("to_postgres"), (0.5, 1)),
    Kind("PostgreSQL's answers are lost", _wire("to_postgres", loses_pct=1.0), (3, 6)),
    Kind("PostgreSQL is slow", _wire("to_postgres", delay_s=0.02), (4, 8)),
    Kind("connections to Redis are cut", _cut("to_redis"), (0.5, 1)),
    Kind("Redis is out of reach", _wire("to_redis", is_shut=True), (3, 8)),
    Kind("Stripe answers 503", _stripe(outage="503"), (4, 10)),
    Kind("Stripe does the work and hangs up", _stripe(effect_then_cut={"pct": 30}), (4, 8)),
    Kind("Stripe turns calls away", _stripe(rate_429={"pct": 40}), (4, 8)),
    Kind("Stripe keeps failures under their key", _stripe(stored_500={"pct": 15}), (3, 6)),
    Kind("webhooks come twice and shuffled", _stripe(duplicate=2, reorder=True), (5, 10)),
    Kind("webhooks are late", _stripe(delay_s=8.0), (5, 10)),
    Kind("webhooks carry a wrong signature", _stripe(wrong_secret_pct=60.0), (4, 8)),
    Kind("the mail server is down", lambda house, dice: _mail(house, "is_shut"), (5, 10)),
    Kind("the mail server dies after its yes", lambda house, dice: _mail(house, "dies_after_yes")),
    Kind("a web process hangs", _held(_webs), (2, 5)),
    Kind("Stripe itself restarts", _killed(_sandbox, signal.SIGTERM), (0.5, 1.5)),
)


def _mail(house: House, what: str) -> Ending:
    setattr(house.mail, what, True)
    return lambda: setattr(house.mail, what, False)


class Weather:
    """A plan of the whole storm, made from the seed at once: each kind comes before any comes
    again, in an order and at moments that the seed chooses."""

    def __init__(self, house: House, seed: int, lasts_s: float, *, every_s: float = 6.0) -> None:
        self._house, self._dice = house, Random(f"weather:{seed}")
        self.faults: list[Fault] = []
        self.trouble: list[str] = []  # what the storm itself could not do
        self.now: set[str] = set()
        self._calm = threading.Event()
        self._threads: list[threading.Thread] = []
        self.plan = self._planned(lasts_s, every_s)

    def _planned(self, lasts_s: float, every_s: float) -> list[tuple[float, Kind, float]]:
        plan, at = [], FIRST_AT_S
        deck: list[Kind] = []
        while at < lasts_s * CALM:
            if not deck:
                deck = self._dice.sample(KINDS, len(KINDS))
            kind = deck.pop()
            length = min(self._dice.uniform(*kind.lasts_s), lasts_s * CALM - at + 1.0)
            plan.append((at, kind, length))
            at += self._dice.uniform(0.4, 1.6) * every_s
        return plan

    def begin(self) -> None:
        director = threading.Thread(target=self._direct, daemon=True)
        self._threads.append(director)
        director.start()

    def _direct(self) -> None:
        started = time.monotonic()
        for at, kind, length in self.plan:
            if self._calm.wait(max(0.0, started + at - time.monotonic())):
                return
            blow = threading.Thread(target=self._blow, args=(kind, length), daemon=True)
            self._threads.append(blow)
            blow.start()

    def _blow(self, kind: Kind, length: float) -> None:
        fault = Fault(kind.name, time.time())
        self.faults.append(fault)
        self.now.add(kind.name)
        try:
            end = kind.begin(self._house, self._dice)
            self._calm.wait(length)
            end()
        except Exception as error:  # noqa: BLE001 - told in the report, which then is no success
            self.trouble.append(f"{kind.name}: {type(error).__name__}: {error}")
        finally:
            fault.ended_at = time.time()
            self.now.discard(kind.name)

    def calm_down(self) -> None:
        """No more of it, and everybody stands again."""
        self._calm.set()
        for thread in list(self._threads):
            thread.join()
        for process in (self._house.stripe, *self._house.processes):
            if not process.is_running:
                self.trouble.append(f"{process.name} had ended by itself")
                process.start()
                process.wait()

    @property
    def is_over(self) -> bool:
        return all(not thread.is_alive() for thread in self._threads)

    def excuses(self, at: float, grace_s: float = 3.0) -> bool:
        """Whether something was wrong at that moment, or had been just before."""
        return any(
            fault.began_at - 0.5 <= at <= (fault.ended_at or at) + grace_s for fault in self.faults
        )
