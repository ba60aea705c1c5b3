"""Workers: RQ as we run it (rule R15)."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import structlog
from flask import Flask, current_app
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty
from sqlalchemy.exc import SQLAlchemyError

import jobs.inbox
import jobs.outbox
import jobs.sweep  # noqa: F401 - jobs are resolved by name; importing them now is paid once
from doorbell import ShopJob
from extensions import doorbell
from services import alarms, leases

log = structlog.get_logger()

# An idle worker wakes this many seconds minus 15 after it went to sleep: every 10 s, so that its
# heartbeat is fresh and RQ's maintenance (which gives back the jobs of killed workers) runs.
WORKER_TTL_S = 25
MAINTENANCE_S = 60
BEAT_S = 10
WATCH_S = 60  # for alerts, in case the clock is what is silent
REDIS_PAUSE_S = 2


class ShopWorker(SimpleWorker):
    """Runs jobs in its own process, one after the other, and finishes the one it has on SIGTERM.

    No fork per job: a drain serves many events, keeps its database connection, and stops by
    itself after 5 s, well inside the 30 s that a stopping dyno has.
    """

    def __init__(self, app: Flask, **settings: Any) -> None:
        self._app = app
        self._beaten_at = self._watched_at = 0.0
        super().__init__(
            [doorbell.queue.name],
            connection=doorbell.connect(),
            job_class=ShopJob,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_S,
            maintenance_interval=MAINTENANCE_S,
            log_job_description=False,
            **settings,
        )

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        super().heartbeat(timeout, pipeline)
        if time.monotonic() - self._beaten_at >= BEAT_S:
            self._beaten_at = time.monotonic()
            with self._app.app_context(), contextlib.suppress(SQLAlchemyError):
                leases.beat("worker")  # a silent database is noticed by the job itself
                if time.monotonic() - self._watched_at >= WATCH_S:
                    self._watched_at = time.monotonic()
                    alarms.watch()


class EmbeddedWorker(ShopWorker):
    """The same in a thread: no signals, and timeouts by timer."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        pass


def work() -> None:
    """Run until told to stop; start again whenever Redis comes back, because RQ's worker exits."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    while True:
        try:
            worker = ShopWorker(app)
            worker.work(logging_level="WARNING")
            if worker._shutdown_requested_date is not None:
                log.info("worker.stopped")
                return
        except RedisError as error:
            log.warning("worker.redis_away", error=type(error).__name__)
        time.sleep(REDIS_PAUSE_S)


def start_embedded(app: Flask) -> None:
    """A worker thread of this process; ends with it."""

    def run() -> None:
        with app.app_context():
            EmbeddedWorker(app, name=f"embedded-{threading.get_ident()}").work(
                logging_level="WARNING"
            )

    threading.Thread(target=run, name="worker", daemon=True).start()
