"""The queue as it stands in Redis: who works on it, and which jobs failed.

Only a doorbell hangs there (rule R6): a lost or dropped job costs at most one sweep. Whatever is
read goes through our own job class, which opens no pickle and knows no job but ours (rule R14).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError
from rq.exceptions import DeserializationError, InvalidJobOperation, NoSuchJobError
from rq.worker_registration import get_keys

from domain.clock import now
from domain.errors import Conflict, NotFound, ShopError
from extensions import ForgedJob, doorbell
from services import auth

MOST_SHOWN = 50
LONGEST_REASON = 200
LONGEST_ERROR = 300
WORKER_KEY = "rq:worker:"


class QueueAway(ShopError):
    code = "queue_away"
    http_status = 503
    headline = "Redis does not answer"

    def __init__(self) -> None:
        super().__init__(
            "The queue cannot be read, and nothing was changed. Orders go on: the clock does the "
            "work itself until Redis is back."
        )


class ReasonMissing(ShopError):
    code = "reason_missing"
    http_status = 422
    headline = "Say why"

    def __init__(self) -> None:
        super().__init__(f"Say why the job is dropped, in at most {LONGEST_REASON} characters.")


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker as it last reported (UTC); ``doing`` is the name of the job it is busy with."""

    name: str
    host: str
    is_busy: bool
    doing: str
    last_beat: datetime | None
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """``error`` is the last line of what went wrong; one that is not ours is never run again."""

    id: str
    name: str
    is_ours: bool
    arguments: list[str]
    error: str
    tries_left: int
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Queue:
    depth: int
    oldest_wait_s: float | None
    running: int
    workers: list[SeenWorker]
    failed: list[FailedJob]
    failed_count: int


def look() -> Queue:
    """Everything as it stands. Raises QueueAway."""
    try:
        queue = doorbell.queue
        registry = queue.failed_job_registry
        failed_ids = registry.get_job_ids(end=MOST_SHOWN - 1, desc=True, cleanup=False)
        return Queue(
            depth=queue.count,
            oldest_wait_s=_oldest_wait(),
            running=queue.started_job_registry.get_job_count(cleanup=False),
            workers=[seen for key in sorted(get_keys(queue)) if (seen := _worker(key))],
            failed=[_failed(job_id) for job_id in failed_ids],
            failed_count=registry.get_job_count(cleanup=False),
        )
    except RedisError as error:
        raise QueueAway from error


def retry(actor: str, job_id: str) -> None:
    """Put a failed job back on the queue. Raises NotFound, Conflict for one that is not ours, and
    QueueAway. A job may run twice, so a second press is no harm: it finds nothing."""
    try:
        job = _known(job_id)
        if not job.is_ours:
            raise Conflict("This is no job of this shop: it can only be dropped.")
        doorbell.queue.failed_job_registry.requeue(job_id)
    except (InvalidJobOperation, NoSuchJobError) as error:
        raise NotFound("This job is no longer among the failed ones.") from error
    except RedisError as error:
        raise QueueAway from error
    auth.note(actor, "retried a job", job_id, job.name)


def retry_all(actor: str) -> int:
    """Put every failed job of ours back on the queue; returns how many. Raises QueueAway."""
    registry, again = doorbell.queue.failed_job_registry, 0
    try:
        for job_id in registry.get_job_ids(cleanup=False):
            if not _failed(job_id).is_ours:
                continue
            try:
                registry.requeue(job_id)
                again += 1
            except (InvalidJobOperation, NoSuchJobError):
                continue  # somebody else was faster
    except RedisError as error:
        raise QueueAway from error
    auth.note(actor, "retried all failed jobs", detail=str(again))
    return again


def drop(actor: str, job_id: str, reason: str) -> None:
    """Forget a failed job, and note who and why. Raises ReasonMissing, NotFound, QueueAway."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise ReasonMissing
    try:
        job = _known(job_id)
        connection, jobs = doorbell.connection, doorbell.queue.job_class
        doorbell.queue.failed_job_registry.remove(job_id)
        connection.delete(jobs.key_for(job_id), f"rq:results:{job_id}")
    except RedisError as error:
        raise QueueAway from error
    auth.note(actor, "dropped a job", job_id, f"{job.name}: {reason}")


def _known(job_id: str) -> FailedJob:
    if job_id not in doorbell.queue.failed_job_registry:
        raise NotFound("This job is no longer among the failed ones.")
    return _failed(job_id)


def _oldest_wait() -> float | None:
    """Seconds that the job at the head of the queue has waited."""
    ids = doorbell.queue.get_job_ids(0, 1)
    job = _fetched(ids[0]) if ids else None
    if job is None or job.enqueued_at is None:
        return None
    return max(0.0, (now() - _utc(job.enqueued_at)).total_seconds())


def _worker(key: str) -> SeenWorker | None:
    """One worker's own words, as text; RQ's worker class would do more than read them."""
    told = {_text(name): _text(value) for name, value in doorbell.connection.hgetall(key).items()}
    if not told:
        return None  # it died, and RQ has not noticed yet
    job = _fetched(told["current_job"]) if told.get("current_job") else None
    return SeenWorker(
        name=key.removeprefix(WORKER_KEY),
        host=told.get("hostname", ""),
        is_busy=told.get("state") == "busy",
        doing=_call(job)[0] if job else "",
        last_beat=_moment(told.get("last_heartbeat")),
        done=_whole(told.get("successful_job_count")),
        failed=_whole(told.get("failed_job_count")),
    )


def _failed(job_id: str) -> FailedJob:
    job = _fetched(job_id)
    if job is None:
        return FailedJob(job_id, "Lost job", False, [], "There is nothing left of it.", 0, None)
    name, arguments, is_ours = _call(job)
    ended = _utc(job.ended_at) if job.ended_at else None
    return FailedJob(
        job_id, name, is_ours, arguments, _last_line(job), job.retries_left or 0, ended
    )


def _fetched(job_id: str) -> Any:
    """The job through our own class, or None if it is gone or not to be read."""
    try:
        return doorbell.queue.job_class.fetch(job_id, connection=doorbell.connection)
    except (NoSuchJobError, ValueError, KeyError):
        return None


def _call(job: Any) -> tuple[str, list[str], bool]:
    """What it would call: name, ids, and whether that is a job of ours."""
    try:
        return job.func_name, [str(argument) for argument in job.args], True
    except ForgedJob as error:
        return str(error)[:120].capitalize(), [], False
    except (DeserializationError, ValueError, TypeError):
        return "Refused a job that cannot be read", [], False


def _last_line(job: Any) -> str:
    try:
        result = job.latest_result()
    except (ValueError, KeyError, TypeError, zlib.error):
        return "What it left behind cannot be read."
    lines = ((result and result.exc_string) or "").strip().splitlines()
    return lines[-1].strip()[:LONGEST_ERROR] if lines else "It said nothing."


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _moment(text: str | None) -> datetime | None:
    try:
        return _utc(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
