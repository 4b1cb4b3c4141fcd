"""From scores to the gap report."""

from salad_eval.gap.report import build_report
from salad_eval.gap.signature import RunProtocol

__all__ = ["RunProtocol", "build_report"]
