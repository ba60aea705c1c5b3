"""The engine room's queue; a part of the counter, under its rules."""

from __future__ import annotations

from typing import Any

from flask import g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from blueprints.admin import bp
from blueprints.forms import tidy
from domain.errors import ShopError
from services import alerts, leases, metrics, queues
from services.queues import Queue, QueueAway

__all__ = ["bp"]  # the counter's, with the jobs in it

Page = Response | str | tuple[str, int]


@bp.get("/jobs")
def jobs() -> Page:
    return _render(said=session.pop("jobs_said", None))


@bp.post("/jobs/retries")
def retry_jobs() -> Page:
    """One failed job, or without a name every one of ours."""
    job_id = request.form.get("job", "")[:100]
    try:
        if job_id:
            queues.retry(g.admin.email, job_id)
            return _done("It is on the queue again.")
        again = queues.retry_all(g.admin.email)
    except ShopError as error:
        return _render(problem=error), error.http_status
    return _done("One is on the queue again." if again == 1 else f"{again} are on the queue again.")


@bp.post("/jobs/drops")
def drop_job() -> Page:
    job_id = request.form.get("job", "")[:100]
    try:
        queues.drop(g.admin.email, job_id, tidy(request.form.get("reason")) or "")
    except ShopError as error:
        return _render(problem=error, about=job_id), error.http_status
    return _done("Dropped. Who and why stands in the audit log.")


def _done(said: str) -> Response:
    session["jobs_said"] = said
    return redirect(url_for(".jobs"), code=303)


def _render(*, said: str | None = None, problem: ShopError | None = None, about: str = "") -> str:
    queue, away = None, None
    try:
        queue = queues.look()
    except QueueAway as error:
        away = error
    return render_template(
        "admin/jobs.html",
        queue=queue,
        away=away,
        boxes=_boxes(queue),
        beats=_beats(),
        longest_reason=queues.LONGEST_REASON,
        problem=problem,
        about=about,
        typed=request.form.get("reason", "")[: queues.LONGEST_REASON],
        said=said,
    )


def _boxes(queue: Queue | None) -> list[dict[str, Any]]:
    exceptions = url_for(".exceptions")  # where what gave up is waiting for a person
    inbox, outbox = metrics.inbox_waiting(), metrics.outbox_waiting()
    boxes = [
        _box(name, box.count, box.oldest_s, box.dead, exceptions)
        for name, box in (("Inbox", inbox), ("Outbox", outbox))
    ]
    if queue:
        waits = queue.oldest_wait_s or 0.0
        boxes.append(_box("Queue in Redis", queue.depth, waits, queue.failed_count, "#failed"))
    return boxes


def _box(name: str, count: int, oldest_s: float, dead: int, link: str) -> dict[str, Any]:
    oldest = alerts.minutes(oldest_s) if count else "–"
    return {"name": name, "count": count, "oldest": oldest, "dead": dead, "link": link}


def _beats() -> list[dict[str, Any]]:
    return [
        {"name": name, "last": pulse.last if pulse else None, "is_alive": leases.is_alive(pulse)}
        for name in metrics.PROCESSES
        for pulse in (leases.pulse(name),)
    ]
