"""From scores to the gap report."""

from salad_eval.gap.report import build_report

__all__ = ["build_report"]
