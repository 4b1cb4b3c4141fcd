"""What is done to clean speech before it is kept, by name. Each is a pure function of the sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from salad_eval.errors import UnknownNameError
from salad_eval.types import CLEAN, Audio

Perturbation = Callable[[Audio], Audio]


def _clean(audio: Audio) -> Audio:
    return audio


PERTURBATIONS: Mapping[str, Perturbation] = {CLEAN: _clean}


def perturbation(name: str) -> Perturbation:
    """The perturbation of that name. Raises ``UnknownNameError``."""
    if name not in PERTURBATIONS:
        raise UnknownNameError("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name]
