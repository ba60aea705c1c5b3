"""The shop's pages and its API, as a shopper, an admin and an attacker meet them."""

from __future__ import annotations

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache

from services import auth
from tests.shop import Shop, Shopper


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every test has an app of its own; a third of its time would go into compiling templates."""
    cache = FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": cache}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe's SDK waits half a second and more between its tries."""
    monkeypatch.setattr("stripe._http_client.HTTPClient.INITIAL_DELAY", 0)


@pytest.fixture
def admin(sqlite_shop: Shop) -> Shopper:
    """Somebody at the counter, signed in by a one-time link."""
    return signed_in(sqlite_shop)


def signed_in(shop: Shop) -> Shopper:
    link = auth.create_link("ada@example.com")
    person = shop.shopper()
    answer = person.post("/admin/login", {"token": link.rpartition("=")[2]})
    assert answer.status_code == 303
    return person
