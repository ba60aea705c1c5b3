"""A whole shop per test: real database, sandbox over HTTP, and a clock that tests can move."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache

from tests.shop import Shop, TestShops

pytest_plugins = ["tests.plugins.accept", "tests.plugins.services"]


MEMORY = Path("/dev/shm")
ROOM_IN_MEMORY = 1 << 28


@pytest.fixture(scope="session")
def quick_folder() -> Iterator[Path]:
    """For databases that die with the tests: in memory where there is room, else on the disk."""
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_IN_MEMORY
    with TemporaryDirectory(prefix="quittance-", dir=MEMORY if fits else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, quick_folder: Path) -> str:
    """The same tests run on both databases."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite:///{quick_folder / 'both.db'}"


@pytest.fixture(scope="session")
def shops(database_url: str) -> Iterator[TestShops]:
    made = TestShops(database_url)
    yield made
    made.close()


@pytest.fixture
def shop(shops: TestShops) -> Iterator[Shop]:
    """A shop with empty tables, the demo's goods, and nothing running in the background."""
    with shops.opened() as opened:
        yield opened


@pytest.fixture(scope="session")
def sqlite_shops(quick_folder: Path) -> Iterator[TestShops]:
    """For what does not depend on the database: one run is enough."""
    made = TestShops(f"sqlite:///{quick_folder / 'shop.db'}")
    yield made
    made.close()


@pytest.fixture
def sqlite_shop(sqlite_shops: TestShops) -> Iterator[Shop]:
    with sqlite_shops.opened() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_shops(postgres_url: str) -> Iterator[TestShops]:
    """For races: SQLite has one writer, so only PostgreSQL can show them."""
    made = TestShops(postgres_url)
    yield made
    made.close()


@pytest.fixture
def postgres_shop(postgres_shops: TestShops) -> Iterator[Shop]:
    with postgres_shops.opened() as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every test has an app of its own; a third of its time would go into compiling templates."""
    cache = FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": cache}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe's SDK waits half a second and more between its tries."""
    monkeypatch.setattr("stripe._http_client.HTTPClient.INITIAL_DELAY", 0)
