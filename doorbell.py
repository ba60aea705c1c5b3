"""Redis is only a doorbell: it says "come and look", never what there is to see.

Everything that matters is a row in the database before the bell is rung, so a lost ring costs at
most one sweep (rule R6). What travels through Redis is a function name from ``JOBS`` and ids, and
nothing else is ever run (rule R14).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import redis
import rq
import structlog
from flask import Flask, current_app
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException as HungJob

__all__ = ["Doorbell", "ForgedJob", "HungJob", "ShopJob"]

log = structlog.get_logger()

QUEUE_NAME = "quittance"  # one queue: with two, RQ can lose a job outright when a worker is killed
JOB_TIMEOUT_S = 60  # a job stops itself after 5 s; a minute means that it hangs
RESULT_TTL_S = 60
FAILURE_TTL_S = 7 * 24 * 3600  # long enough for a person to look at it after a holiday

JOBS = {
    "drain_inbox": "jobs.inbox.drain",
    "drain_outbox": "jobs.outbox.drain",
    "sweep": "jobs.sweep.sweep",
    "sync": "jobs.sweep.sync",
    "goods": "jobs.sweep.goods",
}


class ForgedJob(Exception):
    """A job in Redis that we did not put there."""


class ShopJob(Job):
    """A job as we accept it: a function of ``JOBS`` with text or number arguments.

    RQ's own class unpickles by default, imports whatever name the job carries, and calls what its
    callbacks and webhooks name; whoever can write to Redis could run code with it.
    """

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None):
        super().__init__(id, connection=connection, serializer=JSONSerializer)

    def _deserialize_data(self) -> None:
        super()._deserialize_data()
        name, arguments, named = self._func_name, self._args, self._kwargs
        if name not in JOBS.values() or self._instance is not None:
            raise ForgedJob(f"refused a job that calls {str(name)[:80]!r}")
        if named or not isinstance(arguments, list | tuple):
            raise ForgedJob(f"refused a job with odd arguments: {name}")
        if not all(isinstance(argument, str) for argument in arguments):
            raise ForgedJob(f"refused a job whose arguments are no ids: {name}")

    def restore(self, raw_data: Any) -> Any:
        super().restore(raw_data)
        self.webhooks = []

    success_callback = failure_callback = stopped_callback = property(lambda self: None)

    def perform(self) -> Any:
        """Run inside an application context of its own, so that no session outlives the job."""
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        with app.app_context():
            return super().perform()


class Doorbell:
    """The connection to Redis and the one queue on it."""

    connect: Callable[[], redis.Redis]
    connection: redis.Redis
    queue: rq.Queue

    def init_app(self, app: Flask, *, url: str, flag_ttl_s: int) -> None:
        """``url`` is ``redis://``, ``rediss://`` or ``memory://`` (embedded, this process only)."""
        self.flag_ttl_s = flag_ttl_s
        self.connect = _way_to(url)
        self.connection = self.connect()
        self.queue = rq.Queue(
            QUEUE_NAME,
            connection=self.connection,
            job_class=ShopJob,
            serializer=JSONSerializer,
            default_timeout=JOB_TIMEOUT_S,
        )
        app.extensions["doorbell"] = self

    def enqueue(self, name: str, *, within_s: int | None = None) -> bool:
        """Put a job on the queue; False when Redis does not answer, which is never an error.

        A job that nobody took ``within_s`` seconds is dropped: the next one is there by then.
        """
        try:
            self.queue.enqueue(
                JOBS[name],
                ttl=within_s,
                result_ttl=RESULT_TTL_S,
                failure_ttl=FAILURE_TTL_S,
                retry=rq.Retry(max=3),
            )
        except RedisError as error:
            log.warning("doorbell.silent", job=name, error=type(error).__name__)
            return False
        return True

    def ring(self, name: str) -> None:
        """Ask for a drain, unless one is already on its way.

        The flag lives at most one sweep, because the drain that should clear it may be lost. It
        is never the job's own existence: RQ keeps a failed id blocked for long.
        """
        try:
            if not self.connection.set(_flag(name), 1, nx=True, ex=self.flag_ttl_s):
                return
        except RedisError as error:
            log.warning("doorbell.silent", job=name, error=type(error).__name__)
            return
        self.enqueue(name)

    def answered(self, name: str) -> None:
        """Clear the flag. Call it *before* looking, so that a ring meanwhile is not lost."""
        try:
            self.connection.delete(_flag(name))
        except RedisError as error:
            log.warning("doorbell.silent", job=name, error=type(error).__name__)


def _flag(name: str) -> str:
    return f"{QUEUE_NAME}:ringing:{name}"


def _way_to(url: str) -> Callable[[], redis.Redis]:
    """Makes clients that give up at once: a shopper's request must not wait for a doorbell.

    RQ's worker lengthens the timeouts of the connection it is given, so it gets one of its own; in
    memory, to the same server.
    """
    if url.startswith("memory:"):
        from fakeredis import FakeRedis, FakeServer

        return partial(FakeRedis, server=FakeServer())
    give_up = {"socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    return partial(redis.Redis.from_url, url, **give_up)
