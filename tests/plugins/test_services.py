"""Servers for tests are found, shared politely, and their absence is never silent.

Each test runs an inner pytest against servers of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
import redis

from storm.processes.servers import Unavailable, for_libpq, free_port
from tests.plugins.services import redis_database

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]

USES_BOTH = """
import psycopg, redis

def test_writes(postgres_url, redis_url):
    assert postgres_url.startswith("postgresql+psycopg://")
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE mine ()")
    assert redis.Redis.from_url(redis_url).set("mine", 1, nx=True)
"""

# Two processes write, and wait for each other before they look around.
MEETING = (
    USES_BOTH
    + """
    import os, pathlib, time

    here = pathlib.Path(os.environ["MEETING"])
    (here / str(os.getpid())).write_text(f"{postgres_url} {redis_url}")
    deadline = time.monotonic() + 30
    while len(list(here.iterdir())) < 2:
        assert time.monotonic() < deadline, "the other process never came"
        time.sleep(0.01)
    assert f"quittance_test_{os.getpid()}_" in postgres_url
"""
)

# The inner run looks for local servers and programs where there are none.
NOTHING_HERE = """
from storm.processes import servers
from tests.plugins import services
services.LOCAL_POSTGRES = services.LOCAL_REDIS = ()
servers.BINARY_FOLDERS = ()
"""


@pytest.fixture
def inner(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # most of an inner run's time
    for name in ("TEST_DATABASE_URL", "TEST_REDIS_URL", "CI"):
        monkeypatch.delenv(name, raising=False)

    def run(tests: str, *options: str, **env: str) -> pytest.RunResult:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        pytester.makepyfile(tests)
        return pytester.runpytest_subprocess("-p", "tests.plugins.services", *options)

    return run


def databases_of(url: str) -> set[str]:
    with psycopg.connect(for_libpq(url)) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def lock(url: str, number: int, process_id: int, machine: str | None = None) -> None:
    holder = f"{machine or socket.gethostname()}:{process_id}:abcdef"
    redis.Redis.from_url(url).set(f"quittance:test:database:{number}", holder)


def an_ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def keys_of(url: str) -> dict[int, list[bytes]]:
    numbered = (redis.Redis.from_url(url.removesuffix("/0"), db=number) for number in range(16))
    return {n: client.keys() for n, client in enumerate(numbered) if client.keys()}


def test_two_processes_share_named_servers_without_meeting_and_leave_them_as_found(
    inner, own_postgres, own_redis
):
    postgres, cache = own_postgres(), own_redis()
    redis.Redis.from_url(cache.url.removesuffix("/0"), db=1).set("somebody", "else's")
    databases, keys = databases_of(postgres.url), keys_of(cache.url)
    meeting = postgres.folder / "meeting"
    meeting.mkdir()

    run = inner(
        MEETING,
        *("-p", "xdist", "-n", "2", "--dist", "each"),
        TEST_DATABASE_URL=postgres.url,
        TEST_REDIS_URL=cache.url,
        MEETING=str(meeting),
    )

    run.assert_outcomes(passed=2)
    run.stdout.fnmatch_lines(
        [
            f"ran on: SQLite, PostgreSQL {postgres.version} at 127.0.0.1:*, "
            f"Redis {cache.version} at 127.0.0.1:*"
        ]
    )
    assert databases_of(postgres.url) == databases
    assert keys_of(cache.url) == keys == {1: [b"somebody"]}


def test_a_named_server_that_does_not_answer_fails_the_tests_instead_of_skipping_them(inner):
    nowhere = f"127.0.0.1:{free_port()}"

    run = inner(
        "def test_database(postgres_url): pass\ndef test_queue(redis_url): pass",
        TEST_DATABASE_URL=f"postgresql://postgres@{nowhere}/postgres",
        TEST_REDIS_URL=f"redis://{nowhere}",
    )

    run.assert_outcomes(errors=2)
    run.stdout.fnmatch_lines(["*TEST_DATABASE_URL cannot be used: *"])
    run.stdout.fnmatch_lines(["*TEST_REDIS_URL cannot be used: *"])


NEEDS_ALL = """
def test_database(postgres_url): pass
def test_queue(redis_url): pass
def test_own_database(own_postgres): own_postgres()
def test_own_queue(own_redis): own_redis()
def test_needs_nothing(): pass
"""


def test_without_any_server_the_tests_are_skipped_and_one_line_says_so(
    inner, pytester, monkeypatch
):
    pytester.makeconftest(NOTHING_HERE)
    monkeypatch.setenv("PATH", str(pytester.path))

    run = inner(NEEDS_ALL)

    run.assert_outcomes(passed=1, skipped=4)
    run.stdout.fnmatch_lines(
        ["ran on: SQLite", "NOT run on: PostgreSQL (*no program postgres*), Redis (*"]
    )


def test_with_ci_set_a_missing_server_is_a_failure(inner, pytester, monkeypatch):
    pytester.makeconftest(NOTHING_HERE)
    monkeypatch.setenv("PATH", str(pytester.path))

    run = inner(NEEDS_ALL, CI="1")

    run.assert_outcomes(passed=1, failed=2, errors=2)
    run.stdout.fnmatch_lines(["*with CI set PostgreSQL must be there*"])


def test_without_a_local_server_one_is_started_from_the_programs_on_this_machine(inner, pytester):
    pytester.makeconftest(
        "from tests.plugins import services\nservices.LOCAL_POSTGRES = services.LOCAL_REDIS = ()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # another user than root must find the way in

        run = inner(USES_BOTH, TMPDIR=folder)

        run.assert_outcomes(passed=1)
        assert list(Path(folder).glob("quittance-test-*")) == []


def test_what_a_killed_run_left_in_redis_is_taken_over_and_emptied(own_redis):
    cache = own_redis()
    lock(cache.url, 1, an_ended_process())
    redis.Redis.from_url(cache.url.removesuffix("/0"), db=1).set("left", "over")

    with redis_database(cache.url) as ours:
        assert ours.endswith("/1")
        assert list(keys_of(cache.url)) == [0]

    assert keys_of(cache.url) == {}


def test_a_database_of_a_run_that_lives_or_ran_elsewhere_is_not_touched(own_redis):
    cache = own_redis()
    lock(cache.url, 1, os.getpid())
    lock(cache.url, 2, an_ended_process(), machine="elsewhere")
    found = keys_of(cache.url)

    with redis_database(cache.url) as ours:
        assert ours.endswith("/3")

    assert keys_of(cache.url) == found


def test_a_server_whose_databases_are_all_in_use_is_not_squeezed_into(own_redis):
    cache = own_redis("--databases", "3")
    with (
        redis_database(cache.url),
        redis_database(cache.url),
        pytest.raises(Unavailable, match="in use"),
        redis_database(cache.url),
    ):
        pass


def test_an_own_server_is_killed_and_comes_back_with_its_data(own_postgres, own_redis):
    postgres, cache = own_postgres(), own_redis("--appendonly", "yes", "--appendfsync", "always")
    with psycopg.connect(for_libpq(postgres.url)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    redis.Redis.from_url(cache.url).set("kept", 7)

    for server in (postgres, cache):
        server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(for_libpq(postgres.url))
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(cache.url).ping()
    for server in (postgres, cache):
        server.start()

    with psycopg.connect(for_libpq(postgres.url)) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert redis.Redis.from_url(cache.url).get("kept") == b"7"


def test_an_own_server_stops_in_order_while_a_client_is_connected(own_postgres):
    postgres = own_postgres()

    with psycopg.connect(for_libpq(postgres.url)):
        postgres.stop()

    assert postgres.process.poll() == 0


def test_own_servers_stand_apart(own_redis):
    first, second = own_redis(), own_redis()

    first.kill()

    assert redis.Redis.from_url(second.url).ping()


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root starts servers as himself")
def test_root_starts_servers_as_somebody_else(own_postgres, own_redis):
    for server in (own_postgres(), own_redis()):
        assert Path(f"/proc/{server.process.pid}").stat().st_uid != 0
