"""A release brings its tables while the code of before is still serving."""

from __future__ import annotations

import ast
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from flask_migrate import downgrade, upgrade

from app import create_app
from services import health
from storm.processes.servers import for_libpq, for_sqlalchemy
from tests.plugins.services import postgres_database
from tests.shop import settings_for

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "migrations"
VERSIONS = sorted((MIGRATIONS / "versions").glob("*.py"))
NEVER = ("drop_column", "drop_table", "rename_table")
LONGEST_STOP_S = 4.0  # twice what a migration waits for its lock


def breaks_code_of_before(script: Path) -> Iterator[str]:
    """What a migration does that the code of the release before would stumble over."""
    module = ast.parse(script.read_text())
    (up,) = (node for node in module.body if getattr(node, "name", "") == "upgrade")
    made = set()
    for call in (node for node in ast.walk(up) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", "")
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "create_table":
            made |= {id(node) for node in ast.walk(call)}
        if name in NEVER or (name == "execute" and "DROP" in ast.unparse(call).upper()):
            yield ast.unparse(call)
        if name == "alter_column" and (
            "new_column_name" in given or given.get("nullable") == "False"
        ):
            yield ast.unparse(call)
        is_new_column = name == "Column" and id(call) not in made
        if is_new_column and given.get("nullable") == "False" and "server_default" not in given:
            yield ast.unparse(call)


@pytest.mark.fault("F33")
@pytest.mark.parametrize("script", VERSIONS, ids=[script.stem for script in VERSIONS])
def test_a_migration_only_adds_what_the_code_of_before_need_not_know(script: Path) -> None:
    assert list(breaks_code_of_before(script)) == []


@pytest.mark.parametrize(
    "line",
    [
        'op.drop_column("orders", "total")',
        'op.rename_table("orders", "purchases")',
        'op.alter_column("orders", "total", new_column_name="sum")',
        'op.alter_column("orders", "email", nullable=False)',
        'op.add_column("orders", sa.Column("gift", sa.Text(), nullable=False))',
        'op.execute("drop view shelf")',
    ],
)
def test_what_the_code_of_before_would_stumble_over_is_found(line: str, tmp_path: Path) -> None:
    script = tmp_path / "0099_next.py"
    script.write_text(f"def upgrade():\n    {line}\n")

    assert len(list(breaks_code_of_before(script))) == 1


@pytest.mark.timeout(120)
@pytest.mark.fault("F33")
def test_a_migration_that_waits_for_a_table_lets_everybody_else_by(postgres_url: str) -> None:
    """Somebody reads events in a long transaction; the migration wants to change the table."""
    with postgres_database(for_libpq(postgres_url)) as database:
        app = create_app(settings_for(for_sqlalchemy(database), 1))
        with app.app_context():
            upgrade(directory=str(MIGRATIONS))
            downgrade(directory=str(MIGRATIONS), revision="0005")

        def upgrades() -> None:
            with app.app_context():
                upgrade(directory=str(MIGRATIONS))

        release = threading.Thread(target=upgrades)
        with psycopg.connect(database) as reader, psycopg.connect(database) as shop:
            reader.execute("SELECT 1 FROM stripe_events").fetchall()
            release.start()
            stops = [longest_stop(shop) for _ in range(2)]
            assert release.is_alive()
        release.join()

        assert max(stops) < LONGEST_STOP_S
        with app.app_context():
            assert health.parts()["migrations"]["ok"]


def longest_stop(shop: psycopg.Connection) -> float:
    """How long at most a query on the table takes, over the time of one try of the migration."""
    longest, until = 0.0, time.monotonic() + 3.0
    while time.monotonic() < until:
        began = time.monotonic()
        shop.execute("SELECT 1 FROM stripe_events LIMIT 1").fetchall()
        shop.rollback()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)
    return longest


@pytest.mark.fault("F33")
def test_code_is_ready_ahead_of_its_release_and_not_behind_its_tables(tmp_path: Path) -> None:
    app = create_app(settings_for(f"sqlite:///{tmp_path / 'shop.db'}", 1))
    with app.app_context():
        upgrade(directory=str(MIGRATIONS), revision="0005")
        behind = health.parts()["migrations"]
        upgrade(directory=str(MIGRATIONS))
        assert health.parts()["migrations"]["ok"]
        _stamp(tmp_path / "shop.db", "next_release")
        ahead = health.parts()["migrations"]

    assert not behind["ok"] and "flask db upgrade" in str(behind["detail"])
    assert ahead["ok"] and "newer than this code" in str(ahead["detail"])


def _stamp(database: Path, revision: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
