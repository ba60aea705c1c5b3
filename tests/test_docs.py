"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.shop import Shop

ROOT = Path(__file__).resolve().parent.parent
DOCS = ("architecture", "api", "deployment", "operations", "performance")


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
