"""Any Hugging Face causal LM reading text: the base text LLM, or the adapted one reading text."""

from __future__ import annotations

from salad_eval.checkpoints import Quantization, Weights, load_causal_lm
from salad_eval.systems.causal import CausalSystem, chat_style, made_of
from salad_eval.systems.family import CausalFamily


class HFTextSystem(CausalSystem):
    """A text LLM with lm-eval's tokenisation; the beginning that prompts and options share is computed once.

    Args:
        pretrained: ``nano/base``, a folder, a GGUF file or a hub id; the other loading options are those of ``load_causal_lm``.
        batch_tokens, max_length: see ``CausalSystem``.
        chat_template: put each prompt into the tokenizer's chat template, as lm-eval's ``--apply_chat_template`` does.
        system_prompt: said before the task's description in the system turn, as lm-eval's ``--system_instruction`` is (with a chat
            template only).
        fewshot_as_multiturn: shots are turns of their own in a chat template; where not, they stand in one turn with the question.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_tokens: int | None = None,
        revision: str | None = None,
        chat_template: bool = False,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
        quantization: Quantization | None = None,
        max_length: int | None = None,
        attn_implementation: str | None = None,
        device_map: str | None = None,
        peft: str | None = None,
        system_prompt: str | None = None,
        fewshot_as_multiturn: bool = True,
    ) -> None:
        llm = CausalFamily(
            *load_causal_lm(
                pretrained,
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
        )
        super().__init__(
            llm,
            "hf-text",
            made_of(llm, pretrained, weights=weights, peft=peft, quantization=quantization),
            batch_tokens=batch_tokens,
            max_length=max_length,
            chat=chat_style(pretrained, llm, chat_template, system_prompt, fewshot_as_multiturn),
        )
