"""Configuration of the speech-adapted LLM: frozen audio encoder, frame stacking, causal adapter, causal LM."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from transformers import AutoConfig, LlamaConfig, PretrainedConfig

# What the paper states: 12 layers of width 960, MLP 2560, 15 heads, 5 key-value heads (arXiv 2510.13632, as digested).
_ADAPTER_DEFAULTS: dict[str, Any] = {
    "vocab_size": 1,  # the adapter reads embeddings and has no vocabulary
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 12,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "max_position_embeddings": 4096,
    "use_cache": False,
    "bos_token_id": None,
    "eos_token_id": None,
}


class SaladAdapterConfig(LlamaConfig):
    """The causal transformer between encoder and LM: a Llama decoder without vocabulary, sized as in the paper by
    default."""

    model_type: ClassVar[str] = "salad_adapter"
    base_config_key: ClassVar[str] = "adapter_config"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**_ADAPTER_DEFAULTS, **kwargs})


class SaladConfig(PretrainedConfig):
    """Composite configuration; each part may be given as a configuration object or as the dictionary it was saved as.

    Args:
        audio_config: configuration of any Hugging Face audio encoder (Parakeet, Whisper, Mimi, the wav2vec 2.0
            family…).
            For an encoder-decoder or a CTC model, only its encoder is built.
        adapter_config: size of the causal adapter.
        text_config: configuration of any causal LM.
        audio_token_id: the id that holds the place of one audio position in ``input_ids``; it may lie beyond the LM's
            vocabulary.
        stack_frames: encoder frames joined into one audio position.
        length_geometry: how an encoder shortens its input, as (kernel, stride, padding) of each convolution along time;
            ``None`` derives it from ``audio_config`` and is an error for an encoder this package does not know.
        encoder_windows: sizes of the windows, in seconds, of an encoder that pads every recording to one (Whisper): a recording gets
            the smallest that leaves a second of silence after it. The last must be the encoder's own; ``None`` is that alone. Other
            windows are other frames: an adapter is trained on one choice.
        encoder_dtype: in which the frozen encoder computes: "float32" (or what it is loaded in) or "bfloat16".
        mimi_latents: what is read from a Mimi codec: its quantised latents, or those before quantisation.
        mimi_quantizers: how many of Mimi's codebooks the quantised latents use; ``None`` is all of them.
        ctc_tokens: above 0, the LM reads what CTC writes of the adapter's output with so many tokens, and no blanks (``CtcReadout``);
            0: it reads the adapter's output at every position.
    """

    model_type: ClassVar[str] = "salad"
    sub_configs: ClassVar[dict[str, Any]] = {
        "audio_config": AutoConfig,
        "adapter_config": SaladAdapterConfig,
        "text_config": AutoConfig,
    }

    def __init__(
        self,
        audio_config: PretrainedConfig | dict[str, Any] | None = None,
        adapter_config: PretrainedConfig | dict[str, Any] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        audio_token_id: int | None = None,
        stack_frames: int = 1,
        length_geometry: list[list[int]] | None = None,
        mimi_latents: Literal["quantized", "continuous"] = "quantized",
        mimi_quantizers: int | None = None,
        encoder_windows: list[float] | None = None,
        encoder_dtype: str = "float32",
        ctc_tokens: int = 0,
        **kwargs: Any,
    ) -> None:
        if stack_frames < 1:
            raise ValueError(f"stack_frames is {stack_frames}; expected an integer of at least 1.")
        if ctc_tokens < 0:
            raise ValueError(f"ctc_tokens is {ctc_tokens}; expected a number of tokens from 0.")
        if mimi_latents not in ("quantized", "continuous"):
            raise ValueError(f"mimi_latents is {mimi_latents!r}; expected 'quantized' or 'continuous'.")
        self.audio_config = _sub_config(audio_config, "parakeet_encoder")
        self.adapter_config = (
            adapter_config
            if isinstance(adapter_config, PretrainedConfig)
            else SaladAdapterConfig(**_without_model_type(adapter_config))
        )
        self.text_config = _sub_config(text_config, "qwen2")
        # Beyond the vocabulary by default, so that no token of the LM changes its meaning.
        self.audio_token_id = self.text_config.vocab_size if audio_token_id is None else audio_token_id
        self.stack_frames = stack_frames
        self.length_geometry = length_geometry
        self.mimi_latents = mimi_latents
        self.mimi_quantizers = mimi_quantizers
        self.encoder_windows = None if encoder_windows is None else [float(seconds) for seconds in encoder_windows]
        self.encoder_dtype = encoder_dtype
        self.ctc_tokens = ctc_tokens
        # Read by generation and by trainers on the outermost configuration.
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(name, getattr(self.text_config, name, None))
        kwargs.setdefault("tie_word_embeddings", False)  # the LM inside ties its own
        super().__init__(**kwargs)


def _sub_config(value: PretrainedConfig | dict[str, Any] | None, default_type: str) -> Any:
    if isinstance(value, PretrainedConfig):
        return value
    options = dict(value or {})
    return AutoConfig.for_model(options.pop("model_type", default_type), **options)


def _without_model_type(value: dict[str, Any] | None) -> dict[str, Any]:
    return {key: item for key, item in (value or {}).items() if key != "model_type"}
