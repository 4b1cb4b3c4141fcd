"""Any speech LLM of transformers that a ``SpeechFamily`` knows, as a system: it reads text, and hears speech."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from salad_eval.audio.sound import resample
from salad_eval.checkpoints import Quantization, Weights, default_batch_tokens, model_identity
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.systems import prompts
from salad_eval.types import Audio, AudioSegment, Request

if TYPE_CHECKING:
    import torch

    from salad_eval.systems.speech.family import ChatStyle, SpeechFamily

    _Encoded = tuple[list[torch.Tensor], list[list[tuple[int, ...]]], list[list[tuple[int, int]]]]


class SpeechLLMSystem:
    """``System`` and ``Distributional`` for a native speech LLM; its family is found from the checkpoint.

    A request without audio is answered by the model's LM alone, exactly as ``hf-text`` would with the same weights. In
    one with audio each recording must reach the LM: a recording that gives it no position, a placeholder in the text,
    a recording too long for the encoder and a prompt too long for the LM are errors.

    A plug-in for another model class subclasses this and names its ``family`` (see ADAPTER.md).

    Args:
        pretrained: a folder or a hub id; the other loading options are those of ``hf-text``.
        batch_tokens: rows × new positions of a forward pass of the LM, which bounds memory.
        batch_seconds: sound in one pass of the encoder, padding included.
        chat_template: wrap each prompt as one user turn of the checkpoint's chat template; ``"auto"``: where it has one.
        system_prompt: what the system turn says (with a chat template only); without it, what the template itself
            writes.
        max_length: limits the context below what the LM can hold. Text contexts lose tokens on the left; a prompt with
            audio that does not fit is an error, since audio cannot be cut.
        cache_mb: memory for what the LM reads of recordings heard before, so that asking twice encodes once.
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
    ) -> None:
        from salad_eval.systems.speech.loading import load_speech_llm

        if (batch_tokens is not None and batch_tokens < 1) or batch_seconds <= 0 or cache_mb < 0:
            raise UserInputError(
                f"batch_tokens is {batch_tokens}, batch_seconds is {batch_seconds}, cache_mb is {cache_mb}; expected "
                f"positive numbers."
            )
        options = {"attn_implementation": attn_implementation, "device_map": device_map}
        self.speech = load_speech_llm(
            pretrained,
            self.family,
            dtype=dtype,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            weights=weights,
            quantization=quantization,
            peft=peft,
            **{key: value for key, value in options.items() if value is not None},
        )
        self.chat = _chat_style(pretrained, self.speech, chat_template, system_prompt)
        self.batch_tokens = batch_tokens or default_batch_tokens(self.speech.model)
        self.batch_seconds = batch_seconds
        own_length = prompts.max_length(self.speech.language_model(has_audio=True).config, self.speech.tokenizer)
        self.max_length = own_length if max_length is None else min(own_length, max_length)
        self._heard: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._cache_bytes = cache_mb << 20
        settings = [f"dtype={dtype}", f"max_length={self.max_length}"]
        settings += [f"quantization={quantization}"] if quantization else []
        settings += [f"chat_template={_digest(_template(self.speech), system_prompt)}"] if self.chat else []
        settings += [f"features={_digest(_json(self.speech.feature_extractor))}"]
        settings += [f"tokenizer={self.tokenizer_fingerprint()}"]
        parts = self.speech.parts_fingerprint()
        settings += [f"parts={parts}"] if parts else []
        self._fingerprint = (
            f"hf-speech({type(self.speech).__name__},{model_identity(pretrained, self.speech.model, weights=weights, peft=peft)},"
            f"{','.join(settings)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def tokenizer_fingerprint(self) -> str:
        return prompts.tokenizer_fingerprint(self.speech.tokenizer)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation of each request."""
        from salad_eval.systems.branching import continuation_logprobs

        results: dict[int, tuple[float, ...]] = {}
        for lm, indices in self._by_lm(requests):
            prefixes, continuations, places = self._encoded([requests[i] for i in indices])
            scored = continuation_logprobs(lm, prefixes, continuations, max_batch_tokens=self.batch_tokens)
            for index, cells in zip(indices, places, strict=True):
                results[index] = tuple(sum(scored[row][column]) for row, column in cells)
        return [results[index] for index in range(len(requests))]

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """Next-token log-probabilities behind each continuation, (n_tokens, vocabulary); see ``Distributional``."""
        from salad_eval.systems.branching import continuation_distributions

        results: dict[int, list[np.ndarray]] = {}
        for lm, indices in self._by_lm(requests):
            prefixes, continuations, places = self._encoded([requests[i] for i in indices])
            rows = continuation_distributions(lm, prefixes, continuations, max_batch_tokens=self.batch_tokens)
            for index, cells in zip(indices, places, strict=True):
                results[index] = [rows[row][column] for row, column in cells]
        return [results[index] for index in range(len(requests))]

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
        tokenizer = self.speech.tokenizer
        results: dict[int, str] = {}
        for lm, indices in self._by_lm(requests):
            outputs = greedy(
                lm,
                self._prompts([requests[i] for i in indices], room),
                max_new_tokens=max_new_tokens,
                eos_ids=prompts.end_ids(self.speech.model, tokenizer),
                stop=prompts.stop_rule(tokenizer, stop),
                max_batch_tokens=self.batch_tokens,
            )
            for index, ids in zip(indices, outputs, strict=True):
                results[index] = prompts.cut_at_stop(tokenizer.decode(ids, skip_special_tokens=True), stop)
        return [results[index] for index in range(len(requests))]

    def _by_lm(self, requests: Sequence[Request]) -> Iterator[tuple[Any, list[int]]]:
        """Which LM answers which requests: a model may read text with other weights than speech."""
        for has_audio in (False, True):
            indices = [index for index, request in enumerate(requests) if request.has_audio == has_audio]
            if indices:
                yield self.speech.language_model(has_audio=has_audio), indices

    # --- prompts -----------------------------------------------------------------------------------------------------

    def _encoded(self, requests: Sequence[Request]) -> _Encoded:
        """Prompts, their continuations, and for each request where its continuations went (row, column).

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
            for pair in self.speech.encode_pairs(request, n_rows, self.chat):
                fitted = self._fitted(request, pair)
                row = rows.setdefault(fitted.context, len(prefixes))
                if row == len(prefixes):
                    prefixes.append(self._prefix(request, fitted.context, heard))
                    continuations.append([])
                cells.append((row, len(continuations[row])))
                continuations[row].append(fitted.continuation)
            places.append(cells)
        return prefixes, continuations, places

    def _fitted(self, request: Request, pair: prompts.EncodedPair) -> prompts.EncodedPair:
        if request.has_audio:
            self._check_room(request, len(pair.context), self.max_length + 1 - len(pair.continuation))
            return pair
        return pair.truncated(self.max_length)

    def _prompts(self, requests: Sequence[Request], room: int) -> list[torch.Tensor]:
        """Prompts to generate from."""
        heard = self._hear(requests)
        n_rows = {key: len(rows) for key, rows in heard.items()}
        prefixes = []
        for request in requests:
            ids = self.speech.encode_prompt(request, n_rows, self.chat)
            if request.has_audio:
                self._check_room(request, len(ids), room)
            else:
                ids = ids[-room:]
            prefixes.append(self._prefix(request, ids, heard))
        return prefixes

    def _check_room(self, request: Request, length: int, room: int) -> None:
        if length > room:
            raise ModelError(
                f"item {request.item_id!r}: its prompt takes {length} positions, the model has room for {room}. Audio "
                f"cannot be cut as text is; leave the item out or use a model with a longer context."
            )

    def _prefix(self, request: Request, ids: tuple[int, ...], heard: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Token ids (T,) of a text; for a prompt with audio, input embeddings (T, d) with what was heard in its places."""
        import torch

        tokens = torch.tensor(ids, dtype=torch.long)
        if not request.has_audio:
            return tokens
        rows = torch.cat([heard[s.sha256] for s in request.prompt if isinstance(s, AudioSegment)])
        places = tokens == self.speech.audio_token_id
        if int(places.sum()) != len(rows):
            raise ModelError(
                f"item {request.item_id!r}: its recordings fill {len(rows)} positions, and its prompt holds "
                f"{int(places.sum())} placeholders {self.speech.audio_token!r}. A text must not hold the placeholder."
            )
        with torch.no_grad():
            prefix = self.speech.embed(tokens)
            prefix[places.to(prefix.device)] = rows.to(prefix.device, prefix.dtype)
        return prefix

    # --- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """What the LM reads for every recording in the requests, by sha256; each is encoded once."""
        wanted: dict[str, Audio] = {}
        items: dict[str, str] = {}
        for request in requests:
            for segment in request.prompt:
                if isinstance(segment, AudioSegment):
                    self._check_recording(request, segment.audio)
                    wanted.setdefault(segment.sha256, segment.audio)
                    items.setdefault(segment.sha256, request.item_id)
        found = {key: self._heard[key] for key in wanted if key in self._heard}
        new = {key: audio for key, audio in wanted.items() if key not in found}
        lengths = {key: self.speech.padded_seconds(audio.seconds) for key, audio in new.items()}
        for keys in _batches(lengths, self.batch_seconds):
            rate = self.speech.sampling_rate_hz
            rows = self.speech.audio_rows([resample(new[key], rate).samples for key in keys])
            for key, embedded in zip(keys, rows, strict=True):
                if not len(embedded):
                    raise AudioError(
                        f"item {items[key]!r}: its recording of {new[key].seconds:.2f} s gave the LM no position; nothing "
                        f"was heard."
                    )
                found[key] = self._heard[key] = embedded
        self._forget()
        return found

    def _check_recording(self, request: Request, audio: Audio) -> None:
        if not len(audio.samples):
            raise AudioError(f"item {request.item_id!r}: its audio is empty; render it again or reject it.")
        limit = self.speech.max_audio_seconds
        if limit is not None and audio.seconds > limit:
            raise AudioError(
                f"item {request.item_id!r}: its recording takes {audio.seconds:.1f} s, and {type(self.speech.model).__name__} "
                f"hears {limit:g} s at most; the rest would be lost. Leave the item out or speak less of it."
            )

    def _forget(self) -> None:
        """Keep what fits, newest first."""
        size = sum(rows.numel() * rows.element_size() for rows in self._heard.values())
        while self._heard and size > self._cache_bytes:
            _, oldest = self._heard.popitem(last=False)
            size -= oldest.numel() * oldest.element_size()


# --- parts -----------------------------------------------------------------------------------------------------------


def _chat_style(
    pretrained: str, family: SpeechFamily, chat_template: bool | Literal["auto"], system_prompt: str | None
) -> ChatStyle | None:
    from salad_eval.systems.speech.family import ChatStyle

    if chat_template not in (True, False, "auto"):
        raise UserInputError(f"chat_template is {chat_template!r}; expected true, false or auto.")
    if chat_template is True and not family.has_chat_template:
        raise ModelError(f"chat_template was asked for, but the processor of {pretrained} has none.")
    if chat_template is False or not family.has_chat_template:
        if system_prompt is not None:
            raise UserInputError("system_prompt is set, but there is no chat template to put it in (chat_template).")
        return None
    return ChatStyle(system_prompt)


def _batches(seconds: Mapping[str, float], budget: float) -> list[list[str]]:
    """Keys in batches of like length; count × longest stays within the budget (one recording always goes)."""
    batches: list[list[str]] = []
    for key in sorted(seconds, key=lambda key: -seconds[key]):
        if batches and (len(batches[-1]) + 1) * seconds[batches[-1][0]] <= budget:
            batches[-1].append(key)
        else:
            batches.append([key])
    return batches


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]


def _template(family: SpeechFamily) -> str:
    return str(getattr(family.processor, "chat_template", None) or getattr(family.tokenizer, "chat_template", None))


def _json(extractor: Any) -> str:
    return json.dumps(extractor.to_dict(), sort_keys=True, default=str)
