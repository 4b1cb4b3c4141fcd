"""A figure of matplotlib as part of a page: its text is the page's text, its ink the page's ink, in light and in dark.

A page's policy allows no style attributes, so what they say becomes attributes of its own; ids get a prefix, for a page holds several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from markupsafe import Markup

from salad_eval.report.figures import GREY, INK, LIGHT, SMALL_PRINT_INK

_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_WHITE = ("#ffffff", "white")
_INKS: Mapping[str, str] = {
    INK: "1",
    "#000000": "1",
    GREY: "0.6",
    SMALL_PRINT_INK: "0.7",
    LIGHT: "0.16",
}  # colour to opacity
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(svg: bytes, prefix: str, alt: str) -> Markup:
    """``svg``, as matplotlib wrote it with text as text, to stand in a page. ``prefix`` makes its ids differ from those of others."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for node in root.iter():
        for key, value in _attributes(node, prefix):
            node.set(key, value)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # serialised: every text in it is escaped


def _attributes(node: ElementTree.Element, prefix: str) -> Iterator[tuple[str, str]]:
    """What a node's attributes become; those that go are taken away."""
    style = dict(_declarations(node.attrib.pop("style", "")))
    style |= {key: node.attrib.pop(key) for key in ("fill", "stroke") if key in node.attrib}
    style.pop("font-family", None)
    for key in ("fill", "stroke"):
        colour = style.get(key, "")
        if colour in _WHITE:
            del style[key]
            node.set("class", f"{node.get('class', '')} paper-{key}".strip())
        elif colour in _INKS:
            style[key] = "currentColor"
            style[f"{key}-opacity"] = str(float(_INKS[colour]) * float(style.get(f"{key}-opacity", "1")))
    yield from style.items()
    if "id" in node.attrib:
        yield "id", f"{prefix}-{node.attrib['id']}"
    if _LINK in node.attrib:
        yield "href", f"#{prefix}-{node.attrib.pop(_LINK).removeprefix('#')}"
    for key in ("clip-path", "fill", "mask"):
        if key in node.attrib and _REFERENCE.search(node.attrib[key]):
            yield key, _REFERENCE.sub(lambda found: f"url(#{prefix}-{found[1]})", node.attrib[key])


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in style.split(";"):
        key, colon, value = declaration.partition(":")
        if colon and key.strip() != "font":
            yield key.strip(), value.strip()
        elif key.strip() == "font":
            yield from _font(value)


def _font(value: str) -> Iterator[tuple[str, str]]:
    """``bold 10px 'DejaVu Sans'`` in parts."""
    for word in value.split("'")[0].split():
        if word.endswith("px"):
            yield "font-size", word
        elif word in ("bold", "600", "700"):
            yield "font-weight", word
