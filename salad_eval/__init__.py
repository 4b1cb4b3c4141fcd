"""Evaluation of the text-speech understanding gap. Importing this loads neither torch nor lm_eval nor matplotlib.

>>> from salad_eval import evaluate, load_report
>>> report = evaluate("nano", limit=100)  # doctest: +SKIP
>>> report.overall.gap.value  # doctest: +SKIP

The line, from a task's YAML to the report; each arrow is a folder, each box a record of ``types``::

    YAML --benchmarks--> [Item] --speakable, tts, audio--> [Rendering] --asr--> [Transcript]
                           |                                    |                   |
                           +--------------- systems, served ----+-------------------+
                                                  |
                                             [Response] --answers--> [Score] --gap--> [GapReport] --report--> pages

``pipeline/run.py`` walks it, ``cli`` asks for it.

    benchmarks/      task YAMLs (a new one goes to tasks/, beside the packages), rows, items, shots, domains; how options are
                     listed; what is spoken of an lm-eval task
    speakable/       written English to the words that are said, and the normaliser of word errors
    tts/             voices; how to add one: ADDING_A_VOICE.md
    audio/           sound, its store, and acoustic conditions
    asr/             recognisers
    systems/         text LLM, cascade, speech LLMs (systems/speech/: a family each, ADAPTER.md); prompts, chat form
    served/          models behind a server: as text LLM, speech LLM or recogniser
    formats/         GGUF, PEFT, CTranslate2, files of installed packages
    pipeline/        the line: a file a step with its key; plan, run folder, executor (where the work is done), columns
    answers/         what a given answer says, and its score
    gap/             scores to the report: pairing, rows and their statistics, comparison
    report/          the report as page, pictures, Markdown, terminal, JSON; another paper's figures beside ours
    sharing/         a run's sound as a dataset, its results on a model card
    lm_eval_bridge/  lm-eval's command with our models and tasks, its results as reports
    testing/         stand-ins for plug-ins, for tests of what is built on them
    cli/             the command ``salad``: a file a group of commands, with their options
    models/, presets/   data: the embedded models, plans by name

    types.py         the records, and the protocols of plug-ins
    errors.py        errors that a user can act on
    plugins.py       plug-ins by entry point
    records.py       records to JSON and back, and whole files written at once
    identity.py      digests of files and values
    batches.py       batches of like length
    validation.py    what a user wrote against a typed model
    checkpoints.py   causal LMs loaded, with errors that say what is wrong
    resources.py     where the package's own data lies
    progress.py      progress bars
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
    return [*(name for name in globals() if name.startswith("__")), *__all__]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
