"""Sums and dates as each language writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from flask import Flask

from domain.words import Words
from services import language
from tests.shop import Shop


@pytest.fixture
def app(sqlite_shop: Shop) -> Flask:
    return sqlite_shop.app


@pytest.mark.accept("X20")
@pytest.mark.parametrize(
    ("spoken", "currency", "amount", "shown"),
    [
        ("en", "eur", 1250, "€12.50"),
        ("de", "eur", 1250, "12,50\u00a0€"),
        ("ja", "eur", 1250, "€12.50"),
        ("en", "jpy", 1250, "¥1,250"),
        ("de", "jpy", 1250, "1.250\u00a0¥"),
        ("ja", "jpy", 1250, "¥1,250"),
        ("de", "usd", 123456, "1.234,56\u00a0$"),
        ("de", "chf", 5, "0,05\u00a0CHF"),
        ("ja", "chf", 5, "CHF\u00a00.05"),
        ("de", "eur", -1250, "−12,50\u00a0€"),
        ("de", "kwd", 1234, "1,234\u00a0KWD"),
        ("de", "isk", 150000, "1.500\u00a0ISK"),
    ],
)
def test_a_sum_is_written_as_one_is_used_to(app, spoken, currency, amount, shown):
    with language.speaking(spoken):
        assert language.money(amount, currency) == shown


@pytest.mark.parametrize(
    ("spoken", "day", "when", "long"),
    [
        ("en", "3 Dec 2026", "3 Dec, 14:05", "3 December 2026"),
        ("de", "3. Dez. 2026", "3. Dez., 14:05", "3. Dezember 2026"),
        ("ja", "2026年12月3日", "12月3日 14:05", "2026年12月3日"),
    ],
)
def test_a_moment_is_written_as_one_is_used_to(app, spoken, day, when, long):
    moment = datetime(2026, 12, 3, 14, 5, tzinfo=UTC)
    with language.speaking(spoken):
        assert language.day(moment) == day
        assert language.when(moment) == when
        assert language.long_day(moment) == long
        assert language.clock(moment) == "14:05"


@pytest.mark.parametrize(
    ("spoken", "once", "often"),
    [
        ("en", "every month", "every 2 weeks"),
        ("de", "jeden Monat", "alle 2 Wochen"),
        ("ja", "1か月ごとに", "2週間ごとに"),
    ],
)
def test_a_rhythm_is_said_in_words(app, spoken, once, often):
    with language.speaking(spoken):
        assert language.every({"interval": "month", "count": 1}) == once
        assert language.every({"interval": "week", "count": 2}) == often


def test_a_sentence_is_said_again_with_what_it_was_made_of(app):
    words = Words("Only %(left)s of %(title)s left. Change the quantity to go on.",
                  left=2, title="Desk lamp")  # fmt: skip

    assert words == "Only 2 of Desk lamp left. Change the quantity to go on."
    with language.speaking("de"):
        assert language.said(words).startswith("Von Schreibtischlampe sind nur noch 2 da.")
        assert language.said("Something from elsewhere") == "Something from elsewhere"


def test_a_language_that_is_gone_is_english(app):
    with language.speaking("tlh"):
        assert language.spoken() == "en"
