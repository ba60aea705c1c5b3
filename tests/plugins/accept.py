"""Which required behaviours a test shows: `pytest --accept-report`.

A test names the numbers it shows, ``@pytest.mark.accept("V8")`` or ``@pytest.mark.fault("F7")``.
A number counts as shown when at least one of its tests passed in this run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

LAST = {"P": 25, "A": 31, "O": 33, "V": 33, "D": 49, "X": 26, "F": 38}
NUMBERS = {family: [f"{family}{n}" for n in range(1, last + 1)] for family, last in LAST.items()}
FAMILIES = {"accept": "PAOVDX", "fault": "F"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept-report",
        action="store_true",
        help="say which acceptance and fault numbers have a passing test, and which have none",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--accept-report"):
        config.pluginmanager.register(AcceptReport())


def pytest_itemcollected(item: pytest.Item) -> None:
    # A property travels with every report, from a worker process too.
    item.user_properties.extend(("shows", number) for number in numbers_of(item))


def numbers_of(item: pytest.Item) -> Iterator[str]:
    """The numbers a test claims; a number that does not exist stops the run."""
    for mark, families in FAMILIES.items():
        known = [number for family in families for number in NUMBERS[family]]
        for marker in item.iter_markers(mark):
            for number in marker.args:
                if number not in known:
                    raise pytest.UsageError(f"{item.nodeid}: there is no {mark} number {number!r}")
                yield number


class AcceptReport:
    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, bool]] = defaultdict(dict)  # number -> test -> passed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, number in report.user_properties:
            if name == "shows" and (report.when == "call" or not report.passed):
                tests = self.outcomes[number]
                passed = report.passed and not hasattr(report, "wasxfail")
                tests[report.nodeid] = passed and tests.get(report.nodeid, True)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("numbers with a passing test")
        every = [number for family in NUMBERS.values() for number in family]
        missing = [number for number in every if number not in self.shown()]
        for family, numbers in NUMBERS.items():
            shown = [n for n in numbers if n in self.shown()]
            line = f"{family}  {len(shown):2} of {len(numbers)}   shown: {as_ranges(shown)}"
            terminalreporter.line(f"{line}   missing: {as_ranges(set(numbers) - set(shown))}")
        broken = [n for n in every if not all(self.outcomes.get(n, {}).values())]
        if broken:
            terminalreporter.line(f"with a test that did not pass: {', '.join(broken)}")
        terminalreporter.line(f"{len(every) - len(missing)} of {len(every)} numbers are shown")

    def shown(self) -> set[str]:
        return {number for number, tests in self.outcomes.items() if any(tests.values())}


def as_ranges(numbers: Iterable[str]) -> str:
    """['V1', 'V2', 'V3', 'V7'] as 'V1–V3 V7'; '-' for none."""
    runs: list[list[str]] = []
    for number in sorted(numbers, key=lambda n: int(n[1:])):
        if runs and int(number[1:]) == int(runs[-1][-1][1:]) + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(r[0] if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs) or "-"
