"""What travels through Redis, who works on it, and what happens while it is away."""

from __future__ import annotations

import json
import os
import pickle
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rq.exceptions import DeserializationError
from rq.job import Job

import doorbell as doorbell_module
from doorbell import ForgedJob, ShopJob
from extensions import doorbell
from jobs import schedule
from services import health, leases, outbox
from tests.shop import MUG, Shop, TestShops

ROOT = Path(__file__).resolve().parents[2]
ran: list[str] = []


def _forge(shop: Shop, data: Any, **fields: Any) -> str:
    """Put a job hash straight into Redis, as somebody who can write there would."""
    connection = doorbell.connection
    key = f"rq:job:forged{len(ran)}"
    connection.hset(key, mapping={"data": data, "created_at": "2026-11-21T00:00:00Z", **fields})
    return key.removeprefix("rq:job:")


FORGED = {
    "a shell command": json.dumps(["os.system", None, ["true"], {}]),
    "a function of ours that is no job": json.dumps(["services.auth.create_link", None, ["x"], {}]),
    "an instance": json.dumps(["drain", {"x": 1}, [], {}]),
    "objects as arguments": json.dumps(["jobs.inbox.drain", None, [{"a": 1}], {}]),
    "keywords": json.dumps(["jobs.inbox.drain", None, [], {"limit": 1}]),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_job_is_refused(sqlite_shop: Shop, what: str) -> None:
    job = ShopJob.fetch(_forge(sqlite_shop, FORGED[what]), connection=doorbell.connection)

    with pytest.raises(ForgedJob):
        _ = job.func_name


def _go_off() -> None:
    ran.append("a pickle was opened")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _go_off, ()


def test_reading_a_job_opens_no_pickle(sqlite_shop: Shop) -> None:
    bomb = pickle.dumps(("x", None, (Bomb(),), {}))
    ran.clear()

    job = ShopJob.fetch(
        _forge(sqlite_shop, bomb, meta=bomb, result=bomb), connection=doorbell.connection
    )
    with pytest.raises(DeserializationError):
        _ = job.args

    assert ran == []


def test_twin_rqs_own_job_class_opens_it(sqlite_shop: Shop) -> None:
    bomb = pickle.dumps(("x", None, (Bomb(),), {}))
    ran.clear()

    job = Job.fetch(_forge(sqlite_shop, bomb), connection=doorbell.connection)
    _ = job.args

    assert ran == ["a pickle was opened"]


def test_callbacks_and_webhooks_of_a_forged_job_are_never_called(sqlite_shop: Shop) -> None:
    hook = json.dumps([{"url": "http://127.0.0.1:1/", "status": "finished"}])
    name = _forge(
        sqlite_shop,
        json.dumps(["jobs.inbox.drain", None, [], {}]),
        success_callback_name="os.system",
        failure_callback_name="os.system",
        stopped_callback_name="os.system",
        webhooks=hook,
    )

    job = ShopJob.fetch(name, connection=doorbell.connection)

    assert job.success_callback is job.failure_callback is job.stopped_callback is None
    assert job.webhooks == []


def test_arguments_are_ids(sqlite_shop: Shop) -> None:
    doorbell.queue.empty()
    doorbell.answered("drain_inbox")
    doorbell.ring("drain_inbox")

    job = doorbell.queue.jobs[0]

    assert (job.func_name, list(job.args)) == (doorbell_module.JOBS["drain_inbox"], [])


@pytest.mark.accept("D42")
def test_readyz_names_a_dead_worker_and_a_dead_clock(shop: Shop) -> None:
    leases.beat("worker")
    leases.beat("clock")
    assert all(part["ok"] for part in health.parts().values())

    shop.clock.forward(seconds=40)
    leases.beat("clock")
    shop.clock.forward(seconds=20)

    parts = health.parts()
    assert not parts["worker"]["ok"]
    assert parts["clock"]["ok"]
    assert "silent for 60 s" in str(parts["worker"]["detail"])


@pytest.mark.fault("F29")
def test_the_clock_works_itself_while_redis_is_away(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = sqlite_shop
    bought = shop.shopper().buy()
    bought.pay()
    shop.deliver()
    monkeypatch.setattr(doorbell, "enqueue", lambda name, **_: False)

    schedule.tick(schedule.periodic(shop.app), "this one")

    assert shop.the_order().payment_status == "paid"
    assert shop.receipts()[0].state == "done"


def test_while_redis_answers_the_clock_only_rings(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.shopper().buy().pay()
    shop.deliver()
    doorbell.queue.empty()

    schedule.tick(schedule.periodic(shop.app), "this one")

    assert shop.the_order().payment_status == "pending"
    assert [job.func_name for job in doorbell.queue.jobs] == ["jobs.sweep.sweep", "jobs.sweep.sync"]


# -- the real thing: processes, PostgreSQL, Redis


@contextmanager
def _process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", *command],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(shop: Shop, database_url: str, redis_url: str) -> dict[str, str]:
    settings = shop.app.extensions["settings"]
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": settings.secret_keys[0],
        "PUBLIC_ORIGIN": "http://127.0.0.1:8000",
        "STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "STRIPE_PUBLISHABLE_KEY": settings.stripe_publishable_key,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secrets[0],
        "STRIPE_API_BASE": settings.stripe_api_base,
        "SMTP_URL": "smtp://127.0.0.1:1",
        "MAIL_FROM": "shop@example.com",
        "SWEEP_SECONDS": "2",
        "RECONCILE_SECONDS": "2",
    }


def _until(true: Callable[[], bool], within_s: float = 20) -> None:
    give_up_at = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up_at, "it never came true"
        threading.Event().wait(0.05)


@pytest.mark.accept("D10")
@pytest.mark.fault("F29", "F30")
def test_worker_and_clock_processes_settle_with_redis_killed_and_back(
    postgres_url: str, own_redis: Callable[..., Any]
) -> None:
    """Real processes: a worker is killed outright, Redis is killed and comes back empty."""
    server = own_redis()
    with TestShops(postgres_url).opened(redis_url=server.url) as shop:
        env = _environment(shop, postgres_url, server.url)
        with _process("clock", env=env), _process("worker", env=env) as worker:
            first = shop.shopper().buy()
            first.pay()
            shop.deliver()
            _until(lambda: shop.order(first.order_id).payment_status == "paid")  # type: ignore[union-attr]

            os.killpg(worker.pid, signal.SIGKILL)
            server.kill()
            second = shop.shopper().buy()
            second.pay()
            assert {status for _, status in shop.deliver()} == {200}
            _until(lambda: shop.order(second.order_id).payment_status == "paid")  # type: ignore[union-attr]

            server.start()
            with _process("worker", env=env):
                third = shop.shopper().buy()
                third.pay()
                shop.deliver()
                _until(lambda: shop.order(third.order_id).payment_status == "paid")  # type: ignore[union-attr]
        assert shop.product(MUG).sold == 3
        assert shop.proves()


def test_a_worker_told_to_stop_finishes_and_exits_cleanly(
    postgres_url: str, own_redis: Callable[..., Any]
) -> None:
    server = own_redis()
    with TestShops(postgres_url).opened(redis_url=server.url) as shop:
        env = _environment(shop, postgres_url, server.url)
        for command in ("worker", "clock"):
            with _process(command, env=env) as process:
                _until(lambda name=command: leases.last_beat(name) is not None)  # type: ignore[misc]
                os.killpg(process.pid, signal.SIGTERM)
                assert process.wait(timeout=20) == 0


def test_a_command_without_settings_names_them_all_and_exits_2(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "FLASK_APP": str(ROOT / "app.py")}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "worker"],
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "STRIPE_SECRET_KEY"):
        assert name in done.stderr


@pytest.mark.fault("F32")
def test_a_mail_server_that_is_down_is_waited_for(shops: TestShops) -> None:
    with shops.opened(smtp_url="smtp://127.0.0.1:1", embedded=False) as shop:
        shop.shopper().buy().pay()
        shop.deliver_and_work()
        for _ in range(12):
            shop.clock.forward(seconds=61)
            outbox.drain()

        receipt = shop.receipts()[0]
        assert (receipt.state, receipt.tries) == ("new", 0)
        assert "mail server" in (receipt.error or "")
        assert shop.exceptions() == []


@pytest.mark.fault("F32")
def test_a_mail_that_is_refused_for_good_ends_as_a_dead_letter(
    shops: TestShops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_url: str) -> None:
        raise smtplib.SMTPRecipientsRefused({"maya@example.com": (550, b"no such user")})

    monkeypatch.setattr("services.mail._connect", refused)
    with shops.opened(smtp_url="smtp://127.0.0.1:1", embedded=False) as shop:
        shop.shopper().buy().pay()
        shop.deliver_and_work()
        for _ in range(8):
            shop.clock.forward(seconds=61)
            outbox.drain()

        assert [(r.state, r.tries) for r in shop.receipts()] == [("dead", 8)]
        assert [e.type for e in shop.exceptions()] == ["dead_effect"]
        assert shop.the_order().payment_status == "paid"
