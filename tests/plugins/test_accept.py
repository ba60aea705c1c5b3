"""The report of numbers counts what passed, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plugins.accept import LAST, as_ranges

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _the_plugin_is_importable_below(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # most of an inner run's time


def report_of(pytester: pytest.Pytester, tests: str, *options: str) -> str:
    pytester.makepyfile("import pytest\n" + tests)
    run = pytester.runpytest_subprocess("-p", "tests.plugins.accept", "--accept-report", *options)
    return run.stdout.str() + run.stderr.str()


def shown_of(family: str, report: str) -> str:
    found = re.search(rf"^{family} .*shown: (.+?)   missing: ", report, re.M)
    assert found, report
    return found[1]


TESTS = """
@pytest.mark.accept("V8", "V9")
@pytest.mark.fault("F9")
def test_passes(): pass

@pytest.mark.accept("V10")
def test_fails(): assert False

@pytest.mark.accept("V11")
@pytest.mark.skip
def test_is_skipped(): pass

@pytest.mark.accept("V12")
@pytest.mark.xfail
def test_passes_against_expectation(): pass

@pytest.fixture
def leaves_a_mess():
    yield
    raise RuntimeError

@pytest.mark.accept("V13")
def test_passes_but_its_cleanup_fails(leaves_a_mess): pass

@pytest.mark.accept("V14")
@pytest.mark.parametrize("good", [True, False])
def test_passes_sometimes(good): assert good

@pytest.mark.accept("V15")
class TestTogether:
    @pytest.mark.accept("V16")
    def test_passes(self): pass
"""


@pytest.mark.parametrize(
    "options", [(), ("-p", "xdist", "-n", "1")], ids=["here", "in a worker process"]
)
def test_a_number_is_shown_by_a_test_that_passed_and_by_no_other(pytester, options):
    report = report_of(pytester, TESTS, *options)

    assert shown_of("V", report) == "V8–V9 V14–V16"
    assert shown_of("F", report) == "F9"
    assert shown_of("X", report) == "-"
    assert "with a test that did not pass: V10, V11, V12, V13, V14" in report
    assert "6 of 235 numbers are shown" in report


@pytest.mark.parametrize(
    "mark", ['accept("V34")', 'accept("F1")', 'fault("V8")', 'accept("v8")', 'accept("")']
)
def test_a_number_that_does_not_exist_stops_the_run(pytester, mark):
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_typo(): pass")

    run = pytester.runpytest_subprocess("-p", "tests.plugins.accept")

    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["ERROR: *::test_typo: there is no * number *"])


def test_without_the_option_nothing_is_reported(pytester):
    pytester.makepyfile("def test_passes(): pass")

    report = pytester.runpytest_subprocess("-p", "tests.plugins.accept").stdout.str()

    assert "1 passed" in report
    assert "shown" not in report


def test_the_list_of_numbers_is_complete():
    assert LAST == {"P": 25, "A": 31, "O": 33, "V": 33, "D": 49, "X": 26, "F": 38}
    assert as_ranges({"V2", "V10", "V1"}) == "V1–V2 V10"
