"""The speech-adapted LLM as a system: it reads text as its own LM does, and hears speech through encoder and adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salad_eval.systems.causal import CausalSystem, chat_style, made_of

if TYPE_CHECKING:
    from salad_train.model.modeling_salad import SaladForConditionalGeneration
    from salad_train.model.processing_salad import SaladProcessor


class SaladSystem(CausalSystem):
    """A ``SaladForConditionalGeneration``.

    A request without audio is answered by the LM alone, exactly as ``hf-text`` would answer with it.

    Args:
        pretrained: ``nano/speech``, a folder or a hub id.
        batch_tokens, batch_seconds, max_length, cache_mb: see ``CausalSystem``.
        frames: a folder that keeps the frozen encoder's output (as float16, in which training reads it too), so that other
            checkpoints with the same encoder need not encode the same sound again.
        chat_template, system_prompt, fewshot_as_multiturn: those of ``hf-text``; a chat template is the text LLM's own.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_tokens: int | None = None,
        batch_seconds: float = 40.0,
        revision: str | None = None,
        max_length: int | None = None,
        cache_mb: int = 64,
        frames: str | None = None,
        peft: str | None = None,
        chat_template: bool = False,
        system_prompt: str | None = None,
        fewshot_as_multiturn: bool = True,
    ) -> None:
        from salad_train.model.loading import load_family

        llm = load_family(pretrained, dtype=dtype, device=device, revision=revision, peft=peft)
        llm.keep_frames(frames)
        super().__init__(
            llm,
            "salad",
            [*made_of(llm, pretrained, peft=peft), *(["frames=float16"] if frames else [])],
            batch_tokens=batch_tokens,
            batch_seconds=batch_seconds,
            max_length=max_length,
            cache_mb=cache_mb,
            chat=chat_style(pretrained, llm, chat_template, system_prompt, fewshot_as_multiturn),
        )

    @classmethod
    def live(
        cls,
        model: SaladForConditionalGeneration,
        processor: SaladProcessor,
        name: str = "live",
        frames: str | None = None,
    ) -> SaladSystem:
        """A system around a model in memory, in training for instance; ``name`` identifies it. Put it in eval mode first."""
        from salad_train.model.family import SaladFamily

        system = cls.__new__(cls)
        llm = SaladFamily(model, processor)
        llm.keep_frames(frames)
        CausalSystem.__init__(system, llm, "salad", [name], batch_seconds=40.0, cache_mb=64)
        return system
