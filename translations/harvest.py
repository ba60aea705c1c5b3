"""Bring the catalogues in step with the code: ``make words``.

Every sentence that a shopper can read is looked up in the templates and the code; what is new comes
into each ``.po`` file with an empty translation, what nobody says any more leaves it. A test fails
until the new ones are translated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
KEYWORDS = {
    "_": None,
    "gettext": None,
    "Words": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}
CODE = ("app.py", "blueprints", "domain", "gateway", "services")
# Templates for those who run the shop.
ENGLISH_ONLY = ("admin", "dev")
TO_THE_COUNTER = ("layouts/admin.html", "email/alert.txt", "email/alert_cleared.txt")
# Kinds of chips that shoppers meet; the other kinds stand at the counter.
CHIPS = ("payment", "order", "confirmation", "plan", "refund")


def shopper_templates() -> list[Path]:
    """Every template that a shopper or their mailbox gets to see."""
    templates = ROOT / "templates"
    files = [path for path in templates.rglob("*") if path.suffix in (".html", ".txt")]
    return sorted(
        path
        for path in files
        if path.parent.name not in ENGLISH_ONLY
        and str(path.relative_to(templates)) not in TO_THE_COUNTER
    )


def found() -> Catalog:
    """All sentences that are said, with where."""
    catalogue = Catalog(charset="utf-8")
    for name in CODE:
        single = ROOT / name
        for path in [single] if single.suffix else sorted(single.rglob("*.py")):
            _take(catalogue, "python", path)
    for path in shopper_templates():
        _take(catalogue, "jinja2", path)
    for words in chips():
        catalogue.add(words, locations=[("templates/_macros.html", 0)])
    return catalogue


def chips() -> Iterator[str]:
    """The wordings of the states that a shopper reads."""
    source = (ROOT / "templates" / "_macros.html").read_text()
    for kind in CHIPS:
        table = re.search(rf'  "{kind}": {{(.*?)\n  }},', source, re.DOTALL)
        assert table, f"no chips of the kind {kind}"
        yield from re.findall(r'\("\w+", "[\w-]+", "([^"]+)"\)', table[1])


def _take(catalogue: Catalog, method: str, path: Path) -> None:
    where = str(path.relative_to(ROOT))
    options = {"silent": "false"} if method == "jinja2" else {}
    for _line, message, _comments, context in extract_from_file(
        method, str(path), keywords=KEYWORDS, options=options
    ):
        catalogue.add(message, locations=[(where, 0)], context=context)


def main() -> int:
    """Update every catalogue; says how many sentences wait for a translation."""
    template, waiting = found(), 0
    for path in sorted((ROOT / "translations").glob("*.po")):
        with path.open("rb") as file:
            catalogue = read_po(file, locale=path.stem)
        catalogue.update(template, no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        with path.open("wb") as file:
            # Without a header: it would hold the time of this run, and nothing that we need.
            write_po(file, catalogue, width=100, include_lineno=False, omit_header=True)
        empty = [m.id for m in catalogue if m.id and not all(_parts(m.string))]
        waiting += len(empty)
        sys.stdout.write(f"{path.name}: {len(catalogue)} sentences, {len(empty)} to translate\n")
    return 1 if waiting else 0


def _parts(string: Any) -> list[str]:
    """One translation, or one for each plural form."""
    return list(string) if isinstance(string, list | tuple) else [string or ""]


if __name__ == "__main__":
    sys.exit(main())
