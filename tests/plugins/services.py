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
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from storm.processes.servers import (
    OwnServer,
    Unavailable,
    for_libpq,
    for_sqlalchemy,
    postgres_version,
    redis_version,
    start_postgres,
    start_redis,
)

LOCAL_POSTGRES = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    f"postgresql://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:5432/postgres",
)
LOCAL_REDIS = ("redis://127.0.0.1:6379",)
# Read once: a test may change its environment, but not how the run was started.
STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")

NOTES = pytest.StashKey[dict[str, set[str]]]()


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


# Both


def place(url: str) -> str:
    parts = urlsplit(url)
    return f"at {parts.hostname}:{parts.port}" if parts.port else f"at {parts.hostname}"


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


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and somebody else's
    return True
