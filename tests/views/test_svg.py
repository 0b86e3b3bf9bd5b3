"""A finished SVG is described, and shares no id with another one on the page."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from graphlens.views.palette import DARK, LIGHT
from graphlens.views.svg import finish_svg, id_prefix

RAW = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">
<defs><linearGradient id="fill"/></defs>
<g id="graph0"><g id="node1"><title>a</title><rect fill="url(#fill)"/><text>gr\xc3\xb6\xc3\x9fe</text></g>
<use xlink:href="#node1"/><a xlink:href="https://example.org/#node1"/></g>
</svg>
"""
SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


def finished(**changes: str) -> ElementTree.Element:
    facts = {"title": "A <title> & more", "description": "3 nodes.", "prefix": "p", **changes}
    return ElementTree.fromstring(finish_svg(RAW, **facts))


def test_role_title_and_description() -> None:
    root = finished()

    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "p-title p-desc"
    assert [(child.tag, child.get("id"), child.text) for child in root[:2]] == [
        (f"{SVG}title", "p-title", "A <title> & more"),
        (f"{SVG}desc", "p-desc", "3 nodes."),
    ]


def test_ids_and_what_refers_to_them_carry_the_prefix() -> None:
    root = finished()
    ids = [element.get("id") for element in root.iter() if element.get("id")]

    assert len(ids) == len(set(ids))
    assert all(name == "p" or name.startswith("p-") for name in ids)
    assert root.find(f".//{SVG}rect").get("fill") == "url(#p-fill)"
    assert root.find(f".//{SVG}use").get(HREF) == "#p-node1"
    assert root.find(f".//{SVG}a").get(HREF) == "https://example.org/#node1"


def test_text_stays_text() -> None:
    assert finished().find(f".//{SVG}text").text == "größe"


def test_two_pictures_share_no_id() -> None:
    one, two = ({element.get("id") for element in finished(prefix=name).iter()} - {None} for name in ("p", "q"))

    assert one & two == set()


def rules(**options: bool) -> list[str]:
    done = finish_svg(RAW, title="t", description="d", prefix="p", adapts=True, **options)
    return ElementTree.fromstring(done).find(f"{SVG}style").text.splitlines()


def test_the_style_holds_for_one_picture() -> None:
    assert len(rules()) > 20
    assert all(rule.startswith(("#p ", "#p:root ")) for rule in rules())


def test_colours_follow_the_page_and_not_the_readers_system() -> None:
    """A page that is always light would else get the picture for dark ones from a reader whose system is dark."""
    assert not any("prefers-color-scheme" in rule for rule in rules())
    assert [rule for rule in rules() if "color-scheme" in rule] == ["#p:root { color-scheme: light dark; }"]
    assert "#p text { fill: currentColor; }" in rules()
    for tones in (LIGHT.boxes["leaf"], DARK.boxes["leaf"]):
        assert all(any(tone in rule for rule in rules() if ".gl-leaf " in rule) for tone in tones)


def test_every_fill_of_a_stack_has_its_dark_tone() -> None:
    for light, dark in zip(LIGHT.heat, DARK.heat, strict=True):
        assert f'#p .gl-stack polygon[fill="{light.lower()}"] {{ fill: light-dark({light}, {dark}); }}' in rules()


def test_it_is_no_wider_than_the_page_around_it() -> None:
    assert finished().get("style") == "max-width: 100%; height: auto"


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("wasteful", "graphlens-wasteful"),
        ("a/b.py:build", "graphlens-a-b-py-build"),
        ("", "graphlens"),
        ("表", "graphlens"),
        ('"><script>', "graphlens-script"),
    ],
)
def test_prefixes_can_be_ids(name: str, prefix: str) -> None:
    assert id_prefix(name).rstrip("-") == prefix
