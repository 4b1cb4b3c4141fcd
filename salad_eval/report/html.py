"""``report.html``: one file that opens from disk, with no network, on a phone, in light and dark. Everything is
inlined."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from salad_eval.types import GapReport

if TYPE_CHECKING:
    from salad_eval.report.figures import RenderedFigure


def html_page(report: GapReport, figures: Sequence[RenderedFigure]) -> str:
    """The page. Every name in the report is untrusted text and is escaped; figures are images, so nothing in them can
    run."""
    from salad_eval.report.templates import context, environment

    templates = environment(autoescape=True)
    templates.filters["data_uri"] = data_uri
    return templates.get_template("report.html.j2").render(context(report, figures))


def data_uri(svg: bytes) -> str:
    """An SVG as the address of an inlined image."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
