"""No shopper's template holds bare text: every word goes through the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from translations.harvest import ROOT, shopper_templates

# Attributes that are read to people.
SPOKEN = {"alt", "aria-label", "content", "placeholder", "title", "value"}
# What is no word of a language: glyphs, units of the page itself, names that Stripe's fields have.
NO_WORDS = re.compile(
    r"^(width=device-width, initial-scale=1|light|noindex|no-referrer|#[0-9a-f]{6}|\{.*\}|;url="
    r"|changed from:.*|load delay:.*)$",
    re.DOTALL,
)
LETTER = re.compile(r"[^\W\d_]{2,}")
# A block that fills in a class.
CLASSES = re.compile(r"{% block \w+_class %}.*?{% endblock %}")
GAP = "\N{REPLACEMENT CHARACTER}"

TEMPLATES = shopper_templates()
environment = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])


class Reader(HTMLParser):
    """What people get to read or hear of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in ("script", "style")
        kinds = dict(attrs)
        for name, value in attrs:
            hidden = name == "value" and kinds.get("type") not in ("submit", "button")
            named = name.startswith("data-") and " " in (value or "")
            if (name in SPOKEN and not hidden) or named:
                self.said.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.said.append(data)


def bare(path: Path) -> list[str]:
    """Words that stand in a template by themselves."""
    tree = environment.parse(CLASSES.sub("", path.read_text()))
    page = "".join(
        part.data if isinstance(part, nodes.TemplateData) else GAP
        for output in tree.find_all(nodes.Output)
        for part in output.nodes
    )
    if path.suffix == ".html":
        reader = Reader()
        reader.feed(page)
        texts = reader.said
    else:
        texts = [page]
    found = [piece.strip() for text in texts for piece in text.split(GAP)]
    literal = [text for output in tree.find_all(nodes.Output) for text in _spoken(output)]
    return [text for text in found + literal if LETTER.search(text) and not NO_WORDS.match(text)]


def _spoken(node: nodes.Node) -> Iterator[str]:
    """Texts in expressions that end on the page without being looked up."""
    if isinstance(node, nodes.Call):
        name = getattr(node.node, "name", "")
        told = {"field": node.args[1:2] + [k.value for k in node.kwargs if k.key == "hint"]}
        for part in told.get(name, []):
            yield from _spoken(part)
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        if " " in node.value.strip() or node.value[:1].isupper():
            yield node.value
        return
    if isinstance(node, nodes.Filter) and node.name in ("join", "default", "attr"):
        return
    test = [node.test] if isinstance(node, nodes.CondExpr) else []
    for child in node.iter_child_nodes():
        if child not in test and not isinstance(node, nodes.Compare | nodes.Getitem):
            yield from _spoken(child)


@pytest.mark.accept("X20")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_holds_no_bare_text(path: Path):
    assert bare(path) == []


def test_bare_text_would_be_found(tmp_path: Path):
    source = (
        '<p class="lead">Thank you</p><a aria-label="Your basket" href="/x">{{ _("Fine") }}</a>'
        '{{ "Total paid" if paid else "Total" }}{{ field(form.a, "City", hint="As written") }}'
        '<button name="when" value="now">{{ name }} gone</button><input value="a b" type="text">'
    )
    page = tmp_path / "page.html"
    page.write_text(source)

    assert bare(page) == [
        "Thank you", "Your basket", "gone", "Total paid", "Total", "City", "As written",
    ]  # fmt: skip


def test_text_would_be_found_in_a_mail(tmp_path: Path):
    mail = tmp_path / "mail.txt"
    mail.write_text("{# Wants: link. #}\nYour order: {{ link }}\n{{ _('Bye') }}\n")

    assert bare(mail) == ["Your order:"]
