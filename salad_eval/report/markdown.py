"""``report.md``: the report's tables for a repository page or a review, with the figures beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from salad_eval.types import GapReport

if TYPE_CHECKING:
    from salad_eval.report.figures import RenderedFigure

FIGURES_DIR = "figures"


def markdown_page(report: GapReport, figures: Sequence[RenderedFigure]) -> str:
    """The page as GitHub-flavoured Markdown; figures are linked as ``figures/NAME.png``."""
    from salad_eval.report.templates import context, environment

    templates = environment(autoescape=False)
    templates.filters["md"] = escape_markdown
    return templates.get_template("report.md.j2").render({**context(report, figures), "figures_dir": FIGURES_DIR})


def escape_markdown(text: str) -> str:
    """Untrusted text as one line of literal Markdown: no markup, no HTML, no table cell breaks out of it."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#|!~])", r"\\\1", text)
