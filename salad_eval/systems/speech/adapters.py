"""LoRA adapters that are part of a speech LLM: the LM uses them where it hears and not where it only reads."""

from __future__ import annotations

from typing import Any

from salad_eval.checkpoints import check_complete, explained
from salad_eval.errors import MissingExtraError, ModelError

# transformers takes every parameter whose name holds the name of an adapter for a part of that adapter.
ADAPTER_NAME = "salad"
_NOWHERE = "no-adapter-in-this-step"


def load_model_and_adapter(
    architecture: str, source: str, subfolder: str = "", **kwargs: Any
) -> tuple[Any, dict[str, Any]]:
    """A model with the adapter in ``subfolder`` of its checkpoint, switched on, and the account of the model's own
    weights (``output_loading_info``).

    The two are read one after the other: ``from_pretrained`` would load an adapter in the same folder by itself, and
    hand back the account of the adapter's weights in place of the model's, so that missing ones would go unseen.
    Raises ``ModelError`` where there is no adapter, or one that does not fit.
    """
    import transformers

    with explained(source, "model"):
        model, info = getattr(transformers, architecture).from_pretrained(
            source, output_loading_info=True, adapter_kwargs={"subfolder": _NOWHERE}, **kwargs
        )
    add_adapter(model, source, subfolder, **kwargs)
    return model, info


def add_adapter(model: Any, source: str, subfolder: str = "", **kwargs: Any) -> None:
    """Load the adapter of ``source`` into ``model`` and switch it on; ``kwargs`` are those of the model."""
    from transformers.utils.import_utils import is_peft_available
    from transformers.utils.peft_utils import find_adapter_config_file

    if not is_peft_available():
        raise MissingExtraError("the LoRA adapter of this checkpoint", "peft", "pip install peft")
    with explained(source, "LoRA adapter"):
        if find_adapter_config_file(source, revision=kwargs.get("revision"), subfolder=subfolder) is None:
            raise ModelError(
                f"{source}: {type(model).__name__} hears through a LoRA adapter, and there is none (expected "
                f"{subfolder + '/' if subfolder else ''}adapter_config.json and adapter_model.safetensors). Download it "
                f"too."
            )
        info = model.load_adapter(
            source,
            adapter_name=ADAPTER_NAME,
            adapter_kwargs={"revision": kwargs.get("revision"), "subfolder": subfolder},
            use_safetensors=kwargs.get("use_safetensors", True),
            dtype=model.dtype,  # an adapter is often stored in another precision than its model
        ).to_dict()
    check_complete(source, info)
    unknown = sorted(str(key) for key in info.get("unexpected_keys") or ())
    if unknown:
        raise ModelError(
            f"{source}: its LoRA adapter has weights for parts that {type(model).__name__} lacks ({unknown[0]}, "
            f"{len(unknown)} in all); the two are not a pair."
        )


class SwitchedDecoder:
    """The decoder of a model with an adapter, which is switched on (or off) right before each forward pass.

    What reads and what hears share their weights, so that neither may rely on how the other left them.
    """

    def __init__(self, model: Any, decoder: Any, *, adapted: bool) -> None:
        self._model, self._decoder, self._adapted = model, decoder, adapted
        self.config = decoder.config

    def get_input_embeddings(self) -> Any:
        return self._decoder.get_input_embeddings()

    def __call__(self, **inputs: Any) -> Any:
        switch(self._model, on=self._adapted)
        return self._decoder(**inputs)


def switch(model: Any, *, on: bool) -> None:
    """Switch the model's adapter on or off, where it has one."""
    if getattr(model, "_hf_peft_config_loaded", False):
        if on:
            model.enable_adapters()
        else:
            model.disable_adapters()
