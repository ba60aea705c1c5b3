"""What the documents name exists."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from docs.make_diagrams import PICTURES, pictures
from domain.strategies import STRATEGIES
from tests.shop import Shop

ROOT = Path(__file__).resolve().parent.parent
DOCS = (
    "adopt",
    "architecture",
    "api",
    "deployment",
    "operations",
    "performance",
    "reliability",
    "strategies",
    "subscriptions",
)
DECISIONS = sorted((ROOT / "docs/adr").glob("0*.md"))
PARTS = ("Context", "Decision", "Consequences", "Alternatives", "Enforced by")
WAYS = ("webhook late", "webhook never", "cancelled", "expired", "retried", "paid after the end")
CODE = ("services", "gateway", "domain", "models", "jobs", "doorbell", "extensions")


def _read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.accept("V32")
def test_every_address_of_the_api_reference_is_answered(sqlite_shop: Shop) -> None:
    named = set(re.findall(r"`(?:GET|PUT|POST|DELETE) (/[^`? ]*)", _read("docs/api.md")))
    known = {re.sub(r"<[^>]+>", "*", rule.rule) for rule in sqlite_shop.app.url_map.iter_rules()}

    assert len(named) >= 6
    assert {re.sub(r"[A-Z_]{4,}", "*", path) for path in named} <= known


@pytest.mark.accept("V32")
def test_the_documents_are_there_and_tell_how_to_migrate() -> None:
    for name in DOCS:
        assert len(_read(f"docs/{name}.md")) > 1000
    assert "flask db upgrade" in _read("docs/deployment.md")


def test_every_command_that_a_document_names_exists(sqlite_shop: Shop) -> None:
    known = set(sqlite_shop.app.cli.commands) | {"db"}
    texts = [_read("README.md"), *(_read(f"docs/{name}.md") for name in DOCS)]
    named = {name for text in texts for name in re.findall(r"`flask ([a-z]+)", text)}

    assert {"demo", "check", "sync", "storm"} <= named
    assert named <= known


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.accept("V32")
@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_has_a_page_with_its_pictures_and_every_way_it_can_go(name: str) -> None:
    stem = name.replace("_", "-")
    page = _read(f"docs/strategies/{stem}.md")

    shown = re.findall(r"!\[([^\]]{40,})\]\(\.\./pictures/([^)]+)\)", page)
    assert [picture for _, picture in shown] == [f"{stem}.svg", f"{stem}-other-ways.svg"]
    for way in WAYS:
        assert f"| {way}" in page
    for heading in ("What it is good for", "What it costs"):
        assert f"## {heading}" in page
    assert f"strategies/{stem}.md" in _read("docs/strategies.md")


@pytest.mark.accept("V32")
def test_the_pictures_of_the_strategies_say_what_the_strategies_say() -> None:
    for name, drawn in pictures().items():
        assert (PICTURES / name).read_text() == drawn, "run: python -m docs.make_diagrams"


@pytest.mark.accept("A31", "P24")
def test_the_decisions_answer_what_is_asked_most() -> None:
    asked = _read("docs/adr/README.md").partition("## What is asked most")[2]

    for question in ("technology", "missing", "cleans up", "creates the order"):
        (row,) = [line for line in asked.splitlines() if question in line]
        for page in re.findall(r"\]\(([^)]+)\)", row):
            assert (ROOT / "docs/adr" / page).exists()
    assert "Redis with a TTL" in _read("docs/adr/0008-attempt-data-is-kept-a-day.md")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem[:4])
def test_each_decision_is_one_page_and_what_enforces_it_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`([\w.]+)`", text.partition("**Enforced by**")[2])
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert [part for part in PARTS if f"**{part}" not in text] == []
    assert len(text) < 3000
    assert page.name in _read("docs/adr/README.md")
    for name in named:
        if name.startswith("test_"):
            assert f"def {name}(" in tests, name
        elif name.partition(".")[0] in CODE:
            assert _found(name), name


def _found(name: str) -> bool:
    """Whether a dotted name leads to something in the code."""
    first, *rest = name.split(".")
    deepest = importlib.import_module(first)
    while rest and (ROOT / first / rest[0]).with_suffix(".py").exists():
        first = f"{first}/{rest.pop(0)}"
        deepest = importlib.import_module(first.replace("/", "."))
    return reduce(lambda thing, part: getattr(thing, part, None), rest, deepest) is not None


def test_no_code_but_the_strategies_own_knows_one_by_name() -> None:
    own = {ROOT / "domain/strategies.py", ROOT / "config.py"}  # and the setting's default
    folders = ("services", "blueprints", "jobs", "gateway", "domain", "templates")
    code = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    names = re.compile("|".join(STRATEGIES))

    for path in {*code, *ROOT.glob("*.py")} - own:
        if path.suffix in (".py", ".html", ".txt"):
            assert not names.search(path.read_text()), path


def test_every_line_of_the_log_that_operations_names_is_written_somewhere() -> None:
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", _read("docs/operations.md")))
    code = "\n".join(
        path.read_text() for folder in ("services", "blueprints", ".") for path in _files(folder)
    )

    assert len(named) >= 10
    for name in named:
        assert f'"{name}"' in code, name


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))
