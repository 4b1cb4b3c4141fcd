"""Any Hugging Face causal LM reading text: the base text LLM, or the adapted one reading text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from salad_eval.checkpoints import Quantization, Weights, default_batch_tokens, load_causal_lm, model_identity
from salad_eval.errors import ModelError, UserInputError
from salad_eval.systems import prompts
from salad_eval.types import Request


class HFTextSystem:
    """``System`` and ``Distributional`` for text, with lm-eval's tokenisation and the shared prefix of options computed
    once.

    ``pretrained`` is ``nano/base``, a folder, a GGUF file or a hub id; the other loading options are those of ``load_causal_lm``.
    ``batch_tokens`` bounds rows × new positions of a forward pass and with it memory (by default what suits the
    device). ``max_length`` limits the context below what the model can hold. ``chat_template`` wraps each prompt as one
    user turn of the tokenizer's chat template, as lm-eval's ``--apply_chat_template`` does with a zero-shot prompt.
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
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise UserInputError(f"batch_tokens is {batch_tokens}; expected at least 1.")
        options: dict[str, Any] = {"attn_implementation": attn_implementation, "device_map": device_map}
        self.model, self.tokenizer = load_causal_lm(
            pretrained,
            dtype=dtype,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            weights=weights,
            quantization=quantization,
            peft=peft,
            **{key: value for key, value in options.items() if value is not None},
        )
        if chat_template and not getattr(self.tokenizer, "chat_template", None):
            raise ModelError(f"chat_template was asked for, but the tokenizer of {pretrained} has none.")
        self.chat_template = chat_template
        self.batch_tokens = batch_tokens or default_batch_tokens(self.model)
        own_length = prompts.max_length(self.model.config, self.tokenizer)
        self.max_length = min(own_length, max_length) if max_length is not None else own_length
        settings = f"dtype={dtype},max_length={self.max_length}"
        settings += f",quantization={quantization}" if quantization else ""
        settings += ",chat_template" if chat_template else ""
        settings += f",tokenizer={self.tokenizer_fingerprint()}"
        self._fingerprint = f"hf-text({model_identity(pretrained, self.model, weights=weights, peft=peft)},{settings})"

    def fingerprint(self) -> str:
        return self._fingerprint

    def tokenizer_fingerprint(self) -> str:
        return prompts.tokenizer_fingerprint(self.tokenizer)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation; ``ModelError`` for a request with audio."""
        from salad_eval.systems.branching import continuation_logprobs

        contexts, continuations, places = self._encoded(requests)
        scored = continuation_logprobs(self.model, contexts, continuations, max_batch_tokens=self.batch_tokens)
        return [tuple(sum(scored[row][column]) for row, column in cells) for cells in places]

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """Next-token log-probabilities behind each continuation, (n_tokens, vocabulary); see ``Distributional``."""
        from salad_eval.systems.branching import continuation_distributions

        contexts, continuations, places = self._encoded(requests)
        rows = continuation_distributions(self.model, contexts, continuations, max_batch_tokens=self.batch_tokens)
        return [[rows[row][column] for row, column in cells] for cells in places]

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Greedy continuation of each prompt, cut before the first stop string; ``ModelError`` for a request with
        audio.
        """
        import torch

        from salad_eval.systems.branching import greedy

        room = self.max_length - max_new_tokens
        if room < 1:
            raise UserInputError(
                f"max_new_tokens is {max_new_tokens}, but the model holds {self.max_length} positions, prompt included."
            )
        contexts = [
            torch.tensor(prompts.encode_context(self.tokenizer, self._prompt(request), max_length=room))
            for request in requests
        ]
        outputs = greedy(
            self.model,
            contexts,
            max_new_tokens=max_new_tokens,
            eos_ids=prompts.end_ids(self.model, self.tokenizer),
            stop=prompts.stop_rule(self.tokenizer, stop),
            max_batch_tokens=self.batch_tokens,
        )
        return [prompts.cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), stop) for ids in outputs]

    def _prompt(self, request: Request) -> str:
        if request.has_audio:
            raise ModelError(
                f"item {request.item_id!r}: the prompt holds audio, and {type(self).__name__} reads text only. Use a "
                f"speech system, or a cascade, for this column."
            )
        if not self.chat_template:
            return request.text
        turn = [{"role": "user", "content": request.text}]
        return str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    def _encoded(
        self, requests: Sequence[Request]
    ) -> tuple[list[Any], list[list[tuple[int, ...]]], list[list[tuple[int, int]]]]:
        """Contexts, their continuations, and for each request where its continuations went (row, column).

        Options share a row where they share a context, which they all do unless a long one pushes some of the context
        out.
        """
        import torch

        contexts: list[Any] = []
        continuations: list[list[tuple[int, ...]]] = []
        places: list[list[tuple[int, int]]] = []
        for request in requests:
            prompt = self._prompt(request)
            rows: dict[tuple[int, ...], int] = {}
            cells: list[tuple[int, int]] = []
            for continuation in request.continuations:
                pair = prompts.encode_pair(self.tokenizer, prompt, continuation, max_length=self.max_length)
                row = rows.get(pair.context)
                if row is None:
                    row = rows[pair.context] = len(contexts)
                    contexts.append(torch.tensor(pair.context))
                    continuations.append([])
                cells.append((row, len(continuations[row])))
                continuations[row].append(pair.continuation)
            places.append(cells)
        return contexts, continuations, places
