"""The servers of a run: PostgreSQL and Redis of its own, gunicorn, a worker; all end with it."""

from __future__ import annotations

import os
import pwd
import re
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
from typing import Any

import psycopg
import redis

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN_S = 30
SECRET = "whsec_bench_signing_secret"  # invented: it signs the events that we make up
HIDDEN = "usr/lib/postgresql/*/bin"  # where Debian keeps what is not on the PATH
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NotThere(Exception):
    """A program that the measurement needs is not on this machine, or does not start."""


class Process:
    """A server of ours; ``pid`` is the process that does the work."""

    def __init__(
        self, command: list[str], *, log: Path, env: Mapping[str, str] | None = None, **user: Any
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT if env else log.parent,
                env={**os.environ, **env} if env else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the bench, which then ends its servers
                **user,
            )
        self.pid = self._process.pid

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Return once it answers; raises NotThere with its last words when it does not."""
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, psycopg.Error, redis.RedisError):
                if answers():
                    return
            time.sleep(0.02)
        raise NotThere(f"{self.log.stem} does not start: {self.log.read_text()[-1500:]}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a paused one would not hear the other
            self._process.send_signal(how)
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
        self.folder, self._user = _folder_and_user()
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.postgres = self._start_postgres()
        self.env = _environment(f"{self.postgres}/shop", self._start_redis())
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
            raise NotThere(f"the shop's tables cannot be made: {done.stderr[-1500:]}")

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

    def _start_postgres(self) -> str:
        """PostgreSQL with its own defaults, so that a commit is on the disk when it returns."""
        binary = find_binary("postgres")
        subprocess.run(
            [
                str(Path(binary).resolve().with_name("initdb")),
                *("-D", f"{self.folder}/data", "-U", "postgres", "--auth=trust"),
                *("--encoding=UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._user,
        )
        port = free_port()
        url = f"postgresql://postgres@127.0.0.1:{port}"
        server = Process(
            [binary, "-D", f"{self.folder}/data", "-p", str(port), "-h", "127.0.0.1", "-k", ""],
            log=self.folder / "postgres.log",
            **self._user,
        )
        # SIGINT is PostgreSQL's "fast": SIGTERM would wait for every client to leave.
        self._stack.callback(server.end, signal.SIGINT)
        server.wait_until(lambda: bool(psycopg.connect(f"{url}/postgres").close() is None))
        return url

    def _start_redis(self) -> str:
        """Redis as the shop asks for it: append-only file, nothing evicted."""
        port = free_port()
        url = f"redis://127.0.0.1:{port}/0"
        server = Process(
            [
                *(find_binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
                *("--maxmemory-policy", "noeviction"),
            ],
            log=self.folder / "redis.log",
            **self._user,
        )
        self._stack.callback(server.end)
        server.wait_until(lambda: bool(redis.Redis.from_url(url).ping()))
        return url


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_binary(name: str) -> str:
    """The program of that name on the PATH, else the newest of those that packages hide."""
    hidden = sorted(
        Path("/").glob(f"{HIDDEN}/{name}"),
        key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))],
    )
    found = shutil.which(name) or (str(hidden[-1]) if hidden else None)
    if found is None:
        raise NotThere(f"no program {name} on this machine")
    return found


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


def _folder_and_user() -> tuple[Path, dict[str, Any]]:
    """A new folder, and how to run as its owner: PostgreSQL refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="quittance-bench-"))
    if os.geteuid() != 0:
        return folder, {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            other = pwd.getpwnam(name)
            os.chown(folder, other.pw_uid, other.pw_gid)
            return folder, {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    return folder, {}
