"""Any speech LLM of transformers that a ``SpeechFamily`` knows, as a system: it reads text, and hears speech."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from salad_eval.checkpoints import Quantization, Weights
from salad_eval.systems.causal import CausalSystem, chat_style, made_of

if TYPE_CHECKING:
    from salad_eval.systems.speech.family import SpeechFamily


class SpeechLLMSystem(CausalSystem):
    """A native speech LLM; its family is found from the checkpoint.

    A request without audio is answered by the model's LM alone, exactly as ``hf-text`` would with the same weights. In one with
    audio a placeholder in the text is an error too: it would be taken for a recording.

    A plug-in for another model class subclasses this and names its ``family`` (see ADAPTER.md).

    Args:
        pretrained: a folder or a hub id; the other loading options are those of ``hf-text``.
        batch_tokens, batch_seconds, max_length, cache_mb: see ``CausalSystem``.
        chat_template: put each prompt into the checkpoint's chat template; ``"auto"``: where it has one.
        system_prompt, fewshot_as_multiturn: those of ``hf-text``.
    """

    family: ClassVar[type[SpeechFamily] | None] = None

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_tokens: int | None = None,
        batch_seconds: float = 120.0,
        chat_template: bool | Literal["auto"] = "auto",
        system_prompt: str | None = None,
        max_length: int | None = None,
        cache_mb: int = 256,
        revision: str | None = None,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
        quantization: Quantization | None = None,
        attn_implementation: str | None = None,
        device_map: str | None = None,
        peft: str | None = None,
        fewshot_as_multiturn: bool = True,
    ) -> None:
        from salad_eval.systems.speech.loading import load_speech_llm

        llm = load_speech_llm(
            pretrained,
            self.family,
            dtype=dtype,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            weights=weights,
            quantization=quantization,
            peft=peft,
            attn_implementation=attn_implementation,
            device_map=device_map,
        )
        super().__init__(
            llm,
            "hf-speech",
            made_of(llm, pretrained, weights=weights, peft=peft, quantization=quantization),
            batch_tokens=batch_tokens,
            batch_seconds=batch_seconds,
            max_length=max_length,
            cache_mb=cache_mb,
            chat=chat_style(pretrained, llm, chat_template, system_prompt, fewshot_as_multiturn),
        )
