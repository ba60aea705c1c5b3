"""Every template: announced, parseable, without inline code, in a shopper's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
PAGES = sorted(path for path in TEMPLATES.rglob("*.html") if path.parent.name != "email")
SHOPPERS = [path for path in PAGES if path.parent.name not in ("admin", "dev", "layouts")]
ICONS = set(re.findall(r'id="i-([\w-]+)"', (TEMPLATES / "layouts" / "_icons.html").read_text()))


def name(path: Path) -> str:
    return str(path.relative_to(TEMPLATES))


each_page = pytest.mark.parametrize("path", PAGES, ids=name)


@each_page
def test_a_template_parses_and_says_first_what_it_wants(path):
    source = path.read_text()

    Environment(autoescape=True).parse(source)
    assert re.match(r"\{# (Layout|Wants:|.*?Wants:)", source.splitlines()[0])


@each_page
def test_no_template_carries_code_that_the_browser_would_refuse(path):
    source = path.read_text()

    assert not re.search(r"<style|\sstyle\s*=|\son[a-z]+\s*=|hx-on|javascript:|[\"']js:", source)
    for script in re.findall(r"<script\b[^>]*>[^<]*", source):
        assert "src=" in script
        assert script.endswith(">"), "a script has its code in a file"


@each_page
def test_every_form_that_changes_something_carries_the_token(path):
    for form in re.findall(r"<form\b.*?</form>", path.read_text(), re.DOTALL):
        if 'method="post"' in form:
            assert "csrf()" in form or "csrf_token" in form


@each_page
def test_every_action_of_htmx_has_a_link_or_a_form_beneath(path):
    """Without scripts the same element still leads somewhere."""
    for tag in re.findall(r"<(\w+)\b([^>]*\bhx-(?:get|post)=[^>]*)>", path.read_text()):
        element, attributes = tag
        # Their pages show the same when they are loaded anew.
        polls = re.search('id="(order-status|admin-orders-live)"', attributes)
        recounts = 'id="delivery"' in attributes  # the server counts again on submit
        assert polls or recounts or "href=" in attributes or "action=" in attributes, element


@pytest.mark.parametrize("path", SHOPPERS, ids=name)
def test_a_shopper_meets_no_jargon(path):
    words = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]+>", " ", path.read_text(), flags=re.S)

    if path.name == "_macros.html":
        words = " ".join(re.findall(r'"([^"]+)"\)', path.read_text().split('"sync"')[0]))
    found = re.search(r"\b(webhooks?|sessions?|intents?|payloads?|provisional)\b", words, re.I)
    assert not found, found


@each_page
def test_every_glyph_is_drawn(path):
    used = set(re.findall(r'icon\("([\w-]+)"', path.read_text()))
    used |= set(re.findall(r'icon\("[\w-]+" if [^)]*? else "([\w-]+)"\)', path.read_text()))
    if path.name == "_macros.html":
        used |= set(re.findall(r'\("\w+", "([\w-]+)", "', path.read_text()))

    assert used <= ICONS
