"""A short storm of processes, across a release; longer ones by ``make storm``."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from storm.processes import page
from storm.processes.house import ROOT, House
from storm.processes.run import blow
from storm.processes.servers import Unavailable
from tests.plugins.services import cannot_run, note

CHECKOUTS, MINUTES, FAULT_EVERY_S = 30, 0.25, 3.0

NEXT_RELEASE = '''
"""Tables of a release to come, which only grow."""
import sqlalchemy as sa
from alembic import op

revision = "next_release"
down_revision = "{head}"


def upgrade():
    op.create_table("gift_cards", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("orders", sa.Column("gift_note", sa.Text()))
    op.add_column(
        "checkout_attempts",
        sa.Column("channel", sa.String(20), server_default="web", nullable=False),
    )
    op.create_index("ix_orders_gift_note", "orders", ["gift_note"])
'''


def next_release(house: House) -> None:
    """Bring newer tables while everybody shops, then let processes take turns, as a platform does;
    half of them are not replaced."""
    scripts = house.folder / "migrations"
    shutil.copytree(ROOT / "migrations", scripts)
    head = max(path.stem.partition("_")[0] for path in (scripts / "versions").glob("0*.py"))
    (scripts / "versions" / "next_release.py").write_text(NEXT_RELEASE.format(head=head))

    released = upgraded(house, scripts)
    if released.returncode:  # PostgreSQL was just killed: a release is repeated, and is all or none
        released = upgraded(house, scripts)
    assert released.returncode == 0, released.stderr

    for process in (house.webs[0], house.workers[0]):
        process.end(signal.SIGTERM)
        process.start()
    (house.folder / "released").touch()


def upgraded(house: House, scripts: Path) -> subprocess.CompletedProcess[str]:
    return house.runs("db", "upgrade", "-d", str(scripts))


@pytest.mark.timeout(400)
@pytest.mark.fault("F29", "F30", "F33")
def test_a_storm_across_a_release_loses_nothing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kept, lines = tmp_path / "logs", []
    try:
        result = blow(
            seed=7,
            checkouts=CHECKOUTS,
            minutes=MINUTES,
            every_s=FAULT_EVERY_S,
            during=next_release,
            say=lines.append,
            keep=kept,
        )
    except Unavailable as reason:
        cannot_run(request.config, "a storm of processes", str(reason))
    note(request.config, "ran on", "a storm of processes")

    assert result.holds, (result.figures(), dict(result.verdict.broken), result.verdict.pending)
    assert (kept / "released").exists()
    assert len(result.faults) >= 3
    assert result.verdict.figures["confirmed orders"] > CHECKOUTS // 2
    assert lines
    page.written(result, tmp_path / "storm.html")
    assert "Every promise held" in (tmp_path / "storm.html").read_text()
