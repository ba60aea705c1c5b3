"""In which language somebody is spoken to: words, sums and times.

A sentence in the code is English and is its own key; ``translations/<language>.po`` has the
others, and ``translations/goods/<language>.po`` what the shop says of itself and of its goods. They
are read when the first page needs them, so that there is nothing to compile or to forget.
Which language is in force is Flask-Babel's to know: the visitor's during a request, the one frozen
with an order while a mail about it is written, and English for everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from unicodedata import normalize
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_skeleton
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import parse_pattern
from babel.support import NullTranslations, Translations
from flask_babel import Domain, force_locale, get_locale, gettext, ngettext

from domain.money import SHOWN_WITHOUT_DECIMALS, SIGNS, display, exponent
from domain.words import Sum, Words
from services.shop import IDENTITY

# As each calls itself. Another one is a line here and a catalogue.
LANGUAGES = {"en": "English", "de": "Deutsch", "ja": "日本語"}
ENGLISH = "en"
CATALOGUES = Path(__file__).resolve().parent.parent / "translations"

# English as it is written in Europe: a date begins with its day.
_LOCALES = {ENGLISH: "en_GB"}


class Catalogues(Domain):
    """Where Flask-Babel finds the words of a language."""

    def get_translations(self) -> NullTranslations:
        return catalogue(spoken())


@cache
def catalogue(language: str) -> NullTranslations:
    """All words of a language; English needs none."""
    if language == ENGLISH:
        return NullTranslations()
    words = _read(CATALOGUES / f"{language}.po", language)
    for message in _read(CATALOGUES / "goods" / f"{language}.po", language):
        words[message.id] = message
    compiled = BytesIO()
    write_mo(compiled, words)
    compiled.seek(0)
    return Translations(compiled)


def _read(path: Path, language: str) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=language)


@cache
def _said_of_goods(language: str) -> dict[str, str]:
    """What is said of the shop's goods in a language, and what that is in the shop's own words."""
    if language == ENGLISH:
        return {}
    goods = _read(CATALOGUES / "goods" / f"{language}.po", language)
    return {str(message.string): str(message.id) for message in goods if message.id}


def meant(query: str) -> list[str]:
    """The shop's own words for goods of which the language in force says something like it."""
    wanted = query.casefold()
    found = _said_of_goods(spoken()).items()
    return [own for theirs, own in found if wanted in theirs.casefold()] if wanted else []


@cache
def _own() -> dict[str, str]:
    found: dict[str, str] = {}
    for language in LANGUAGES:
        if language != ENGLISH:
            for path in (CATALOGUES / f"{language}.po", CATALOGUES / "goods" / f"{language}.po"):
                for message in _read(path, language):
                    if isinstance(message.id, str) and message.id:
                        found[str(message.string)] = message.id
    return found


def own_words(text: str) -> str:
    """What this shop itself calls what it has called ``text`` in some language; a name that it
    has given nobody comes back as it is."""
    return _own().get(text, text)


def spoken() -> str:
    """The language in force."""
    locale = get_locale()
    return locale.language if locale and locale.language in LANGUAGES else ENGLISH


def locale_of(language: str | None) -> str:
    """The locale by which its sums and dates are written; English for one we do not speak."""
    known = language if language in LANGUAGES else ENGLISH
    return _LOCALES.get(known, known)


def speaking(language: str | None) -> AbstractContextManager[None]:
    """Speak another language for a while, as in a mail that is written hours later."""
    spoken_so: AbstractContextManager[None] = force_locale(locale_of(language))
    return spoken_so


def said(words: str | None) -> str:
    """A sentence of ours in the language in force; any other text as it is."""
    if isinstance(words, Words):
        values = {name: _filled_in(value) for name, value in words.values.items()}
        return gettext(words.pattern, **values)
    return words if words is not None else ""


def _filled_in(value: Any) -> str:
    if isinstance(value, Words):
        return said(value)
    return money(value.amount, value.currency) if isinstance(value, Sum) else kept(str(value))


def kept(label: str | None) -> str:
    """The same for what was stored in English: a label of ours, or a name that the shop gave."""
    return gettext(label) if label else ""


def _locale() -> Locale:
    return get_locale() or Locale.parse(locale_of(ENGLISH))


def money(amount: int, currency: str) -> str:
    """``1250, "eur"`` -> ``€12.50``, ``12,50 €``; minor units in, text for people out."""
    if spoken() == ENGLISH:
        return display(amount, currency)
    return _money(amount, currency, _locale())


def _money(amount: int, currency: str, locale: Locale) -> str:
    places = exponent(currency)
    shown = 0 if currency in SHOWN_WITHOUT_DECIMALS else places
    digits = "#,##0" + ("." + "0" * shown if shown else "")
    number = parse_pattern(digits).apply(Decimal(abs(amount)).scaleb(-places), locale)
    pattern = locale.currency_formats["standard"]
    before, after = pattern.prefix[0], pattern.suffix[0]
    sign = SIGNS.get(currency, currency.upper() + " ")
    sign = sign.strip() if "¤" in after else sign.replace(" ", "\u00a0")
    minus = "−" if amount < 0 else ""
    return f"{minus}{before.replace('¤', sign)}{number}{after.replace('¤', sign)}"


def here(moment: datetime) -> datetime:
    """The moment by the clock of the shop."""
    return moment.astimezone(_zone(IDENTITY.time_zone))


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def clock(moment: datetime) -> str:
    """``14:05``"""
    return f"{here(moment):%H:%M}"


def day(moment: datetime) -> str:
    """``3 Dec 2026``, ``3. Dez. 2026``, ``2026年12月3日``"""
    return _skeleton("yMMMd", moment)


def short_day(moment: datetime) -> str:
    """The same without its year."""
    return _skeleton("MMMd", moment)


def long_day(moment: datetime) -> str:
    """``3 December 2026``"""
    return str(format_date(here(moment), "long", locale=_locale()))


def when(moment: datetime) -> str:
    """``3 Dec, 14:05``"""
    pattern = _locale().datetime_formats["short"]
    return str(pattern).replace("{1}", short_day(moment)).replace("{0}", clock(moment))


def _skeleton(skeleton: str, moment: datetime) -> str:
    return str(format_skeleton(skeleton, here(moment), locale=_locale()))


def every(plan: Mapping[str, Any]) -> str:
    """How often, in words: ``every month``, ``every 2 weeks``."""
    count = plan["count"]
    match plan["interval"]:
        case "day":
            return ngettext("every day", "every %(num)d days", count)
        case "week":
            return ngettext("every week", "every %(num)d weeks", count)
        case "month":
            return ngettext("every month", "every %(num)d months", count)
        case _:
            return ngettext("every year", "every %(num)d years", count)


def free_time(plan: Mapping[str, Any]) -> str:
    """What a trial gives, in words: ``14 days free``; nothing without one."""
    days = plan["trial_days"]
    return ngettext("%(num)d day free", "%(num)d days free", days) if days else ""


def listed(names: list[str]) -> str:
    """``a, b``: names one after another, as this language parts them."""
    return ("、" if spoken() == "ja" else ", ").join(names)


def countries(codes: Mapping[str, str]) -> dict[str, str]:
    """Names of countries by their codes, in the order of this language's dictionary."""
    names = {code: _locale().territories.get(code, codes[code]) for code in codes}
    return dict(sorted(names.items(), key=lambda named: normalize("NFD", named[1])))
