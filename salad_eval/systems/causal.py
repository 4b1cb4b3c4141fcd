"""Causal LMs as systems: what is the same for text LLMs and speech LLMs of every class.

A request becomes a prefix (token ids, or input embeddings where something is heard) and continuations of it, as the model's family
makes them; ``branching`` runs what prefixes share once, and the options of a question from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from salad_eval.batches import halving, in_batches
from salad_eval.checkpoints import Quantization, Weights, default_batch_tokens, library_versions, model_identity
from salad_eval.errors import AudioError, ModelError, RoomError, UserInputError
from salad_eval.formats.peft import sources
from salad_eval.systems import prompts
from salad_eval.systems.chat import ChatStyle
from salad_eval.types import AudioSegment, Request, Tokens

if TYPE_CHECKING:
    import torch

    from salad_eval.systems.family import CausalFamily

T = TypeVar("T")


class CausalSystem:
    """``System`` and ``Distributional`` for a causal LM of any family.

    A request without audio is answered by the LM alone, from its text. In one with audio each recording must reach the LM: a
    recording that gives it no position, one too long for the encoder and a prompt too long for the LM are errors, and so is any
    recording for a family that does not hear.

    Args:
        llm: the model, as its family.
        name, made_of: the fingerprint's beginning: the plug-in's name, then what its maker knows of the checkpoint.
        batch_tokens: rows × new positions of a forward pass of the LM, which bounds memory; by default what suits the device.
        batch_seconds: sound in one pass of the encoder, padding included.
        max_length: limits the context below what the LM can hold. Text contexts lose tokens on the left; a prompt with audio
            that does not fit is a ``RoomError``, since audio cannot be cut.
        cache_mb: memory for what the LM reads of recordings heard before, so that asking twice encodes once.
        chat: how prompts are put into the chat template; ``None``: as they are.

    What memory does not hold is computed in smaller batches. Batches, threads and the device change no more than the rounding of a
    number, and are not in the fingerprint.
    """

    def __init__(
        self,
        llm: CausalFamily,
        name: str,
        made_of: Sequence[str] = (),
        *,
        batch_tokens: int | None = None,
        batch_seconds: float = 120.0,
        max_length: int | None = None,
        cache_mb: int = 256,
        chat: ChatStyle | None = None,
    ) -> None:
        if (batch_tokens is not None and batch_tokens < 1) or batch_seconds <= 0 or cache_mb < 0:
            raise UserInputError(
                f"batch_tokens is {batch_tokens}, batch_seconds is {batch_seconds}, cache_mb is {cache_mb}; expected "
                f"positive numbers."
            )
        self.llm, self.chat = llm, chat
        self.tokenizer = llm.tokenizer
        self.batch_tokens = batch_tokens or default_batch_tokens(llm.model)
        self.batch_seconds = batch_seconds
        self._lms: dict[bool, Any] = {}
        own_length = prompts.max_length(self._language_model(has_audio=llm.hears).config, self.tokenizer)
        self.max_length = own_length if max_length is None else min(own_length, max_length)
        self._ends = llm.ends
        self._heard: dict[str, torch.Tensor] = {}
        self._cache_left = cache_mb << 20
        self._n_read = self._n_written = 0
        self._fingerprint = f"{name}({','.join([*made_of, *self._settings()])})"

    def _settings(self) -> Iterator[str]:
        yield f"max_length={self.max_length}"
        if self.chat is not None:
            yield f"chat_template={_digest(self.llm.template, self.chat)}"
        yield f"tokenizer={prompts.tokenizer_identity(self.tokenizer)}"
        yield f"ends={'+'.join(map(str, sorted(self._ends)))}"
        yield library_versions(*self.llm.libraries)

    @property
    def model(self) -> Any:
        return self.llm.model

    @property
    def max_audio_seconds(self) -> float | None:
        """Longest recording it hears whole; a longer one is an error. ``None``: what fits the LM."""
        return self.llm.max_audio_seconds

    def fingerprint(self) -> str:
        return self._fingerprint

    def tokens(self) -> Tokens:
        """Positions of prompts, each counted once for all the options after it, and of options; and tokens generated."""
        return Tokens(self._n_read, self._n_written)

    def tokenizer_fingerprint(self) -> str:
        return self._reads

    @cached_property
    def _reads(self) -> str:
        return prompts.tokenizer_fingerprint(self.tokenizer)  # of the whole vocabulary, and asked for with every chunk

    # --- answers -----------------------------------------------------------------------------------------------------

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation of each request."""
        from salad_eval.systems.branching import continuation_logprobs

        return [tuple(map(sum, options)) for options in self._scored(requests, continuation_logprobs)]

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """Next-token log-probabilities behind each continuation, (n_tokens, vocabulary); see ``Distributional``."""
        from salad_eval.systems.branching import continuation_distributions

        return self._scored(requests, continuation_distributions)

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Greedy continuation of each prompt, cut before the first stop string.

        Of the checkpoint's generation settings only the tokens that end a text are used: no sampling, no penalties.
        """
        from salad_eval.systems.branching import greedy

        room = self.max_length - max_new_tokens
        if room < 1:
            raise UserInputError(
                f"max_new_tokens is {max_new_tokens}, but the model holds {self.max_length} positions, prompt included."
            )
        stops = prompts.stop_rule(self.tokenizer, stop)

        def answered(lm: Any, prefixes: Sequence[torch.Tensor], budget: int) -> list[list[int]]:
            return greedy(
                lm, prefixes, max_new_tokens=max_new_tokens, eos_ids=self._ends, stop=stops, max_batch_tokens=budget
            )

        def texts(lm: Any, asked: Sequence[Request]) -> list[str]:
            prefixes = self._prompts(asked, room)
            outputs = self._within_memory(prefixes, lambda budget: answered(lm, prefixes, budget))
            self._n_read += sum(map(len, prefixes))
            self._n_written += sum(map(len, outputs))
            return [prompts.cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), stop) for ids in outputs]

        return self._by_lm(requests, texts)

    def _scored(self, requests: Sequence[Request], score: Callable[..., Any]) -> list[list[Any]]:
        """What ``score`` (of ``branching``) finds for each continuation of each request."""

        def options(lm: Any, asked: Sequence[Request]) -> list[list[Any]]:
            prefixes, continuations, places = self._encoded(asked)
            found = self._within_memory(
                prefixes, lambda budget: score(lm, prefixes, continuations, max_batch_tokens=budget)
            )
            self._n_read += sum(map(len, prefixes)) + sum(len(one) for row in continuations for one in row)
            return [[found[row][column] for row, column in cells] for cells in places]

        return self._by_lm(requests, options)

    def _by_lm(self, requests: Sequence[Request], answer: Callable[[Any, Sequence[Request]], list[T]]) -> list[T]:
        """Each request's answer by the LM that it is for: a model may read text with other weights than speech."""
        found: dict[int, T] = {}
        for has_audio in (False, True):
            places = [place for place, request in enumerate(requests) if request.has_audio == has_audio]
            if places:
                lm = self._language_model(has_audio=has_audio)
                found.update(zip(places, answer(lm, [requests[place] for place in places]), strict=True))
        return [found[place] for place in range(len(requests))]

    def _language_model(self, *, has_audio: bool) -> Any:
        """The same object at each call: what was seen of a model (``trees``) is kept with it."""
        if has_audio not in self._lms:
            self._lms[has_audio] = self.llm.language_model(has_audio=has_audio)
        return self._lms[has_audio]

    def _within_memory(self, prefixes: Sequence[torch.Tensor], run: Callable[[int], T]) -> T:
        """What ``run`` gives with a budget of positions; a smaller one from now on where memory does not hold it."""
        found, self.batch_tokens = halving(run, self.batch_tokens, least=max(map(len, prefixes), default=1))
        return found

    # --- prompts -----------------------------------------------------------------------------------------------------

    def _encoded(
        self, requests: Sequence[Request]
    ) -> tuple[list[torch.Tensor], list[list[tuple[int, ...]]], list[list[tuple[int, int]]]]:
        """Prefixes, their continuations, and for each request where its continuations went (row, column).

        Continuations share a row where they share a context, which they all do unless a long one pushes some of a text
        context out.
        """
        heard = self._hear(requests)
        n_rows = {key: len(rows) for key, rows in heard.items()}
        prefixes: list[torch.Tensor] = []
        continuations: list[list[tuple[int, ...]]] = []
        places: list[list[tuple[int, int]]] = []
        for request in requests:
            rows: dict[tuple[int, ...], int] = {}
            cells: list[tuple[int, int]] = []
            for pair in self.llm.encode_pairs(request, n_rows, self.chat):
                fitted = self._fitted(request, pair)
                row = rows.setdefault(fitted.context, len(prefixes))
                if row == len(prefixes):
                    prefixes.append(self.llm.prefix(request, fitted.context, heard))
                    continuations.append([])
                cells.append((row, len(continuations[row])))
                continuations[row].append(fitted.continuation)
            places.append(cells)
        return prefixes, continuations, places

    def _fitted(self, request: Request, pair: prompts.EncodedPair) -> prompts.EncodedPair:
        if request.has_audio:
            _check_room(request, len(pair.context), self.max_length + 1 - len(pair.continuation))
            return pair
        return pair.truncated(self.max_length)

    def _prompts(self, requests: Sequence[Request], room: int) -> list[torch.Tensor]:
        """Prefixes to generate from."""
        heard = self._hear(requests)
        n_rows = {key: len(rows) for key, rows in heard.items()}
        prefixes = []
        for request in requests:
            ids = self.llm.encode_prompt(request, n_rows, self.chat)
            if request.has_audio:
                _check_room(request, len(ids), room)
            else:
                ids = ids[-room:]
            prefixes.append(self.llm.prefix(request, ids, heard))
        return prefixes

    # --- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """What the LM reads for every recording in the requests, by sha256; each is encoded once."""
        wanted: dict[str, AudioSegment] = {}
        items: dict[str, str] = {}
        for request in requests:
            for segment in request.prompt:
                if isinstance(segment, AudioSegment):
                    self._check_recording(request, segment)
                    wanted.setdefault(segment.sha256, segment)
                    items.setdefault(segment.sha256, request.item_id)
        found = {key: self._heard[key] for key in wanted if key in self._heard}
        new = [segment for key, segment in wanted.items() if key not in found]
        for segment, rows in zip(new, self._encode(new), strict=True):
            if not len(rows):
                raise AudioError(
                    f"item {items[segment.sha256]!r}: its recording of {segment.audio.seconds:.2f} s gave the LM no position; "
                    f"nothing was heard."
                )
            found[segment.sha256] = rows
            self._keep(segment.sha256, rows)
        return found

    def _keep(self, sha256: str, rows: torch.Tensor) -> None:
        """For the next time, if there is room. What came first stays: the next step asks in the same order, so of the newest alone it
        would find none."""
        size = rows.numel() * rows.element_size()
        if size <= self._cache_left:
            self._heard[sha256] = rows
            self._cache_left -= size

    def _encode(self, recordings: Sequence[AudioSegment]) -> list[torch.Tensor]:
        seconds = [self.llm.padded_seconds(recording.audio.seconds) for recording in recordings]

        def heard(batch: list[int]) -> list[torch.Tensor]:
            return self.llm.hear([recordings[place] for place in batch])

        rows, self.batch_seconds = in_batches(seconds, self.batch_seconds, heard)
        return rows

    def _check_recording(self, request: Request, recording: AudioSegment) -> None:
        audio, limit = recording.audio, self.llm.max_audio_seconds
        if not self.llm.hears:
            raise ModelError(
                f"item {request.item_id!r}: the prompt holds audio, and {type(self).__name__} reads text only. Use a "
                f"speech system, or a cascade, for this column."
            )
        if not len(audio.samples):
            raise AudioError(f"item {request.item_id!r}: its audio is empty; render it again or reject it.")
        if limit is not None and audio.seconds > limit:
            raise AudioError(
                f"item {request.item_id!r}: its recording takes {audio.seconds:.1f} s, and {type(self.llm.model).__name__} "
                f"hears {limit:g} s at most; the rest would be lost. Leave the item out or speak less of it."
            )


# --- parts -----------------------------------------------------------------------------------------------------------


def chat_style(
    pretrained: str,
    llm: CausalFamily,
    chat_template: bool | Literal["auto"],
    system_prompt: str | None,
    fewshot_as_multiturn: bool,
) -> ChatStyle | None:
    """How a system's options say that prompts are put into a chat template; ``None``: not at all.

    Raises ``ModelError`` where a template is asked for and there is none, ``UserInputError`` for what only a template could use.
    """
    if chat_template not in (True, False, "auto"):
        raise UserInputError(f"chat_template is {chat_template!r}; expected true, false or auto.")
    if chat_template is True and llm.template is None:
        raise ModelError(f"chat_template was asked for, but the checkpoint {pretrained} has none.")
    if chat_template is False or llm.template is None:
        if system_prompt is not None:
            raise UserInputError("system_prompt is set, but there is no chat template to put it in (chat_template).")
        return None
    return ChatStyle(system_prompt, fewshot_as_multiturn)


def made_of(
    llm: CausalFamily,
    pretrained: str,
    *,
    weights: Weights = "safetensors",
    peft: str | None = None,
    quantization: Quantization | None = None,
) -> list[str]:
    """What a fingerprint says of a checkpoint and of how it was loaded."""
    parts = {*llm.reads_parts, *(() if hasattr(llm.tokenizer, "backend_tokenizer") else ("tokenizer",))}
    found = [type(llm).__name__] if llm.hears else []
    found.append(model_identity(pretrained, llm.model, parts=parts, weights=weights, peft=peft))
    found += [f"parts={own}"] if (own := llm.parts_fingerprint()) else []
    found.append(f"dtype={'+'.join(sorted({str(p.dtype).removeprefix('torch.') for p in llm.model.parameters()}))}")
    if quantization is not None:
        found.append(f"quantization={quantization},{library_versions('bitsandbytes')}")
    return [*found, *([library_versions("peft")] if sources(pretrained, peft).adapter is not None else [])]


def _check_room(request: Request, length: int, room: int) -> None:
    if length > room:
        raise RoomError(
            f"item {request.item_id!r}: its prompt takes {length} positions, the model has room for {room}. Audio "
            f"cannot be cut as text is; leave the item out or use a model with a longer context."
        )


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]
