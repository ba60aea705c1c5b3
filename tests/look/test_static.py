"""What a browser downloads: known, small, and nobody else's."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.demo_goods import GOODS

STATIC = Path(__file__).resolve().parents[2] / "static"
CSS = (STATIC / "app.css").read_text()
PICTURES = sorted((STATIC / "products").glob("*.svg"))


def test_htmx_and_its_extension_are_the_files_their_readme_names():
    readme = (STATIC / "htmx" / "README.md").read_text()
    named = re.findall(r"`([\w.-]+\.js)` \| ([\d.]+) \| `([0-9a-f]{64})`", readme)
    files = {path.name: path.read_bytes() for path in (STATIC / "htmx").glob("*.js")}

    assert {name: checksum for name, _, checksum in named} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert len({version for _, version, _ in named}) == 1, "one version of both"
    assert f'version="{named[0][1]}"'.encode() in files["htmx.min.js"]


def test_nothing_that_a_page_loads_needs_more_than_the_policy_allows():
    """htmx has a place for code in attributes, which no template of ours uses; its extension has
    none."""
    extension = (STATIC / "htmx" / "hx-sse.min.js").read_text()

    assert not re.search(r"\beval\b|\bFunction\b|setTimeout\([\"'`]|innerHTML|style=", extension)
    assert len(gzip.compress(extension.encode())) <= 3_000


def test_the_stylesheet_stays_small_on_disk_and_on_the_wire():
    raw = CSS.encode()

    assert len(raw) <= 27_600  # with what is printed: a page for a shopper's bank, and invoices
    assert len(gzip.compress(raw)) <= 7_000


def test_our_own_script_stays_a_page_long():
    assert len((STATIC / "app.js").read_bytes()) <= 1_100


def test_the_stylesheet_fetches_nothing():
    assert not re.search(r"@import|url\(|@font-face", CSS)


def test_every_colour_has_a_light_and_a_dark_side():
    root = CSS[CSS.index(":root {") : CSS.index("--sans")]
    single = [
        name
        for name, value in re.findall(r"(--[\w-]+): ([^;]+);", root)
        if "light-dark" not in value
    ]

    assert single == ["--gold"], "the brand's gold is the same by day and by night"


@pytest.mark.parametrize("good", GOODS, ids=lambda good: good["slug"])
def test_every_demo_product_has_its_picture(good):
    assert (STATIC / "products" / f"{good['picture']}.svg").is_file()


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_a_square_drawing_and_nothing_else(path):
    drawing = ElementTree.parse(path).getroot()  # our own files
    kinds = {element.tag.rsplit("}", 1)[-1] for element in drawing.iter()}

    assert drawing.get("viewBox") == "0 0 640 640"
    assert kinds <= {"svg", "g", "path", "circle", "ellipse"}
    assert not re.search(r"href|style=|\bon\w+=", path.read_text())
    assert path.stat().st_size <= 2_500
