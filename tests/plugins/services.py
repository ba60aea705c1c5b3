"""Real PostgreSQL and Redis for the tests that ask for them.

Taken from the first that works: TEST_DATABASE_URL / TEST_REDIS_URL, a server on its standard local
port, binaries on this machine started on a random port. When none does, the tests that asked are
skipped and the summary says so in one line; with CI set they fail instead.

A shared server is left as it was found: tests get a database, or a Redis database number, of
their own. Publish/subscribe channels of Redis are shared by all its databases. A test that kills,
stops or flushes a server takes ``own_postgres()`` or ``own_redis()``.
"""

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
LOCAL_POSTGRES = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    f"postgresql://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:5432/postgres",
)
LOCAL_REDIS = ("redis://127.0.0.1:6379",)
# Debian keeps PostgreSQL's binaries off the PATH, Homebrew those of older versions.
BINARY_FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/*/bin", "/usr/local/opt/*/bin")
START_WITHIN_S = 30  # a busy machine with two cores needs a few seconds for initdb
# Read once: a test may change its environment, but not how the run was started.
STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")

NOTES = pytest.StashKey[dict[str, set[str]]]()


class Unavailable(Exception):
    """No server to be had; the text says why."""


# What tests use


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of this test process alone, dropped at the end of the run."""
    with ExitStack() as stack:
        try:
            server = find_postgres(stack)
        except Unavailable as reason:
            cannot_run(request.config, "PostgreSQL", str(reason))
        note(request.config, "ran on", f"PostgreSQL {postgres_version(server)} {place(server)}")
        yield for_sqlalchemy(stack.enter_context(postgres_database(server)))


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty Redis database of this test process alone, emptied at the end of the run."""
    with ExitStack() as stack:
        try:
            server, url = find_redis(stack)
        except Unavailable as reason:
            cannot_run(request.config, "Redis", str(reason))
        note(request.config, "ran on", f"Redis {redis_version(server)} {place(server)}")
        yield url


@pytest.fixture
def own_postgres(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """Call it, with options of ``postgres`` if need be, for a server that the test may kill."""
    yield from _own(request, "PostgreSQL", start_postgres)


@pytest.fixture
def own_redis(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """Call it, with options such as "--appendonly", "yes", for a server that the test may kill."""
    yield from _own(request, "Redis", start_redis)


def _own(
    request: pytest.FixtureRequest, what: str, start: Callable[..., OwnServer]
) -> Iterator[Callable[..., OwnServer]]:
    with ExitStack() as stack:

        def started(*options: str) -> OwnServer:
            try:
                server = start(*options)
            except Unavailable as reason:
                cannot_run(request.config, what, str(reason))
            stack.callback(server.remove)
            note(request.config, "ran on", f"{what} {server.version} started by tests")
            return server

        yield started


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
                        start_new_session=True,  # Ctrl-C is for the tests, which then stop it
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


def cannot_run(config: pytest.Config, what: str, why: str) -> NoReturn:
    """Skip the calling test, visibly; with CI set fail it."""
    note(config, "not run on", f"{what} ({why})")
    if STRICT:
        pytest.fail(f"with CI set {what} must be there: {why}", pytrace=False)
    pytest.skip(f"{what}: {why}")


# What the summary says


def note(config: pytest.Config, kind: str, what: str) -> None:
    noted = config.stash.setdefault(NOTES, {}).setdefault(kind, set())
    noted.add(what)
    if hasattr(config, "workeroutput"):  # a worker process of xdist tells the one with the screen
        config.workeroutput[f"services {kind}"] = sorted(noted)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for kind in ("ran on", "not run on"):
        for what in getattr(node, "workeroutput", {}).get(f"services {kind}", ()):
            note(node.config, kind, what)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    notes = config.stash.get(NOTES, {})
    terminalreporter.line(f"ran on: {', '.join(['SQLite', *sorted(notes.get('ran on', ()))])}")
    if missing := notes.get("not run on"):
        terminalreporter.line(f"NOT run on: {', '.join(sorted(missing))}", yellow=True)


# PostgreSQL


def find_postgres(stack: ExitStack) -> str:
    """The address of a server that makes databases for us."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        if not given.startswith("postgres"):
            pytest.fail("TEST_DATABASE_URL is no address of PostgreSQL", pytrace=False)
        return _answering("TEST_DATABASE_URL", for_libpq(given), postgres_version)
    for url in LOCAL_POSTGRES:
        with suppress(psycopg.Error, Unavailable):
            postgres_version(url)
            return url
    server = _instead_of(LOCAL_POSTGRES, start_postgres)
    stack.callback(server.remove)
    return for_libpq(server.url)


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


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """A new database for the length of the block, whose commits do not wait for the disk: it dies
    with the test anyway."""
    # The process number says whose it is; the rest tells machines apart that share a server.
    name = f"quittance_test_{os.getpid()}_{uuid4().hex[:6]}"
    with psycopg.connect(server, autocommit=True) as connection:
        database = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database)
        )
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


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


def for_libpq(url: str) -> str:
    return f"postgresql://{url.partition('://')[2]}"


def for_sqlalchemy(url: str) -> str:
    return f"postgresql+psycopg://{url.partition('://')[2]}"


# Redis


def find_redis(stack: ExitStack) -> tuple[str, str]:
    """The address of a server, and of a database in it that is ours until the stack closes."""
    if given := os.environ.get("TEST_REDIS_URL"):
        server = _answering("TEST_REDIS_URL", given, redis_version)
        return server, stack.enter_context(redis_database(server))
    for server in LOCAL_REDIS:
        with suppress(redis.RedisError, Unavailable):
            redis_version(server)
            return server, stack.enter_context(redis_database(server))
    own = _instead_of(LOCAL_REDIS, start_redis)
    stack.callback(own.remove)
    return own.url, stack.enter_context(redis_database(own.url))


def redis_version(url: str) -> str:
    with redis.Redis.from_url(url, socket_connect_timeout=5) as client:
        version = str(client.info("server")["redis_version"])
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        raise Unavailable(f"Redis {version} is older than {OLDEST_REDIS}")
    return version


REPLACE_IF_STILL = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('del', KEYS[1]) else redis.call('set', KEYS[1], ARGV[2]) end
return 1
"""


@contextmanager
def redis_database(server: str) -> Iterator[str]:
    """An unused database for the length of the block, kept by a lock in database 0.

    Never database 0 itself, where others look first. What a killed run on this machine left
    behind is taken over and emptied.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    with redis.Redis.from_url(redis_numbered(server, 0)) as locks:
        databases = int(locks.config_get("databases")["databases"])
        for number in range(1, databases):
            lock = f"quittance:test:database:{number}"
            with redis.Redis.from_url(redis_numbered(server, number)) as database:
                if locks.set(lock, holder, nx=True):
                    if database.dbsize():
                        locks.eval(REPLACE_IF_STILL, 1, lock, holder, "")
                        continue
                elif _takes_over(locks, lock, holder):
                    database.flushdb()
                else:
                    continue
                try:
                    yield redis_numbered(server, number)
                finally:
                    database.flushdb()
                    locks.eval(REPLACE_IF_STILL, 1, lock, holder, "")
                return
    raise Unavailable("all databases of this Redis are in use")


def _takes_over(locks: redis.Redis, lock: str, holder: str) -> bool:
    previous = locks.get(lock)
    if not isinstance(previous, bytes):
        return False
    machine, _, rest = previous.decode().partition(":")
    if machine != socket.gethostname() or _is_alive(int(rest.partition(":")[0])):
        return False
    return bool(locks.eval(REPLACE_IF_STILL, 1, lock, previous, holder))


def redis_numbered(server: str, number: int) -> str:
    return urlsplit(server)._replace(path=f"/{number}").geturl()


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


# Both


def place(url: str) -> str:
    parts = urlsplit(url)
    return f"at {parts.hostname}:{parts.port}" if parts.port else f"at {parts.hostname}"


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


def _answering(variable: str, url: str, ask_version: Callable[[str], str]) -> str:
    """``url``, when it answers. Who names a server means it: no skip and no other one instead."""
    try:
        ask_version(url)
    except (psycopg.Error, redis.RedisError, Unavailable) as error:
        pytest.fail(f"{variable} cannot be used: {error}", pytrace=False)
    return url


def _instead_of(local: Iterable[str], start: Callable[..., OwnServer]) -> OwnServer:
    try:
        return start()
    except Unavailable as reason:
        looked = " or ".join(dict.fromkeys(map(place, local)))
        raise Unavailable(f"none to use {looked}; {reason}") from None


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
    folder = Path(tempfile.mkdtemp(prefix="quittance-test-"))
    if os.geteuid() != 0:
        return folder, {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            other = pwd.getpwnam(name)
            os.chown(folder, other.pw_uid, other.pw_gid)
            return folder, {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    return folder, {}


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and somebody else's
    return True
