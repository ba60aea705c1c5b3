"""The clock: a small loop under a lease in the database, so that only one of many ticks.

RQ's own cron exits when Redis dies and has no leader; this one works on without Redis.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from extensions import doorbell
from services import alarms, foreign_goods, leases, reconcile

log = structlog.get_logger()

LEASE = "clock"
LEASE_S = 30  # a dead clock is replaced after this
BEAT_S = 5


@dataclass(slots=True)
class Periodic:
    """Something that happens every ``every_s`` seconds; ``next_at`` is monotonic."""

    name: str
    every_s: float
    work: Callable[[], Any]
    next_at: float = 0.0
    is_own: bool = False  # the clock's own work: a worker may be what is wrong


def periodic(app: Flask) -> list[Periodic]:
    """What the clock does: while Redis answers it rings, otherwise it does the work itself."""
    settings = app.extensions["settings"]
    tasks = [
        Periodic("sweep", settings.sweep_seconds, reconcile.sweep),
        Periodic("sync", settings.reconcile_seconds, reconcile.by_clock),
        Periodic("watch", alarms.EVERY_S, alarms.watch, is_own=True),
    ]
    if settings.catalogue:
        # Never done by the clock itself: a catalogue that hangs would stop it, and goods can wait.
        tasks.append(Periodic("goods", foreign_goods.EVERY_S, lambda: None))
    return tasks


def tick(tasks: list[Periodic], holder: str) -> None:
    """One beat: keep the lease, and start what is due. Failures wait for the next beat."""
    if not leases.take_lease(LEASE, holder, LEASE_S):
        return
    leases.beat("clock")
    for task in tasks:
        if time.monotonic() < task.next_at:
            continue
        task.next_at = time.monotonic() + task.every_s
        if task.is_own or not doorbell.enqueue(task.name, within_s=max(1, int(task.every_s))):
            task.work()


def tick_forever(stop: threading.Event | None = None) -> None:
    """Beat until told to stop, and let the next clock start at once."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    stop = stop or _stopped_by_signal()
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    tasks = periodic(app)
    while not stop.is_set():
        with app.app_context():
            try:
                tick(tasks, holder)
            except SQLAlchemyError as error:
                log.warning("clock.database_away", error=type(error).__name__)
            except Exception:  # the clock outlives whatever it starts
                log.exception("clock.failed")
        stop.wait(BEAT_S)
    with app.app_context():
        leases.give_up_lease(LEASE, holder)
    log.info("clock.stopped")


def start_embedded(app: Flask) -> threading.Event:
    """A clock thread of this process; set the event to stop it."""
    stop = threading.Event()

    def run() -> None:
        with app.app_context():
            tick_forever(stop)

    threading.Thread(target=run, name="clock", daemon=True).start()
    return stop


def _stopped_by_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
