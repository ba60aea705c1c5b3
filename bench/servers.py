"""The servers of a run: PostgreSQL and Redis of its own, gunicorn, a worker; all end with it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import redis

from storm.processes.servers import (
    OwnServer,
    Unavailable,
    for_libpq,
    free_port,
    start_postgres,
    start_redis,
)

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN_S = 30
SECRET = "whsec_bench_signing_secret"  # invented: it signs the events that we make up
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """A server of ours; ``pid`` is the process that does the work."""

    def __init__(self, command: list[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the bench, which then ends its servers
            )
        self.pid = self._process.pid

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Return once it answers; raises Unavailable with its last words when it does not."""
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, redis.RedisError):
                if answers():
                    return
            time.sleep(0.02)
        raise Unavailable(f"{self.log.stem} does not start: {self.log.read_text()[-1500:]}")

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a paused one would not hear the other
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Web(Process):
    """gunicorn with the shop's own configuration and one worker process."""

    def __init__(self, app: str, *, port: int, log: Path, env: Mapping[str, str]) -> None:
        self.port = port
        super().__init__(
            [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", app],
            log=log,
            env={**env, "PORT": str(port), "WEB_CONCURRENCY": "1"},
        )
        self.wait_until(lambda: bool(self._children()) and _answers(port))
        self.pid = self._children()[0]

    def _children(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


class Worker(Process):
    """``flask worker``, which can be held while something else is measured."""

    def __init__(self, *, log: Path, env: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-m", "flask", "worker"], log=log, env=env)
        queue = redis.Redis.from_url(env["REDIS_URL"])
        self.wait_until(lambda: bool(queue.scard("rq:workers")))

    def hold(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def let_go(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Servers:
    """Everything a run needs; ``env`` is the environment of the shop and of its rivals."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = Path(tempfile.mkdtemp(prefix="quittance-bench-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        # With its own defaults, so that a commit is on the disk when it returns.
        database = self._own(start_postgres, "-c", "fsync=on")
        self.postgres = for_libpq(database).rpartition("/")[0]
        # As the shop asks for it: append-only file, nothing evicted.
        durable = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
        self.env = _environment(f"{self.postgres}/shop", self._own(start_redis, *durable))
        self.baseline_database = f"{self.postgres}/baseline"
        with psycopg.connect(f"{self.postgres}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
            connection.execute("CREATE DATABASE baseline")

    def upgrade_shop(self) -> None:
        """Bring the shop's own tables to its database, as a release would."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "db", "upgrade"],
            cwd=ROOT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Unavailable(f"the shop's tables cannot be made: {done.stderr[-1500:]}")

    def last_words(self) -> str:
        """The end of what each server wrote, for whoever looks for a fault."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-800:]}" for log in logs)

    def web(self, app: str, name: str, **env: str) -> Web:
        log = self.folder / f"{name}.log"
        web = Web(app, port=free_port(), log=log, env={**self.env, **env})
        self._stack.callback(web.end)
        return web

    def worker(self) -> Worker:
        worker = Worker(log=self.folder / "worker.log", env=self.env)
        self._stack.callback(worker.end)
        return worker

    def _own(self, start: Callable[..., OwnServer], *options: str) -> str:
        """A server for this run alone; its address."""
        server = start(*options)
        self._stack.callback(server.remove)
        return server.url


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _environment(database: str, queue: str) -> dict[str, str]:
    """A production environment. Stripe and the mail server are nowhere: nothing measured here
    asks them."""
    nowhere = f"127.0.0.1:{free_port()}"
    return {
        "DATABASE_URL": database,
        "REDIS_URL": queue,
        "SECRET_KEY": "a key that lives as long as one measurement",
        "PUBLIC_ORIGIN": "http://127.0.0.1:8000",
        "STRIPE_SECRET_KEY": "sk_test_bench",
        "STRIPE_PUBLISHABLE_KEY": "pk_test_bench",
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_API_BASE": f"http://{nowhere}",
        "SMTP_URL": f"smtp://{nowhere}",
        "MAIL_FROM": "Shop <shop@example.test>",
        "ORDER_STRATEGY": "order_first",
        "STRATEGY_ROLLOUT": "",
        "TRUSTED_HOSTS": "",
        "PROXY_HOPS": "0",
    }


def _answers(port: int) -> bool:
    """Whether an app is behind the port, whatever it says; the port itself is open before that."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_WITHIN_S) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return bool(connection.recv(1))
