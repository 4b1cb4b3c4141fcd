from __future__ import annotations
from salad_eval.errors import SaladError


class Unspeakable(SaladError):
    """A written text with a character that has no spoken form."""


def to_spoken(text: str) -> str:
    return " ".join(text.split())
