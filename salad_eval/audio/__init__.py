"""Sound: checked, stored, changed on purpose, and in tables."""

from salad_eval.audio.sound import problem

__all__ = ["problem"]
