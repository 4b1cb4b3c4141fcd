"""The jinja2 environments of the report's templates in ``reports/templates/``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salad_eval.report.costs import HOW_COUNTED, cost_table
from salad_eval.report.wording import (
    COLUMN_TITLES,
    GLOSSARY,
    HOW_TO_READ,
    MISSING,
    by_gap,
    headline,
    interval,
    measure,
    nats,
    one_line,
    percent,
    probability,
    shown,
    stands_out,
    taxonomy_titles,
    unparsed_shares,
    with_interval,
)
from salad_eval.resources import reports_dir
from salad_eval.types import COLUMNS, GapReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

    from salad_eval.report.figures import RenderedFigure


def environment(*, autoescape: bool) -> Environment:
    """Templates with the shared formats as filters. Undefined names are errors. HTML needs ``autoescape``: names are
    untrusted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(reports_dir() / "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(
        percent=percent,
        interval=interval,
        with_interval=with_interval,
        probability=probability,
        nats=nats,
        one_line=one_line,
        stands_out=stands_out,
    )
    return templates


def context(report: GapReport, figures: Sequence[RenderedFigure]) -> Mapping[str, object]:
    """What both templates are given."""
    return {
        "report": report,
        "figures": figures,
        "headline": headline(report),
        "measure": measure(report),
        "unparsed": unparsed_shares(report),
        "columns": [column for column in COLUMNS if column in report.overall.accuracy],
        "column_titles": COLUMN_TITLES,
        "causes": taxonomy_titles(report.overall),
        "domains": by_gap(shown(report).domains),
        "rows": [*by_gap(shown(report).domains), shown(report).overall],
        "condition": shown(report).condition,
        "slice_fields": list(dict.fromkeys(part.field for part in report.slices)),
        "glossary": GLOSSARY,
        "how_to_read": HOW_TO_READ,
        "costs": cost_table(report),
        "how_counted": HOW_COUNTED,
        "missing": MISSING,
    }
