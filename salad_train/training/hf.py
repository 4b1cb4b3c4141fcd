"""The trainer ``hf``: Stage II by ``SaladTrainer``, a ``transformers.Trainer``, on one device or many."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from salad_train.training.selected import check_selected
from salad_train.types import Selection

if TYPE_CHECKING:
    from salad_train.training.stage_plan import Stage2Plan
    from salad_train.training.stages import Stage2Data


class HfTrainer:
    """Distils the base LLM into the speech LLM on the selected speech, Stage I's kind of speech and plain text.

    It works in every process of ``accelerate launch``, and goes on where a killed run of the same plan stopped.
    """

    def fingerprint(self) -> str:
        return f"hf(salad-gap {version('salad-gap')},transformers {version('transformers')},torch {version('torch')})"

    def fit(self, plan: Stage2Plan, selection: Selection, data: Stage2Data, out: Path) -> Path:
        """Train, and return the folder of the adapted model."""
        from salad_train.training.stages import stage2

        check_selected(selection, data)
        return stage2(plan, data, Path(out))
