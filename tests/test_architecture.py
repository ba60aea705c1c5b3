"""The house's arrows hold, and every job name leads somewhere."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import doorbell

ROOT = Path(__file__).resolve().parent.parent
OURS = {
    "app", "blueprints", "commands", "config", "domain", "doorbell", "embedded", "extensions",
    "gateway", "jobs", "logs", "models", "services", "sandbox", "bench", "storm",
}  # fmt: skip

# What each part may import of us. Nobody else is named, so nobody else may.
ARROWS = {
    "domain": {"domain"},
    "config": {"domain"},
    "logs": set(),
    "doorbell": set(),
    "extensions": {"doorbell"},
    "models": {"extensions", "domain"},
    "gateway": {"gateway", "domain"},
    "services": {"services", "models", "extensions", "gateway", "domain"},
    "jobs": {"jobs", "services", "extensions", "doorbell"},
    "blueprints": {
        "blueprints", "services", "models", "extensions", "gateway", "domain", "logs",
    },
    "app": {
        "blueprints", "commands", "config", "domain", "extensions", "gateway", "logs",
    },
    "commands": {"domain", "embedded", "jobs", "services", "storm"},
    "embedded": {"app", "config", "domain", "jobs", "sandbox", "services"},
    "sandbox": {"sandbox"},
    "bench": {"bench", "storm"},  # whose servers it starts
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Top-level names of ours that a file imports, at its top or inside a function."""
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package if node.level else (node.module or "").split(".")[0])
    return found & OURS


def _files(part: str) -> list[Path]:
    single = ROOT / f"{part}.py"
    return [single] if single.exists() else sorted((ROOT / part).rglob("*.py"))


@pytest.mark.parametrize("part", sorted(ARROWS))
def test_a_part_imports_only_what_its_arrows_allow(part: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(_imports(path) - ARROWS[part])
        for path in _files(part)
        if _imports(path) - ARROWS[part]
    }

    assert wrong == {}


def test_only_the_gateway_speaks_to_stripe() -> None:
    speakers = {
        path.relative_to(ROOT).parts[0]
        for part in OURS - {"bench", "storm"}
        for path in _files(part)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(n.name == "stripe" for n in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "stripe")
    }

    assert speakers == {"gateway"}


def test_the_domain_needs_the_standard_library_only() -> None:
    imported = {
        (name.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for path in _files("domain")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }

    assert imported <= sys.stdlib_module_names | {"domain", "__future__"}


def test_no_strategy_is_branched_on_by_name() -> None:
    names = {"order_first", "pay_first", "dual_track"}
    places = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for part in ("services", "blueprints", "jobs", "gateway", "models", "app")
        for path in _files(part)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]

    assert places == []


def test_every_job_name_resolves_to_a_documented_place() -> None:
    for dotted in doorbell.JOBS.values():
        module, _, function = dotted.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_nothing_shadows_a_package_we_need() -> None:
    shadowing = {"queue", "stripe", "redis", "rq", "types", "email", "site"}

    assert not {path.stem for path in ROOT.iterdir()} & shadowing


def test_nobody_asks_the_time_but_the_clock() -> None:
    allowed = {"domain/clock.py", "jobs/runner.py", "jobs/schedule.py"}
    askers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for part in ("domain", "services", "gateway", "models", "blueprints")
        for path in _files(part)
        if str(path.relative_to(ROOT)) not in allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("now", "utcnow", "today")
    ]

    assert askers == []
