"""Evaluation of the text-speech understanding gap. Importing this loads neither torch nor lm_eval nor matplotlib."""

from __future__ import annotations
