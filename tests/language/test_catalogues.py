"""The catalogues are in step with the code: complete, with the same gaps to fill in."""

from __future__ import annotations

import re

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from services.demo_goods import GOODS
from services.language import CATALOGUES, ENGLISH, LANGUAGES
from services.shop import IDENTITY
from translations import harvest

OTHERS = [language for language in LANGUAGES if language != ENGLISH]
each_other = pytest.mark.parametrize("language", OTHERS)


@pytest.fixture(scope="module")
def said() -> Catalog:
    return harvest.found()


def written(language: str, folder: str = "") -> dict[tuple[str | None, str], Message]:
    with (CATALOGUES / folder / f"{language}.po").open("rb") as file:
        return {key(message): message for message in read_po(file, locale=language) if message.id}


def key(message: Message) -> tuple[str | None, str]:
    return message.context, message.id if isinstance(message.id, str) else message.id[0]


def forms(message: Message) -> list[str]:
    """One translation, or one for each plural form."""
    return [message.string] if isinstance(message.id, str) else list(message.string)


def gaps(text: str) -> list[str]:
    """What is filled in, and what is printed bold."""
    return sorted(re.findall(r"%\(\w+\)[sd]|</?\w+>", text))


@pytest.mark.accept("X20")
@each_other
def test_every_sentence_that_is_said_is_translated_and_no_other(said: Catalog, language: str):
    asked = {key(message) for message in said if message.id}
    answered = written(language)

    assert asked == set(answered), "run `make words`, and translate what is new"
    empty = [m.id for m in answered.values() if not all(forms(m)) or m.fuzzy]
    assert empty == [], "without a translation, or with one that somebody guessed"


@each_other
def test_a_translation_fills_in_what_the_sentence_does(language: str):
    for message in written(language).values():
        singular = message.id if isinstance(message.id, str) else message.id[-1]
        for form in forms(message):
            one = {"%(num)d"} if form is not forms(message)[-1] else set()  # "every month"
            assert set(gaps(singular)) - set(gaps(form)) <= one, message.id
            assert set(gaps(form)) <= set(gaps(singular)), message.id


@each_other
def test_every_plural_form_of_the_language_is_there(language: str):
    expected = {"de": 2, "ja": 1}[language]

    for message in written(language).values():
        if not isinstance(message.id, str):
            assert len(forms(message)) == expected, message.id


@each_other
def test_a_translation_fits_where_its_sentence_stands(language: str):
    """It may stand in an attribute, at the end of a line, or before the next sentence."""
    for message in [*written(language).values(), *written(language, "goods").values()]:
        for form in forms(message):
            assert '"' not in form, form
            assert form == form.strip(), form
            assert "\n" not in form, form


@each_other
def test_the_demo_shop_speaks_of_its_goods_in_every_language(language: str):
    known = written(language, "goods")
    own = {good[name] for good in GOODS for name in ("title", "subtitle", "description")}
    own |= {good["category"] for good in GOODS} | {IDENTITY.tagline}

    assert {(None, text) for text in own} == set(known)
    assert all(message.string for message in known.values())


def test_japanese_is_polite_throughout_and_german_says_sie():
    """What is a sentence ends as one does that is spoken to a customer."""
    for message in written("ja").values():
        for form in forms(message):
            for sentence in re.findall(r"[^。！？]+(?=。)", re.sub(r"</?b>", "", form)):
                polite = r"(ます|です|ました|ません|ください|でした|ましょう|せん|へ|く|[)）s無])$"
                assert re.search(polite, sentence), form
    for message in written("de").values():
        for form in forms(message):
            assert not re.search(r"\b(du|dein\w*|dir|dich|euch|euer)\b", form), form
