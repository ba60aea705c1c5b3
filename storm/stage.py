"""The stage: many actors, one thread, one clock that nobody waits for, one seed that decides all.

An actor is a greenlet. It runs until it asks to be switched, which happens after every COMMIT and
around every call to Stripe; then the seed picks who goes on. No other points are needed: between a
COMMIT and the next BEGIN an actor touches nothing that others see, and inside a transaction SQLite
lets nobody else write anyway (PostgreSQL's finer interleavings are the process storm's work).

A crash is a switch from which there is no way back. The actor is left lying as it is: nothing of
it runs any more, no ``finally`` either, just as after SIGKILL.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC).timestamp()  # an ordinary Monday morning
STAY_PCT = 50  # how often an actor goes on without a switch where it could have been switched
DAWDLE_S = 0.5  # how long on average it rests otherwise, so that others get in between


class Clock:
    """Virtual seconds since 1970; only the stage moves it."""

    def __init__(self) -> None:
        self.seconds = START

    def read(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


@dataclass(eq=False)
class Actor:
    """Somebody on the stage. ``role`` names it in the story, ``mortal`` says that it may crash."""

    role: str
    play: Callable[[], Any]
    mortal: bool = False
    on_crash: Callable[[], None] | None = None
    value: Any = None
    error: BaseException | None = None
    ended: bool = False
    crashed: bool = False
    watchers: list[Actor] = field(default_factory=list)
    glet: Any = None
    waiting: bool = False  # for another actor or a bell; its present place in the queue is void
    place: int = 0  # raised with each new place in the queue, so that older ones are void


@dataclass
class Dangers:
    """What the seed may do to actors; per switch, in percent, and seconds of a stall."""

    crash_pct: float = 0.0
    stall_pct: float = 0.0
    longest_stall_s: float = 0.0


class Stage:
    """Who is on, whose turn it is, and what has happened so far."""

    def __init__(self, seed: str, clock: Clock) -> None:
        self.rng = Random(f"storm:{seed}")
        self.clock = clock
        self.dangers = Dangers()
        self.story: list[tuple[int, float, str, str]] = []
        self.steps = self.commits = self.calls = self.crashes = self.stalls = 0
        self._hash = hashlib.sha256()
        self._ready: list[tuple[Actor, int]] = []
        self._later: list[tuple[float, int, Actor, int]] = []
        self._turn = 0
        self._cast: dict[Actor, None] = {}  # everybody who came and has not left
        self._hub = getcurrent()
        self._open = True

    # -- the story

    def tell(self, text: str, role: str = "") -> None:
        """Write down what happens; the actor on stage is the subject."""
        actor = self.on_stage
        who = role or (actor.role if actor else "stage")
        self.story.append((self.steps, self.clock.seconds, who, text))
        self._hash.update(f"{self.clock.seconds:.6f}|{who}|{text}\n".encode())

    @property
    def fingerprint(self) -> str:
        """The same for two runs exactly when the same happened in them."""
        return self._hash.hexdigest()

    @property
    def on_stage(self) -> Actor | None:
        return getattr(getcurrent(), "actor", None)

    # -- entering, waiting, leaving

    def enter(
        self,
        role: str,
        play: Callable[[], Any],
        *,
        mortal: bool = False,
        on_crash: Callable[[], None] | None = None,
        after_s: float = 0.0,
    ) -> Actor:
        """Let somebody new come on stage."""
        actor = Actor(role, play, mortal, on_crash)
        actor.glet = _Body(self._perform, self._hub)
        actor.glet.actor = actor
        self._cast[actor] = None
        self._queue(actor, after_s)
        return actor

    def _perform(self) -> None:
        actor = self.on_stage
        assert actor is not None
        try:
            actor.value = actor.play()
        except GreenletExit:
            raise
        except Exception as error:  # noqa: BLE001 - whoever watches this actor deals with it
            actor.error = error
        actor.ended = True
        del self._cast[actor]
        self._call_watchers(actor)

    def wait_for(self, other: Actor, at_most_s: float | None = None) -> bool:
        """Wait until another actor has ended or crashed; False when patience ran out first."""
        me = self.on_stage
        assert me is not None
        if not (other.ended or other.crashed):
            other.watchers.append(me)
            self._sleep(me, at_most_s)
        if other.ended or other.crashed:
            return True
        other.watchers.remove(me)
        return False

    def pause(self, seconds: float) -> None:
        """Let virtual time pass for the actor on stage."""
        me = self.on_stage
        if me is None or not self._open:
            return
        self._queue(me, seconds)
        self._hub.switch()

    def doze(self, at_most_s: float) -> None:
        """Sleep until ``wake`` or until that many seconds have passed."""
        me = self.on_stage
        assert me is not None
        self._sleep(me, at_most_s)

    def wake(self, actor: Actor) -> None:
        if actor.waiting:
            actor.waiting = False
            self._queue(actor)

    def _sleep(self, me: Actor, at_most_s: float | None) -> None:
        me.waiting = True
        if at_most_s is None:
            me.place += 1
        else:
            self._queue(me, at_most_s)
        self._hub.switch()
        me.waiting = False

    def _call_watchers(self, actor: Actor) -> None:
        for watcher in actor.watchers:
            self.wake(watcher)

    def _queue(self, actor: Actor, after_s: float = 0.0) -> None:
        actor.place += 1
        if after_s <= 0:
            self._ready.append((actor, actor.place))
            return
        self._turn += 1
        at = self.clock.seconds + after_s
        heapq.heappush(self._later, (at, self._turn, actor, actor.place))

    # -- where anything may happen

    def crossroads(self, where: str, crash_pct: float | None = None) -> None:
        """The actor on stage may be switched here, may stall, may crash: the seed decides.
        ``crash_pct`` makes this place more dangerous than others, while it storms."""
        me = self.on_stage
        if me is None or not self._open:
            return
        dangers = self.dangers
        if me.mortal:
            dice, crashes = self.rng.random() * 100, dangers.crash_pct
            if crash_pct is not None and crashes:
                crashes = crash_pct
            if dice < crashes:
                self._crash(me, where)
            if dice < crashes + dangers.stall_pct:
                seconds = self.rng.uniform(0.1, dangers.longest_stall_s)
                self.stalls += 1
                self.tell(f"stalls for {seconds:.0f} s {where}")
                self.pause(seconds)
                return
        if self.rng.random() * 100 >= STAY_PCT:
            self.pause(self.rng.expovariate(1 / DAWDLE_S))

    def _crash(self, me: Actor, where: str) -> None:
        self.crashes += 1
        self.tell(f"crashes {where}")
        me.crashed = True
        me.place += 1
        if me.on_crash:
            me.on_crash()
        self._call_watchers(me)
        self._hub.switch()

    # -- the director

    def run(self, until: Callable[[], bool] | None = None, until_s: float | None = None) -> None:
        """Play until ``until`` holds, the clock reaches ``until_s``, or nobody wants to go on."""
        while not (until and until()):
            actor = self._next(until_s)
            if actor is None:
                return
            self.steps += 1
            actor.glet.switch()
            if actor.ended and actor.error and not actor.watchers:
                raise actor.error  # nobody watches: the storm itself is broken

    def _next(self, until_s: float | None) -> Actor | None:
        while True:
            while self._later and self._later[0][0] <= self.clock.seconds:
                _, _, actor, place = heapq.heappop(self._later)
                self._ready.append((actor, place))
            while self._ready:
                chosen = self.rng.randrange(len(self._ready))
                self._ready[chosen], self._ready[-1] = self._ready[-1], self._ready[chosen]
                actor, place = self._ready.pop()
                if actor.place == place and not actor.ended:
                    return actor
            if not self._later:
                return None
            if until_s is not None and self._later[0][0] > until_s:
                self.clock.seconds = until_s
                return None
            self.clock.seconds = self._later[0][0]

    def end_stalls(self, within_s: float) -> None:
        """Nobody is frozen any longer than ``within_s`` seconds from now."""
        late = self.clock.seconds + within_s
        self._later = [
            (min(at, late) if actor.mortal else at, turn, actor, place)
            for at, turn, actor, place in self._later
        ]
        heapq.heapify(self._later)

    def clear(self) -> None:
        """Take everybody off; what is left of the crashed is unwound where nobody sees it."""
        self._open = False
        for actor in self._cast:
            with contextlib.suppress(Exception):
                actor.glet.throw(GreenletExit)
        self._cast.clear()
        self._ready.clear()
        self._later.clear()


class _Body(greenlet):
    """A greenlet that knows whose it is."""

    actor: Actor
