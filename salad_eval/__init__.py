"""Evaluation of the text-speech understanding gap. Importing this loads neither torch nor lm_eval nor matplotlib.

>>> from salad_eval import evaluate, load_report
>>> report = evaluate("nano", limit=100)  # doctest: +SKIP
>>> report.overall.gap.value  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salad_eval.pipeline.run import evaluate
    from salad_eval.report import load_report

__all__ = ["evaluate", "load_report"]

_HOME = {"evaluate": "salad_eval.pipeline.run", "load_report": "salad_eval.report"}


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
