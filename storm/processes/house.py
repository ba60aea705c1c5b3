"""The shop as it is deployed: processes by the lines of its Procfile, and what stands around them.

Each line may be run more than once; every process has a group of its own, so that a signal
reaches its children too, as on a machine that goes down.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import requests

from storm.processes.servers import free_port, start_postgres, start_redis
from storm.processes.wires import Loop, MailServer, Proxy

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 60.0  # several Pythons importing at once on two busy cores
END_WITHIN_S = 25.0  # gunicorn finishes what it has in 20 s
STRIPE_KEY = "sk_test_storm"
SIGNING_SECRET = "whsec_storm_of_processes"  # noqa: S105 - between this shop and this sandbox
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


class DidNotStart(Exception):
    """A part of the shop does not come up; the text ends with its last words."""


def procfile(root: Path = ROOT) -> dict[str, list[str]]:
    """The commands by name, as a platform reads them."""
    lines = (root / "Procfile").read_text().splitlines()
    parted = (line.partition(":") for line in lines if line.strip())
    return {name: shlex.split(command) for name, _, command in parted}


class Process:
    """One process and its children; it may be held, killed, told to end, and started again."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        folder: Path,
        *,
        cwd: Path = ROOT,
        is_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        # Programs of the virtualenv are found without PATH, as `make` finds them.
        program = Path(sys.executable).with_name(command[0])
        self.command = [str(program), *command[1:]] if program.exists() else command
        self.env, self.cwd = env, cwd
        self._is_up = is_up
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        """Begin to start it; ``wait`` for it, so that several can start side by side."""
        if self.is_running:
            return
        with self.log.open("ab") as output:
            self._running = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own
            )

    def wait(self) -> None:
        """Until it answers. Raises DidNotStart."""
        give_up_at = time.monotonic() + START_WITHIN_S
        while time.monotonic() < give_up_at and self.is_running:
            with suppress(requests.RequestException):
                if self._is_up():
                    return
            time.sleep(0.05)
        raise DidNotStart(f"{self.name} does not start: {self.log.read_text()[-2000:]}")

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Signal the whole group, and return once its head is gone."""
        if self._running is None:
            return
        self.signal(signal.SIGCONT)  # who is held would not hear of the end
        self.signal(how)
        try:
            self._running.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._running.wait()

    def signal(self, what: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._running:
                os.killpg(self._running.pid, what)


class House:
    """Everything that stands: servers, wires, sandbox, and the shop's processes."""

    def __init__(self, folder: Path, seed: int, *, root: Path = ROOT, **settings: str) -> None:
        """``root`` is the shop's source, which may be an older one than this."""
        self.folder, self.root = folder, root
        self._closing = ExitStack()
        try:
            self._build(seed, settings)
        except BaseException:
            self.close()
            raise

    def _build(self, seed: int, settings: dict[str, str]) -> None:
        stays = self._closing
        self.postgres = start_postgres()
        stays.callback(self.postgres.remove)
        self.redis = start_redis("--appendonly", "yes", "--maxmemory-policy", "noeviction")
        stays.callback(self.redis.remove)
        self.loop = Loop()
        stays.callback(self.loop.close)
        ports = [free_port() for _ in range(3)]
        dice = Random(f"wires:{seed}")

        def wire(*upstreams: int) -> Proxy:
            return Proxy(self.loop, dice, *upstreams)

        self.to_shop = wire(ports[0], ports[1])
        self.to_stripe = wire(ports[2])
        self.to_postgres = wire(_port(self.postgres.url))
        self.to_redis = wire(_port(self.redis.url))
        self.mail = MailServer(self.loop)
        self.origin = f"http://127.0.0.1:{self.to_shop.port}"
        self.stripe_url = f"http://127.0.0.1:{ports[2]}"
        self.env = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "DATABASE_URL": self._through(self.postgres.url, self.to_postgres),
            "REDIS_URL": self._through(self.redis.url, self.to_redis),
            "SECRET_KEY": "a key that lives as long as one storm does",
            "PUBLIC_ORIGIN": self.origin,
            "STRIPE_SECRET_KEY": STRIPE_KEY,
            "STRIPE_PUBLISHABLE_KEY": "pk_test_storm",
            "STRIPE_WEBHOOK_SECRET": SIGNING_SECRET,
            "STRIPE_API_BASE": f"http://127.0.0.1:{self.to_stripe.port}",
            "SMTP_URL": f"smtp://127.0.0.1:{self.mail.port}",
            "MAIL_FROM": "shop@example.com",
            "PROXY_HOPS": "1",  # each shopper has an address of their own
            "RECONCILE_SECONDS": "30",
            "SWEEP_SECONDS": "5",
            **settings,
        }
        sandbox = f"python -m sandbox --port {ports[2]} --webhook-secret {SIGNING_SECRET}"
        sandbox += f" --webhook-url {self.origin}/stripe/webhook --seed {seed}"
        self.stripe = self.process(
            "stripe",
            [*shlex.split(sandbox), "--journal", str(self.folder / "stripe.jsonl")],
            is_up=lambda: _answers(f"{self.stripe_url}/_sandbox/clock"),
        )
        lines = procfile(self.root)
        self.webs = [
            self.process(
                f"web {number}",
                lines["web"],
                is_up=lambda port=port: _answers(f"http://127.0.0.1:{port}/healthz"),  # type: ignore[misc]
                PORT=str(port),
            )
            for number, port in enumerate(ports[:2], start=1)
        ]
        self.workers = [self.process(f"worker {n}", lines["worker"]) for n in (1, 2)]
        self.clock = self.process("clock", lines["clock"])

    def process(
        self,
        name: str,
        command: list[str],
        *,
        is_up: Callable[[], bool] = lambda: True,
        **env: str,
    ) -> Process:
        """One more process, that ends with the house."""
        where = {"cwd": self.root, "is_up": is_up}
        made = Process(name, command, self.env | env, self.folder, **where)  # type: ignore[arg-type]
        self._closing.callback(made.end)
        return made

    @property
    def processes(self) -> list[Process]:
        return [*self.webs, *self.workers, self.clock]

    def open(self) -> None:
        """Tables, then everybody at once. Raises DidNotStart."""
        released = subprocess.run(
            [str(Path(sys.executable).with_name("flask")), *procfile(self.root)["release"][1:]],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
        )
        if released.returncode:
            raise DidNotStart(f"the tables cannot be made: {released.stderr[-2000:]}")
        for process in (self.stripe, *self.processes):
            process.start()
        for process in (self.stripe, *self.processes):
            process.wait()

    def close(self) -> None:
        self._closing.close()

    def runs(self, *command: str, within_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """A command of the shop, as somebody at its console runs it."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("flask")), *command],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=within_s,
        )

    def at_stripe(self, method: str, name: str, **body: Any) -> Any:
        """The sandbox's switchboard: past the wire, as a shopper's own browser goes."""
        url = f"{self.stripe_url}/_sandbox/{name}"
        give_up_at = time.monotonic() + END_WITHIN_S
        while True:
            try:
                answer = requests.request(method, url, json=body, timeout=20)
                break
            except requests.ConnectionError:  # it restarts just now
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.2)
        answer.raise_for_status()
        return answer.json()

    def list_at_stripe(self, path: str) -> list[dict[str, Any]]:
        """All of a list of Stripe's API, past the wire."""
        found: list[dict[str, Any]] = []
        while True:
            asked: dict[str, Any] = {"limit": 100}
            if found:
                asked["starting_after"] = found[-1]["id"]
            answer = requests.get(
                f"{self.stripe_url}{path}", params=asked, auth=(STRIPE_KEY, ""), timeout=20
            )
            answer.raise_for_status()
            page = answer.json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def _through(self, url: str, proxy: Proxy) -> str:
        return url.replace(f":{_port(url)}", f":{proxy.port}")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _answers(address: str) -> bool:
    return requests.get(address, timeout=5).ok
