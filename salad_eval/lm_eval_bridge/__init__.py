"""lm-eval, both ways: our tasks and models under its command line, its results as gap reports, our runs as its results.

Importing this package loads neither lm_eval nor torch nor datasets.

    task_files.py    the task YAMLs under tasks/lm_eval/, made from the package's own tasks
    rows.py          what those YAMLs load: our items, with our prompts, as a dataset
    audio_refs.py    sound in a text prompt: marks in the text, files beside it
    models.py        ``salad-text``, ``salad-cascade``, ``salad-speech``
    wrapper.py       ``salad lm-eval``: lm-eval's own command line with the above in place
    samples.py       what lm-eval leaves of a run, read
    to_report.py     lm-eval's samples to a gap report
    to_results.py    a finished run to lm-eval's results
"""

from __future__ import annotations

MODELS = {
    "salad-text": "salad_eval.lm_eval_bridge.models:SaladTextLM",
    "salad-cascade": "salad_eval.lm_eval_bridge.models:SaladCascadeLM",
    "salad-speech": "salad_eval.lm_eval_bridge.models:SaladSpeechLM",
}


def register_models() -> None:
    """Make our models known to lm-eval in this process, under the names in ``MODELS``; doing it again changes nothing.

    Releases of lm-eval that read the entry points ``lm_eval.models`` do this by themselves. For Python use with 0.4.13:
    call it before ``lm_eval.simple_evaluate(model="salad-speech", …)``.
    """
    import lm_eval.models  # noqa: F401  lm-eval registers its own only while nobody else has: they come first
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)
