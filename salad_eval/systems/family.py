"""What a causal LM has to say about itself so that ``CausalSystem`` can ask it.

The system does what is the same for all: it batches, remembers recordings by their sha256, scores and generates. A family knows how
a request becomes token ids, and which part of a model is the LM. This one is that of text LLMs; ``speech.family`` is that of models
which hear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from salad_eval.checkpoints import LIBRARIES, Part
from salad_eval.errors import ModelError
from salad_eval.systems import prompts
from salad_eval.systems.chat import ChatStyle, render, text_of
from salad_eval.types import AudioSegment, Request, Segment

if TYPE_CHECKING:
    import torch


class CausalFamily:
    """A causal LM that reads text: its model, its tokenizer, and how a request becomes token ids."""

    hears: ClassVar[bool] = False
    reads_parts: ClassVar[tuple[Part, ...]] = ("weights",)
    """What of a checkpoint's files decides its answers beside what ``CausalSystem`` looks at itself: the tokenizer as it was loaded,
    the tokens that end a text, the chat template where it is used."""
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES
    """The packages whose versions decide its answers."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def language_model(self, *, has_audio: bool) -> Any:
        """The causal LM that ``branching`` runs on requests with audio, or on those without.

        It takes ``input_ids`` or ``inputs_embeds``, ``attention_mask``, ``position_ids``, ``past_key_values``,
        ``use_cache`` and ``logits_to_keep``, and has ``config`` and ``get_input_embeddings()``. The two differ where a
        model reads text with other weights than speech (an adapter that is active with audio only).
        """
        return self.model

    @property
    def ends(self) -> frozenset[int]:
        """Token ids that end a text."""
        return prompts.end_ids(self.model, self.tokenizer)

    def parts_fingerprint(self) -> str:
        """What identifies weights that lie beside the checkpoint's own (an adapter in a folder below)."""
        return ""

    # --- prompts -----------------------------------------------------------------------------------------------------

    @property
    def template(self) -> str | None:
        """The chat template that ``chat_writer`` uses; ``None`` where there is none."""
        return default_template(self.tokenizer)

    def chat_writer(self) -> Callable[..., Any]:
        """The ``apply_chat_template`` that writes this model's prompts."""
        writer: Callable[..., Any] = self.tokenizer.apply_chat_template
        return writer

    def content(self, segments: tuple[Segment, ...]) -> Any:
        """What a turn holds, as the chat template takes it."""
        return text_of(segments)

    def render(self, request: Request, chat: ChatStyle | None) -> str:
        """The prompt as a string; one without any segment stays empty."""
        if chat is None or not request.prompt:
            return request.text
        return render(request, chat, self.chat_writer(), self.content)

    def options(self, request: Request, chat: ChatStyle | None) -> tuple[str, ...]:
        """The continuations of a request as they stand after its prompt."""
        return request.continuations if chat is None else request.chat_continuations

    def encode_pairs(
        self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None
    ) -> tuple[prompts.EncodedPair, ...]:
        """Token ids of the prompt and of each continuation; ``n_rows`` counts the rows of each recording by sha256.

        The conventions are those of text (see ``prompts``): whitespace at the end of the prompt moves to the
        continuation.
        """
        text = self.expanded(request, n_rows, chat)
        return tuple(prompts.encode_pair(self.tokenizer, text, option) for option in self.options(request, chat))

    def encode_prompt(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> tuple[int, ...]:
        """Token ids of the prompt to generate from."""
        return prompts.encode_context(self.tokenizer, self.expanded(request, n_rows, chat))

    def expanded(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> str:
        """The prompt as the string that is tokenised."""
        return self.render(request, chat)

    def prefix(self, request: Request, ids: tuple[int, ...], heard: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the LM reads: the token ids (T,) of a text. ``heard`` are a request's recordings by sha256."""
        import torch

        return torch.tensor(ids, dtype=torch.long)

    # --- recordings: of families that hear -----------------------------------------------------------------------------

    @property
    def max_audio_seconds(self) -> float | None:
        """Longest recording the model hears whole (``None``: what fits the LM); the end of a longer one would be lost."""
        return None

    def padded_seconds(self, seconds: float) -> float:
        """How much sound the encoder computes for a recording, padding included; it decides what fits a batch."""
        return seconds

    def hear(self, recordings: Sequence[AudioSegment]) -> list[torch.Tensor]:
        """What the LM reads for each recording, (n, d)."""
        raise ModelError(f"{type(self).__name__} reads text only.")


def default_template(writer: Any) -> str | None:
    """The chat template of a tokenizer or processor, where it has one; of several the one called ``default``."""
    found = getattr(writer, "chat_template", None)
    if isinstance(found, Mapping):
        found = found.get("default")
    return str(found) if found else None
