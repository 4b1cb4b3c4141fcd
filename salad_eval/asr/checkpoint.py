"""What recognisers of transformers have in common when they are loaded: their class, their processor, their identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from salad_eval.checkpoints import Weights, architecture, check_folder, explained, load_config, load_weights
from salad_eval.errors import ModelError
from salad_eval.resources import resolve_pretrained

_PROCESSOR_PARTS = (
    ("feature_extractor", "feature extractor", "processor_config.json or preprocessor_config.json"),
    ("tokenizer", "tokenizer", "tokenizer.json or vocab.json with tokenizer_config.json"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A recogniser as it was read, still on the CPU, and where from."""

    source: str
    model: Any
    extractor: Any
    tokenizer: Any


def open_checkpoint(
    pretrained: str,
    model_class: Callable[[Any], Any],
    *,
    kinds: Collection[type],
    names: tuple[str, ...],
    role: str,
    dtype: str,
    weights: Weights,
    revision: str | None,
    trust_remote_code: bool,
    optional: tuple[str, ...] = (),
) -> Checkpoint:
    """Model, feature extractor and tokenizer of a folder or hub id. ``kinds``, ``names`` and ``role``: see ``check_class``;
    ``model_class`` tells the class to load from the configuration, ``optional`` is ``load_weights``'.

    Raises ``ModelError`` for another kind of model, and where weights, extractor or tokenizer are missing or do not fit.
    """
    source = resolve_pretrained(pretrained)
    check_folder(source, weights=weights)
    hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = load_config(source, **hub)
    check_class(source, config, kinds, names, role)
    extractor, tokenizer = load_processor(source, hub)
    model = load_weights(
        source, model_class(config), config=config, dtype=dtype, weights=weights, optional=optional, **hub
    )
    check_outputs(source, len(tokenizer), model.config.vocab_size)
    return Checkpoint(source, model, extractor, tokenizer)


def check_class(source: str, config: Any, mapping: Collection[type], names: tuple[str, ...], role: str) -> None:
    """Raises ``ModelError`` where a configuration is not in ``mapping``, or its architecture has none of ``names`` in it.

    ``role`` says what was wanted: "a CTC speech recogniser".
    """
    architectures = list(getattr(config, "architectures", None) or [])
    fits = not architectures or any(name in found for found in architectures for name in names)
    if type(config) not in mapping or not fits:
        raise ModelError(
            f"{source} is a {architecture(config)}, not {role}. "
            f"Give a model whose architecture has {' or '.join(names)} in its name{_another_plugin(architectures)}."
        )


# A recogniser given to the wrong plug-in: by a part of its architecture's name, the plug-in it belongs to.
_PLUGIN_OF = {
    "Whisper": "whisper",
    "ForCTC": "transformers-ctc",
    "ForTDT": "transformers-transducer",
    "ForRNNT": "transformers-transducer",
}


def _another_plugin(architectures: Collection[str]) -> str:
    fitting = [plugin for part, plugin in _PLUGIN_OF.items() for name in architectures if part in name]
    return f", or give this one to the ASR plug-in {fitting[0]!r}" if fitting else ""


def load_processor(source: str, hub: dict[str, Any]) -> tuple[Any, Any]:
    """Feature extractor and tokenizer of a checkpoint. Raises ``ModelError`` naming the files of what is missing."""
    from transformers import AutoProcessor

    with explained(source, "processor (feature extractor and tokenizer)"):
        processor = AutoProcessor.from_pretrained(source, **hub)
    for part, what, file in _PROCESSOR_PARTS:
        if getattr(processor, part, None) is None:
            raise ModelError(f"{source} lacks its {what} ({file}). Copy what it was trained with into that folder.")
    return processor.feature_extractor, processor.tokenizer


def check_outputs(source: str, n_tokens: int, n_outputs: int) -> None:
    """A tokenizer with more tokens than the model has outputs belongs to another model."""
    if n_tokens > n_outputs:
        raise ModelError(
            f"{source}: the tokenizer has {n_tokens} tokens and the model {n_outputs} outputs; they do not belong together."
        )


def processor_digest(extractor: Any, tokenizer: Any, *more: Any) -> str:
    """A hash of what turns sound into features and ids into text, and of ``more`` settings."""
    settings = {"extractor": extractor.to_dict(), "vocabulary": tokenizer.get_vocab()}
    if more:
        settings["more"] = more
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
