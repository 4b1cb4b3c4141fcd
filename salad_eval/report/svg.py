"""Elements of an SVG as escaped markup. Lengths are CSS pixels or percentages, so that a picture is as wide as its place and its text
as large as the page's; colours are the style sheet's, by class."""

from __future__ import annotations

from unicodedata import east_asian_width

from markupsafe import Markup, escape


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """``<name …>children</name>``. Children that are no markup are text and escaped; a trailing underscore of an attribute's name is
    dropped (``class_``), others become hyphens; ``None`` leaves the attribute out."""
    stated = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{name}{stated}>{inner}</{name}>").format(name=name, stated=Markup("").join(stated), inner=inner)


def share(fraction: float) -> str:
    """A fraction of the width as a percentage."""
    return f"{100 * fraction:.2f}%"


def text(content: str, x: object, y: object, *, class_: str = "", anchor: str = "start", **more: object) -> Markup:
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor, **more)


def line(x1: object, y1: object, x2: object, y2: object, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def bar(low: float, high: float, y: float, height: float, class_: str, **more: object) -> Markup:
    """A rectangle from one fraction of the width to another."""
    return element("rect", x=share(low), y=y, width=share(max(0.0, high - low)), height=height, class_=class_, **more)


def circle(x: object, y: object, class_: str, r: float = 4.5) -> Markup:
    return element("circle", cx=x, cy=y, r=r, class_=class_)


_WIDTHS = {
    letter: width
    for letters, width in (
        ("ijlI.,:;'|!", 0.35),
        ("frt()[]/- ", 0.42),
        ("mwMW@%", 1.0),
        ("ABCDEFGHJKLNOPQRSTUVXYZ&+=", 0.79),
    )
    for letter in letters
}  # of a letter, by its size: those of DejaVu Sans, the widest of the usual fonts; another lower-case letter or digit is 0.64


def text_width(content: str, size: float) -> float:
    """No less than the width of a line of text of that size, in the same unit."""
    return size * sum(_WIDTHS.get(letter, 1.0 if east_asian_width(letter) in "WF" else 0.64) for letter in content)


_SHAPES = {
    "square": "M-4-4H4V4H-4Z",
    "diamond": "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
    "triangle": "M0-5L5 4H-5Z",
    "circle": "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0-8.8 0Z",
}


def mark(shape: str, x: float, y: float, class_: str) -> Markup:
    """A point at a fraction of the width: square, diamond, triangle or circle."""
    return element("svg", element("path", d=_SHAPES[shape], class_=class_), x=share(x), y=y, overflow="visible")


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
