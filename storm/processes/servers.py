"""PostgreSQL and Redis of one's own: from binaries on this machine, on a free port, in a folder
that goes with them. They may be killed, stopped and started again."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
# Debian keeps PostgreSQL's binaries off the PATH, Homebrew those of older versions.
BINARY_FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/*/bin", "/usr/local/opt/*/bin")
START_WITHIN_S = 30  # a busy machine with two cores needs a few seconds for initdb


class Unavailable(Exception):
    """No server to be had; the text says why."""


@dataclass
class OwnServer:
    """A server on a random port of its own, with its data in a folder of its own.

    It may be killed or stopped and started again: port and data stay, ``url`` too.
    """

    url: str
    command: list[str]
    ask_version: Callable[[str], str]
    stop_signal: signal.Signals
    folder: Path
    user: dict[str, Any]  # arguments of Popen that make it run as somebody else than root
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    version: str = field(default="", init=False)

    def start(self) -> None:
        """Return once it answers; raises Unavailable with its last words when it does not."""
        log = self.folder / "server.log"
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            if self.process is None or self.process.poll() is not None:
                with log.open("ab") as output:
                    self.process = subprocess.Popen(
                        self.command,
                        stdout=output,
                        stderr=output,
                        stdin=subprocess.DEVNULL,
                        cwd=self.folder,
                        start_new_session=True,  # Ctrl-C is for whoever started it
                        **self.user,
                    )
            with suppress(psycopg.Error, redis.RedisError):
                self.version = self.ask_version(self.url)
                if self.process.poll() is None:  # else somebody else answers on that port
                    return
            if time.monotonic() > deadline:
                self.kill()
                raise Unavailable(f"{self.command[0]} does not start: {log.read_text()[-500:]}")
            # After a kill PostgreSQL refuses to start until the last orphan is gone.
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order, as a maintenance would."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(START_WITHIN_S)


def start_postgres(*options: str) -> OwnServer:
    postgres = find_binary("postgres")
    initdb = str(Path(postgres).resolve().with_name("initdb"))  # of the very same version
    folder, user = _folder_and_user()
    prepare = [initdb, "-D", f"{folder}/data", "-U", "postgres", "--auth=trust"]
    try:
        subprocess.run(
            [*prepare, "--encoding=UTF8", "--no-locale", "--no-sync"],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            **user,
        )
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unavailable(f"initdb fails: {error.stderr[-500:]}") from None
    port = str(free_port())
    serve = [postgres, "-D", f"{folder}/data", "-p", port, "-h", "127.0.0.1", "-k", ""]
    return _started(
        url=f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
        # -F: what a kill loses is the process's memory, not the disk's, so that no fsync is needed.
        command=[*serve, "-F", *options],
        ask_version=postgres_version,
        stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client to leave
        folder=folder,
        user=user,
    )


def postgres_version(url: str) -> str:
    with psycopg.connect(for_libpq(url), connect_timeout=5) as connection:
        number = connection.info.server_version
        version = f"{number // 10_000}.{number % 10_000}"
        if number < OLDEST_POSTGRES * 10_000:
            raise Unavailable(f"PostgreSQL {version} is older than {OLDEST_POSTGRES}")
        role = connection.execute(
            "SELECT 1 FROM pg_roles WHERE rolname = current_user AND (rolcreatedb OR rolsuper)"
        )
        if role.fetchone() is None:
            raise Unavailable("this user may not make databases")
    return version


def for_libpq(url: str) -> str:
    return f"postgresql://{url.partition('://')[2]}"


def for_sqlalchemy(url: str) -> str:
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def start_redis(*options: str) -> OwnServer:
    binary = find_binary("redis-server")
    folder, user = _folder_and_user()
    port = str(free_port())
    serve = [binary, "--port", port, "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return _started(
        url=f"redis://127.0.0.1:{port}/0",
        command=[*serve, *options],
        ask_version=redis_version,
        stop_signal=signal.SIGTERM,
        folder=folder,
        user=user,
    )


def redis_version(url: str) -> str:
    with redis.Redis.from_url(url, socket_connect_timeout=5) as client:
        version = str(client.info("server")["redis_version"])
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        raise Unavailable(f"Redis {version} is older than {OLDEST_REDIS}")
    return version


def find_binary(name: str) -> str:
    """The program of that name on the PATH, else the newest of those that packages hide."""
    hidden = [path for folder in BINARY_FOLDERS for path in Path("/").glob(f"{folder[1:]}/{name}")]
    hidden.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    if found := shutil.which(name):
        return found
    if hidden:
        return str(hidden[-1])
    raise Unavailable(f"no program {name} on this machine")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(**server: Any) -> OwnServer:
    own = OwnServer(**server)
    try:
        own.start()
    except BaseException:
        own.remove()
        raise
    return own


def _folder_and_user() -> tuple[Path, dict[str, Any]]:
    """A new folder, and how to run as its owner: PostgreSQL refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="quittance-"))
    if os.geteuid() != 0:
        return folder, {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            other = pwd.getpwnam(name)
            os.chown(folder, other.pw_uid, other.pw_gid)
            return folder, {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    return folder, {}
