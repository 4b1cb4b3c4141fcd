"""lm-eval, both ways: our tasks and models under its command line, its results as gap reports, our runs as its results.

- ``task_files``: the task YAMLs under ``tasks/lm_eval/``, made from the package's own tasks.
- ``rows``: what those YAMLs load: our items, with our prompts, as a dataset; spoken ones rendered and referred to.
- ``audio_refs``: sound in a text prompt, as markers in the text and references to files beside it.
- ``models``: ``salad-text``, ``salad-cascade`` and ``salad-speech``, which read such prompts.
- ``wrapper``: ``salad lm-eval …``, lm-eval's own command line with the above in place.
- ``samples``, ``to_report``, ``to_results``: converters.

Importing this package loads neither lm_eval nor torch nor datasets.
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
