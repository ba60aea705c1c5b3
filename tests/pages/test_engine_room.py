"""Health and jobs: what the pages show, and what a press does."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest
from rq.job import Job
from sqlalchemy import update

from blueprints.admin_health import percent, seconds
from blueprints.charts import line
from doorbell import JOBS
from extensions import atomic, doorbell
from models import AuditEntry, Product
from services import check, leases, metrics
from tests.pages.test_operations import redis_down
from tests.pages.test_settings_page import words
from tests.shop import MUG, Shop, Shopper
from tests.spine.test_jobs import Bomb, ran

HEALTH, JOBS_PAGE = "/admin/health", "/admin/jobs"


def audit(shop: Shop) -> list[tuple[str, str, str]]:
    at_the_door = ("signed in", "changed a role")
    found = shop.rows(AuditEntry, AuditEntry.action.not_in(at_the_door))
    return [(entry.actor, entry.action, entry.detail) for entry in found]


# -- health


@pytest.mark.accept("D41")
def test_the_health_page_shows_lights_lines_and_alerts(sqlite_shop: Shop, admin: Shopper) -> None:
    for wait_s in (1, 5):
        sqlite_shop.shopper().buy().pay()
        sqlite_shop.clock.forward(seconds=wait_s)
        sqlite_shop.deliver_and_work()
    leases.beat("worker")
    sqlite_shop.clock.forward(seconds=60)

    page = admin.get(HEALTH)

    said = words(page)
    assert "Sync success 100 % Good" in said
    assert "Payment to order 5.0 s Below its goal" in said and "2 by webhook" in said
    assert "Manual interventions 0 % Good" in said
    assert page.text.count('role="img"') == 4
    assert page.text.count("<polyline") == 4
    assert "between 5.0 s and 5.0 s, in the last hour 5.0 s" in said
    assert page.text.count("<details><summary>As a table") == 4
    assert said.count("The worker is silent") == 1 and "Firing since" in said
    assert f'href="{HEALTH}" aria-current="page">' in page.text


def test_an_empty_shop_says_what_the_lights_wait_for(sqlite_shop: Shop, admin: Shopper) -> None:
    page = admin.get(HEALTH)

    assert words(page).count("Nothing yet") >= 4
    assert "The line begins with the first order" in words(page)
    assert "All quiet" in words(page) and "Not checked yet" in words(page)
    assert "<polyline" not in page.text


@pytest.mark.accept("X14")
def test_the_books_are_checked_by_a_press_and_by_nothing_else(
    sqlite_shop: Shop, admin: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    whole = check.run
    monkeypatch.setattr("services.check.run", lambda: (runs.append(1), whole())[1])
    admin.get(HEALTH)
    assert runs == []

    admin.post("/admin/proofs")

    assert runs == [1]
    assert "They agree" in words(admin.get(HEALTH))
    with atomic() as session:
        session.execute(update(Product).where(Product.sku == MUG).values(sold=1))
    admin.post("/admin/proofs")
    page = words(admin.get(HEALTH))
    assert "Stock: MUG-FOR-35" in page and "Repair: count the shelf" in page
    assert "The books do not agree" in words(admin.get("/admin/orders"))
    assert [row[1] for row in audit(sqlite_shop)] == ["checked the books"] * 2


@pytest.mark.parametrize(
    ("part", "said"),
    [(None, "–"), (0.0, "0 %"), (0.995, "99.5 %"), (1.0, "100 %"), (0.99999, "99.99 %")],
)
def test_what_is_not_all_is_never_called_all(part: float | None, said: str) -> None:
    assert percent(part) == said


@pytest.mark.parametrize(
    ("took", "said"),
    [(None, "–"), (0.25, "250 ms"), (2.54, "2.5 s"), (42.0, "42 s"), (700.0, "12 min")],
)
def test_a_time_is_said_in_the_unit_that_people_would_use(took: float | None, said: str) -> None:
    assert seconds(took) == said


def test_a_line_has_gaps_where_nothing_was(sqlite_shop: Shop) -> None:
    starts = [hour.start for hour in metrics.read(by_hour=True).hours][:6]

    chart = line("Time", starts, [0.0, 2.0, None, 4.0, None, 1.0], seconds, top=1.0)

    assert chart["strokes"] == [
        "3.0,57.0 49.8,30.0",
        "143.4,3.0 143.4,3.0",
        "237.0,43.5 237.0,43.5",
    ]
    assert chart["summary"] == "Time: between 0 ms and 4.0 s, in the last hour 1.0 s."
    assert [value for _, value in chart["rows"]] == ["0 ms", "2.0 s", "–", "4.0 s", "–", "1.0 s"]


# -- jobs


def fails(data: Any = None, error: str = "Traceback:\n  a line\nKeyError: 'amount'") -> str:
    """A job that broke, as a worker leaves it in Redis; its id."""
    job = doorbell.queue.enqueue(JOBS["drain_inbox"])
    doorbell.queue.remove(job)
    with doorbell.connection.pipeline() as pipeline:
        job._handle_failure(error, pipeline=pipeline, worker_name="w")
        pipeline.execute()
    if data is not None:
        doorbell.connection.hset(job.key, mapping={"data": data})
    return str(job.id)


@pytest.fixture
def queue(sqlite_shop: Shop) -> Any:
    doorbell.connection.flushall()
    return doorbell.queue


@pytest.mark.accept("D43")
def test_the_jobs_page_shows_what_waits_and_what_failed(
    sqlite_shop: Shop, queue: Any, admin: Shopper
) -> None:
    sqlite_shop.shopper().buy().pay()
    sqlite_shop.deliver()
    sqlite_shop.clock.forward(seconds=75)
    fails()

    page = words(admin.get(JOBS_PAGE))

    assert re.search(r"Inbox [1-9]\d* 75 s 0", page)
    assert re.search(r"Queue in Redis 1 \S+ s 1", page)
    assert "jobs.inbox.drain KeyError: 'amount'" in page
    assert "No worker is at the queue" in page


def test_an_idle_queue_says_what_would_stand_here(queue: Any, admin: Shopper) -> None:
    page = words(admin.get(JOBS_PAGE))

    assert "None failed in the last seven days" in page
    assert "Retry all" not in page


@pytest.mark.accept("D43")
def test_a_failed_job_is_put_back_on_the_queue(
    sqlite_shop: Shop, queue: Any, admin: Shopper
) -> None:
    first, second, third = fails(), fails(), fails()

    admin.post("/admin/jobs/retries", {"job": first})

    assert queue.job_ids == [first]
    assert "It is on the queue again" in words(admin.get(JOBS_PAGE))
    admin.post("/admin/jobs/retries")
    assert set(queue.job_ids) == {first, second, third}
    assert queue.failed_job_registry.count == 0
    assert admin.post("/admin/jobs/retries", {"job": first}).status_code == 404
    assert audit(sqlite_shop) == [
        ("ada@example.com", "retried a job", "jobs.inbox.drain"),
        ("ada@example.com", "retried all failed jobs", "2"),
    ]


@pytest.mark.accept("D43")
def test_a_job_is_dropped_with_a_reason_and_not_without(
    sqlite_shop: Shop, queue: Any, admin: Shopper
) -> None:
    job = fails()
    for reason in ("", "  ", "x" * 201):
        refused = admin.post("/admin/jobs/drops", {"job": job, "reason": reason})
        assert refused.status_code == 422 and "Say why" in words(refused)
    assert queue.failed_job_registry.count == 1 and audit(sqlite_shop) == []

    admin.post("/admin/jobs/drops", {"job": job, "reason": "the bug is mended"})

    assert queue.failed_job_registry.count == 0
    assert not doorbell.connection.keys(f"rq:*{job}*")
    assert audit(sqlite_shop) == [
        ("ada@example.com", "dropped a job", "jobs.inbox.drain: the bug is mended")
    ]
    again = admin.post("/admin/jobs/drops", {"job": job, "reason": "twice"})
    assert again.status_code == 404


def bomb() -> bytes:
    return pickle.dumps(("x", None, (Bomb(),), {}))


@pytest.mark.parametrize(
    "data",
    [bomb(), json.dumps(["os.system", None, ["true"], {}]), b"\xff\xfe", b"[]", b"null"],
    ids=["a pickle", "a shell command", "no text", "no job", "nothing"],
)
def test_a_forged_job_is_shown_never_opened_and_can_only_be_dropped(
    sqlite_shop: Shop, queue: Any, admin: Shopper, data: Any
) -> None:
    ran.clear()
    job = fails(data)
    doorbell.connection.hset(f"rq:job:{job}", mapping={"meta": bomb(), "result": bomb()})

    page = words(admin.get(JOBS_PAGE))

    assert "Not ours, never run" in page and "Retry" not in page
    assert admin.post("/admin/jobs/retries", {"job": job}).status_code == 409
    admin.post("/admin/jobs/retries")
    assert queue.job_ids == []
    admin.post("/admin/jobs/drops", {"job": job, "reason": "forged"})
    assert queue.failed_job_registry.count == 0
    assert ran == []


def test_twin_rqs_own_class_would_open_it(queue: Any) -> None:
    ran.clear()

    _ = Job.fetch(fails(bomb()), connection=doorbell.connection).args

    assert ran == ["a pickle was opened"]


def test_a_job_that_is_not_among_the_failed_is_left_alone(queue: Any, admin: Shopper) -> None:
    waiting = doorbell.queue.enqueue(JOBS["sweep"]).id

    for path, form in (("retries", {}), ("drops", {"reason": "by its id"})):
        assert admin.post(f"/admin/jobs/{path}", {"job": waiting, **form}).status_code == 404
    assert queue.job_ids == [waiting]


def test_what_is_left_of_a_lost_job_can_be_dropped(queue: Any, admin: Shopper) -> None:
    job = fails()
    doorbell.connection.delete(f"rq:job:{job}")

    assert "There is nothing left of it" in words(admin.get(JOBS_PAGE))
    admin.post("/admin/jobs/drops", {"job": job, "reason": "its data are gone"})

    assert queue.failed_job_registry.count == 0


def test_without_redis_the_page_says_so_and_shows_the_rest(
    sqlite_shop: Shop, admin: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        redis_down()

    monkeypatch.setattr(doorbell.connection, "execute_command", down)

    page = admin.get(JOBS_PAGE)
    assert page.status_code == 200
    assert "Redis does not answer" in words(page) and "Inbox 0" in words(page)
    refused = admin.post("/admin/jobs/retries")
    assert refused.status_code == 503 and words(refused).count("Redis does not answer") == 1
