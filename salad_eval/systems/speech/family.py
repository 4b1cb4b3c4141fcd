"""What a class of speech LLMs has to say about itself so that ``CausalSystem`` can ask it.

The system does what is the same for all: it batches, remembers recordings by their sha256, scores and generates. A ``SpeechFamily``
knows the model class and its processor: how a prompt of text and recordings becomes token ids, what the LM reads where a recording
stands, and which part of the model is the LM.

The seam, in the order in which the system uses it:

1. ``load_processor`` and ``load_model`` (class methods) read a checkpoint; ``__init__`` takes both and checks that they
   are a pair.
2. ``audio_rows(recordings)``: the LM's input embeddings for each recording, (n, d), n ≥ 1.
3. ``encode_pairs`` / ``encode_prompt``: token ids of a request, in which the ``audio_token_id`` stands once for each of
   those n rows.
4. ``embed(ids)``: input embeddings (T, d) of those ids; ``prefix`` puts the recordings' rows in their places.
5. ``language_model(has_audio=…)``: the object that ``salad_eval.systems.branching`` runs, on (T, d) prefixes for
   requests with audio and on (T,) token ids for requests without.

The defaults of 2, 3 and 4 fit every model whose own ``forward`` merges recordings into the embeddings at the positions
of one placeholder token, and whose processor takes a string with placeholders. Such a family only names its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from salad_eval.audio.sound import resample
from salad_eval.checkpoints import Part, explained
from salad_eval.errors import AudioError, ModelError
from salad_eval.systems import prompts
from salad_eval.systems.chat import ChatStyle
from salad_eval.systems.family import CausalFamily, default_template
from salad_eval.types import AudioSegment, Request, Segment


class LanguageModel:
    """A decoder and its head as one causal LM, which ``branching`` can run; only the logits that are read are computed.

    ``decoder`` takes input ids or embeddings and returns ``last_hidden_state``; ``head`` maps hidden states (…, d) to
    logits (…, V), whatever scaling or capping the model applies included. ``config`` is the decoder's (it decides the
    kinds of cache layers).
    """

    def __init__(self, decoder: Any, head: Any, config: Any = None) -> None:
        self.decoder, self.head = decoder, head
        self.config = decoder.config if config is None else config

    def get_input_embeddings(self) -> Any:
        return self.decoder.get_input_embeddings()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> Any:
        """Logits (B, kept, V) and the cache; ``logits_to_keep`` is a number of last positions (0: all) or a tensor of
        positions.
        """
        from transformers.modeling_outputs import CausalLMOutputWithPast

        output = self.decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
        )
        hidden = output.last_hidden_state
        keep = logits_to_keep if isinstance(logits_to_keep, torch.Tensor) else slice(-logits_to_keep or None, None)
        return CausalLMOutputWithPast(
            logits=self.head(hidden[:, keep]), past_key_values=getattr(output, "past_key_values", None)
        )

    __call__ = forward


class SpeechFamily(CausalFamily):
    """One class of speech LLMs: its model, its processor, and how the two make a prompt (see the module)."""

    hears = True
    reads_parts: ClassVar[tuple[Part, ...]] = ("weights", "processor")
    model_types: ClassVar[tuple[str, ...]]
    """``config.model_type`` of the checkpoints this family reads."""
    architecture: ClassVar[str]
    """The transformers class that holds them."""
    plain_turns: ClassVar[bool] = False
    """Whether the chat template takes strings, in which the placeholder stands, and not lists of typed parts."""
    audio_markup: ClassVar[str]
    """A recording in a prompt without a chat template: the placeholder token, once, and the markers the model was
    trained with around it."""
    placeholder_is_token: ClassVar[bool] = True
    """Whether the tokenizer reads the placeholder as one token; where not, the text before, between and after recordings is
    tokenised piece by piece."""

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model, processor.tokenizer)
        self.processor = processor

    # --- 1: loading --------------------------------------------------------------------------------------------------

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        """The checkpoint's processor; ``kwargs`` are ``revision`` and ``trust_remote_code``."""
        from transformers import AutoProcessor

        with explained(source, "processor"):
            return AutoProcessor.from_pretrained(source, **kwargs)

    @classmethod
    def load_model(cls, source: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """The model and transformers' account of its weights (``output_loading_info``); ``kwargs`` go to
        ``from_pretrained``.
        """
        import transformers

        with explained(source, "model"):
            model, info = getattr(transformers, cls.architecture).from_pretrained(
                source, output_loading_info=True, **kwargs
            )
        return model, info

    # --- what the model is -------------------------------------------------------------------------------------------

    @property
    def feature_extractor(self) -> Any:
        """What turns samples into the encoder's features."""
        return self.processor.feature_extractor

    @property
    def sampling_rate_hz(self) -> int:
        return int(self.feature_extractor.sampling_rate)

    @property
    def audio_token(self) -> str:
        """The placeholder of a recording, as a string."""
        return str(self.processor.audio_token)

    @property
    def audio_token_id(self) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(self.audio_token))

    def language_model(self, *, has_audio: bool) -> Any:
        return LanguageModel(self.model.get_decoder(), self.model.get_output_embeddings())

    def embedding_consumer(self) -> torch.nn.Module:
        """The module to which the model's own ``forward`` hands the merged embeddings as ``inputs_embeds``."""
        decoder: torch.nn.Module = self.model.get_decoder()
        return decoder

    # --- 2: recordings -----------------------------------------------------------------------------------------------

    def hear(self, recordings: Sequence[AudioSegment]) -> list[torch.Tensor]:
        """``audio_rows`` of the recordings at the model's own rate."""
        rate = self.sampling_rate_hz
        return self.audio_rows([resample(recording.audio, rate).samples for recording in recordings])

    def audio_inputs(self, recordings: Sequence[np.ndarray]) -> Mapping[str, torch.Tensor]:
        """What the model's ``forward`` takes for prompts that hold nothing but one recording each, (n_samples,) float32
        at ``sampling_rate_hz``.
        """
        inputs: Mapping[str, torch.Tensor] = self.processor(
            text=[self.audio_markup] * len(recordings),
            audio=list(recordings),
            sampling_rate=self.sampling_rate_hz,
            return_tensors="pt",
            # Of the texts only: a plain ``padding`` reaches the feature extractor too, which then pads sound to another
            # length than the model was made for.
            text_kwargs={"padding": True},
        )
        return inputs

    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """What the LM reads for each recording, (n, d): taken from the model's own ``forward``, right before the LM."""
        device = self.model.get_input_embeddings().weight.device
        dtype = self.model.get_input_embeddings().weight.dtype
        inputs = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            for name, value in self.audio_inputs(recordings).items()
            if isinstance(value, torch.Tensor)
        }
        places = inputs["input_ids"] == self.audio_token_id
        if "attention_mask" in inputs:  # the placeholder may be the padding token, too
            places &= inputs["attention_mask"].bool()
        embedded = merged_embeddings(self.model, self.embedding_consumer(), inputs)
        if embedded.shape[:2] != places.shape:
            raise ModelError(
                f"{type(self.model).__name__} merged {tuple(places.shape)} token ids into embeddings of shape "
                f"{tuple(embedded.shape)}; expected one embedding a token."
            )
        self._check_heard(embedded, places.to(embedded.device))
        return [row[place] for row, place in zip(embedded, places.to(embedded.device), strict=True)]

    def _check_heard(self, embedded: torch.Tensor, places: torch.Tensor) -> None:
        """A processor or a model that drops a recording without a word leaves the placeholder's own embedding behind."""
        table = self.model.get_input_embeddings()
        with torch.no_grad():
            own = table(torch.tensor([self.audio_token_id], device=table.weight.device))
        if bool((embedded[places] == own.to(embedded.device, embedded.dtype)).all(-1).any()):
            raise ModelError(
                f"{type(self.model).__name__} left the placeholder {self.audio_token!r} as it was: the recording did not "
                f"reach the LM."
            )

    def audio_text(self, n_rows: int) -> str:
        """What the processor writes in the place of one placeholder whose recording has ``n_rows`` rows."""
        return self.audio_token * n_rows

    # --- 3: prompts --------------------------------------------------------------------------------------------------

    @property
    def template(self) -> str | None:
        """Some checkpoints keep the chat template with the tokenizer only."""
        return default_template(self.processor) or default_template(self.tokenizer)

    def chat_writer(self) -> Callable[..., Any]:
        writer = self.processor if default_template(self.processor) else self.tokenizer
        applied: Callable[..., Any] = writer.apply_chat_template
        return applied

    def content(self, segments: tuple[Segment, ...]) -> Any:
        """A turn's texts and recordings as typed parts, or as a string in which each recording is its markup (``plain_turns``)."""
        pieces = prompts.split_at_audio(segments)
        if self.plain_turns:
            return self._marked(pieces)
        return [{"type": "text", "text": piece} if isinstance(piece, str) else {"type": "audio"} for piece in pieces]

    def render(self, request: Request, chat: ChatStyle | None) -> str:
        """The prompt as a string with one placeholder a recording."""
        if chat is None and request.has_audio:
            return self._marked(prompts.split_at_audio(request.prompt))
        return super().render(request, chat)

    def _marked(self, pieces: Sequence[str | AudioSegment]) -> str:
        return "".join(piece if isinstance(piece, str) else self.audio_markup for piece in pieces)

    def expanded(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> str:
        """The prompt as one string in which each recording's placeholder stands as often as it has rows."""
        recordings = recordings_of(request)
        first, *others = self._around_recordings(request, len(recordings), chat)
        return first + "".join(
            self.audio_text(n_rows[recording.sha256]) + text for recording, text in zip(recordings, others, strict=True)
        )

    def _around_recordings(self, request: Request, n_recordings: int, chat: ChatStyle | None) -> list[str]:
        """The texts before, between and after a prompt's recordings."""
        text = self.render(request, chat)
        if not n_recordings:
            return [text]
        parts = text.split(self.audio_token)
        if len(parts) != n_recordings + 1:
            raise ModelError(
                f"item {request.item_id!r}: its prompt holds {n_recordings} recordings and {len(parts) - 1} "
                f"placeholders {self.audio_token!r}. A text must not hold the placeholder, and a chat template must "
                f"keep every recording."
            )
        return parts

    def encode_pairs(
        self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None
    ) -> tuple[prompts.EncodedPair, ...]:
        """Token ids of the prompt and of each continuation; ``n_rows`` counts the rows of each recording by sha256.

        The conventions are those of text (see ``prompts``): whitespace at the end of the prompt moves to the
        continuation.
        """
        if self.placeholder_is_token or not request.has_audio:
            return super().encode_pairs(request, n_rows, chat)
        head, tail = self._piecewise(request, n_rows, chat)
        pairs = []
        for option in self.options(request, chat):
            if tail.strip():
                end = prompts.encode_pair(self.tokenizer, tail, option, add_special_tokens=False)
                pairs.append(prompts.EncodedPair((*head, *end.context), end.continuation))
            else:  # nothing after the last recording: what whitespace there is belongs to the continuation
                pairs.append(prompts.EncodedPair(head, prompts.encode_continuation(self.tokenizer, tail + option)))
        return tuple(pairs)

    def encode_prompt(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> tuple[int, ...]:
        if self.placeholder_is_token or not request.has_audio:
            return super().encode_prompt(request, n_rows, chat)
        head, tail = self._piecewise(request, n_rows, chat)
        return (*head, *prompts.encode(self.tokenizer, tail, add_special_tokens=False))

    def _piecewise(
        self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None
    ) -> tuple[tuple[int, ...], str]:
        """Ids up to the end of the last recording, with ``audio_token_id`` once a row, and the text after it.

        The special tokens that begin a sequence stand at the very start, before a recording too.
        """
        recordings = recordings_of(request)
        first, *others = self._around_recordings(request, len(recordings), chat)
        ids = prompts.encode(self.tokenizer, first)
        for recording, before in zip(recordings, ("", *others[:-1]), strict=True):
            ids += prompts.encode(self.tokenizer, before, add_special_tokens=False) if before else []
            ids += [self.audio_token_id] * n_rows[recording.sha256]
        return tuple(ids), others[-1]

    # --- 4: embeddings -----------------------------------------------------------------------------------------------

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings (T, d) of token ids (T,); the rows at placeholders are replaced afterwards."""
        table = self.language_model(has_audio=True).get_input_embeddings()
        device = next(iter(table.parameters())).device
        rows: torch.Tensor = table(ids.to(device).masked_fill((ids == self.audio_token_id).to(device), 0))
        return rows

    def prefix(self, request: Request, ids: tuple[int, ...], heard: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the LM reads: token ids (T,) of a text; for a prompt with audio, input embeddings (T, d) with what was heard in
        its places.
        """
        if not request.has_audio:
            return super().prefix(request, ids, heard)
        tokens = torch.tensor(ids, dtype=torch.long)
        rows = torch.cat([heard[recording.sha256] for recording in recordings_of(request)])
        places = tokens == self.audio_token_id
        if int(places.sum()) != len(rows):
            raise ModelError(
                f"item {request.item_id!r}: its recordings fill {len(rows)} positions, and its prompt holds "
                f"{int(places.sum())} placeholders {self.audio_token!r}. A text must not hold the placeholder."
            )
        with torch.no_grad():
            prefix = self.embed(tokens)
            prefix[places.to(prefix.device)] = rows.to(prefix.device, prefix.dtype)
        return prefix


# --- tools for families ----------------------------------------------------------------------------------------------


def recordings_of(request: Request) -> list[AudioSegment]:
    """The recordings of a prompt in order."""
    return [segment for segment in request.prompt if isinstance(segment, AudioSegment)]


class _Merged(BaseException):
    """Carries embeddings out of a forward pass that need not go on. Not an ``Exception``, so that nobody handles it."""

    def __init__(self, embeddings: torch.Tensor) -> None:
        self.embeddings = embeddings


def merged_embeddings(model: Any, consumer: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The embeddings (B, T, d) that ``model(**inputs)`` hands to ``consumer``, which is not run.

    What the LM reads is thus what the model class itself makes of a recording, whatever its encoder, projector and
    merging are called in this version of transformers.
    """

    def leave(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embeddings = kwargs.get("inputs_embeds")
        if embeddings is None:
            raise ModelError(f"{type(model).__name__} hands its LM no embeddings; the family names the wrong module.")
        raise _Merged(embeddings)

    hook = consumer.register_forward_pre_hook(leave, with_kwargs=True)
    try:
        with torch.no_grad():
            model(**inputs, use_cache=False)
    except _Merged as merged:
        return merged.embeddings
    except (ValueError, RuntimeError, IndexError) as cause:
        raise AudioError(f"{type(model).__name__} cannot hear a recording: {cause}") from cause
    finally:
        hook.remove()
    raise ModelError(f"{type(model).__name__} never ran its LM; the family names the wrong module.")
