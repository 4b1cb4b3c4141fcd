"""Our fields for a task of lm-eval's that states none: what of it is spoken, its domain, how it is scored.

- *What is spoken*: what its ``doc_to_text`` prints of the row; the template's fixed words ("Question:", "Answer:") stay written. Under
  ``context`` options that the prompt lists stay written as well, under ``context+choices`` they are spoken. A prompt made by a function
  of lm-eval's is spoken as a whole.
- *Domain*: the first of the columns ``subject``, ``category``, ``domain``, ``activity_label`` that every row fills, else the task's name.
- *Group*: each item is its own. *Id*: the number of its row, as in lm-eval.
- *Score*: as lm-eval scores the item (see ``measures``): ``ll`` for acc, ``ll_norm`` where the task names acc_norm and not acc, and so on;
  a free answer by the task's own filters and first metric (``lm_eval``). A task without a score of each item has to be told one.
- *Splits*: a task without test rows is asked its validation rows as split ``test``, as in lm-eval, and has no validation split then, so
  that nothing is chosen on what is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from salad_eval.benchmarks.measures import default_score, measures_of
from salad_eval.benchmarks.reader import data_splits
from salad_eval.benchmarks.spec import Asked, DomainRule, OptionList, Speak
from salad_eval.benchmarks.spoken_spans import lists_options, option_columns
from salad_eval.errors import TaskError
from salad_eval.types import ScoreKind


def spoken_fields(
    table: Mapping[str, Any],
    path: Path,
    speak: Speak,
    score: ScoreKind | None,
    options: OptionList | None = None,
) -> Asked:
    """How a task without ``metadata.salad`` is asked aloud; see the module. Raises ``TaskError`` for one that cannot be."""
    name = table.get("task", path.stem)
    _refuse_unspeakable(str(name), table)
    spoken, printed = _spoken(str(name), table, speak, options or "none")
    splits = data_splits(table)
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    return Asked(
        speak=speak,
        splits=splits,
        score=score
        or default_score(measures_of(table, path), str(table.get("output_type") or "generate_until"), str(name)),
        score_stated=score is not None,
        domain=DomainRule(None),
        id=None,
        spoken=spoken,
        spoken_printed=printed,
        options="none" if "choices" in printed else options or "none",
    )


def _refuse_unspeakable(name: str, table: Mapping[str, Any]) -> None:
    asks = table.get("output_type", "generate_until")
    if asks not in ("multiple_choice", "generate_until"):
        raise TaskError(
            f"task {name}: its output_type is {asks!r}, which weighs a text as a whole and asks nothing; a task that can be spoken is "
            "multiple_choice or generate_until."
        )
    if table.get("unsafe_code"):
        raise TaskError(f"task {name}: it runs the code that a model writes (unsafe_code), which is never done here.")
    for key, what in (("doc_to_image", "images"), ("doc_to_audio", "sound of its own")):
        if table.get(key):
            raise TaskError(f"task {name}: it shows {what} ({key}), which a task of text does not have.")
    text = table.get("doc_to_text")
    if isinstance(text, str) and not text.strip():
        raise TaskError(f"task {name}: its context is empty (doc_to_text), so that there is nothing to speak.")


def _spoken(
    name: str, table: Mapping[str, Any], speak: Speak, options: OptionList
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    text = table.get("doc_to_text")
    if not isinstance(text, str) or "{" not in text:
        return {"context": None}, ()  # a column, or what a function makes: all of it
    if speak == "context":
        return {}, ("context",)
    try:
        listed = lists_options(text, option_columns(table.get("doc_to_choice")))
    except jinja2.TemplateSyntaxError as cause:
        raise TaskError(f"task {name}: doc_to_text is {text!r:.120}, which is not a Jinja template: {cause}.") from None
    if not listed and options == "lettered":
        return {}, ("context",)
    if not listed:
        raise TaskError(
            f"task {name}: its prompt lists no options that could be spoken (doc_to_text: {text!r:.120}); ask with --speak context, or "
            "have them listed (--set options=lettered)."
        )
    return {}, ("context", "choices")
